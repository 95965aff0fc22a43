"""Curricula: streams grow harder as a training goes on, the same each time, and a schedule with a fault is refused."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.curriculum import Curriculum, Stage
from envs.errors import ConfigError
from envs.foley import Foley
from envs.noise import SNR_DB
from envs.proactive import ProactiveScenarios
from envs.scenario import Scenario

BASE = ProactiveScenarios(Foley(), chunks=(30, 40))
STAGES = (
    Stage(0.3, snr_db=(25, 30), distractors=0.1, background=(0, 0), chunks=(20, 24), answer_window_s=3.0),
    Stage(0.6, snr_db=(15, 20), distractors=0.4, background=(1, 2)),
    Stage(1.0, snr_db=(-5, 0), distractors=0.9, background=(3, 4), answer_window_s=1.0),
)
CURRICULUM = Curriculum(BASE, STAGES)
SEEDS = range(12)


def played(progress: float) -> list[Scenario]:
    return [CURRICULUM.at(progress)(seed) for seed in SEEDS]


def windows(scenarios: list[Scenario]) -> set[float]:
    """Return the seconds from the end of each sound that deserves a reply to its deadline."""
    ends = [{e.onset_s: e.end_s for e in s.events if e.role == "foreground"} for s in scenarios]
    return {
        round(cue.deadline_s - end[cue.onset_s], 3) for s, end in zip(scenarios, ends, strict=True) for cue in s.cues
    }


def ignored(scenarios: list[Scenario]) -> float:
    foreground = [event for s in scenarios for event in s.events if event.role == "foreground"]
    return float(np.mean([event.decision == "IGNORE" for event in foreground]))


def quietest(scenarios: list[Scenario]) -> float:
    """Return how loud streams are where they are most quiet, beside where they are loud: it is the noise."""
    levels = [np.square(s.audio.reshape(-1, 1600)).mean(axis=1) for s in scenarios]
    return float(np.mean([np.percentile(level, 5) / np.percentile(level, 95) for level in levels]))


def background(scenarios: list[Scenario]) -> list[int]:
    return [sum(event.role == "background" for event in s.events) for s in scenarios]


def test_streams_grow_harder() -> None:
    stages = [played(progress) for progress in (0.0, 0.3, 1.0)]
    assert [windows(scenarios) for scenarios in stages] == [{3.0}, {2.0}, {1.0}]
    shares = [ignored(scenarios) for scenarios in stages]
    assert shares[0] + 0.1 < shares[1] < shares[2] - 0.1
    noise = [quietest(scenarios) for scenarios in stages]
    assert 3 * noise[0] < noise[1] < noise[2] / 3
    assert [set(background(scenarios)) for scenarios in stages] == [{0}, {1, 2}, {3, 4}]
    assert all(20 <= s.num_chunks <= 24 for s in stages[0])
    assert all(30 <= s.num_chunks <= 40 for s in stages[1] + stages[2])


@given(st.floats(0, 1), st.floats(0, 1))
def test_it_never_becomes_easier(one: float, other: float) -> None:
    early, late = (CURRICULUM.at(progress) for progress in sorted((one, other)))
    assert sum(early.snr_db) >= sum(late.snr_db)
    assert early.respond_share >= late.respond_share
    assert sum(early.background) <= sum(late.background)
    assert (early.answer_window_s or 2.0) >= (late.answer_window_s or 2.0)


@settings(max_examples=5, deadline=None)
@given(st.floats(0, 1), st.integers(0, 2**31))
def test_progress_and_seed_decide_every_byte(progress: float, seed: int) -> None:
    """In a worker process, too."""
    twins = [
        scenarios(seed) for scenarios in (CURRICULUM.at(progress), pickle.loads(pickle.dumps(CURRICULUM.at(progress))))
    ]
    assert twins[0].audio.tobytes() == twins[1].audio.tobytes()
    assert (twins[0].events, twins[0].cues) == (twins[1].events, twins[1].cues)


def test_a_stage_ends_where_it_says() -> None:
    assert CURRICULUM.at(np.nextafter(0.3, 0)) == CURRICULUM.at(0) != CURRICULUM.at(0.3) == CURRICULUM.at(0.59)
    assert CURRICULUM.at(0.6) == CURRICULUM.at(1)


def test_what_is_left_out_is_as_without_a_curriculum() -> None:
    assert Curriculum(BASE).at(0.5) == Curriculum(BASE, [Stage(1.0)]).at(0.5) == BASE
    assert CURRICULUM.at(0.3).chunks == BASE.chunks
    assert BASE.snr_db == SNR_DB


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"until": 0.5}], "the last stage ends at 0.5, expected 1"),
        ([{"until": 0.5}, {"until": 0.5}, {"until": 1.0}], "stage 2: until is 0.5, expected more than 0.5, at most 1"),
        ([{"until": 0.0}, {"until": 1.0}], "stage 1: until is 0.0, expected more than 0.0"),
        ([{"until": float("nan")}], "stage 1: until is nan"),
        ([{"until": 1.5}], "stage 1: until is 1.5"),
        ([{"until": 1.0, "snr_db": (30, 20)}], r"stage 1: snr_db is \(30, 20\), expected least and greatest from -20"),
        ([{"until": 1.0, "distractors": 1.2}], "stage 1: distractors is 1.2, expected a number from 0.0 to 1.0"),
        ([{"until": 1.0, "distractors": float("nan")}], "stage 1: distractors is nan"),
        ([{"until": 1.0, "background": (0, 99)}], "stage 1: background is"),
        ([{"until": 1.0, "chunks": (3, 20)}], "stage 1: chunks is"),
        ([{"until": 1.0, "answer_window_s": 0.0}], "stage 1: answer_window_s is 0.0, expected a number from 0.4"),
        (
            [{"until": 0.5, "distractors": 0.9}, {"until": 1.0}],
            "stage 2 is easier than the one before: distractors is 0.6",
        ),
        ([{"until": 0.5, "snr_db": (0, 5)}, {"until": 1.0}], "stage 2 is easier .* snr_db is 12.5 after 2.5"),
    ],
)
def test_a_schedule_with_a_fault_is_refused(stages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        Curriculum(BASE, [Stage(**stage) for stage in stages])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_a_progress_beyond_the_training_is_refused(progress: float) -> None:
    with pytest.raises(ConfigError, match="expected a share from 0 to 1"):
        CURRICULUM.at(progress)
