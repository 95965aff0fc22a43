"""Scenes and streams: what a listener and a learner rely on, for every seed."""

import math
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.clock import CHUNK_S, CHUNK_SAMPLES, chunk_end_s
from envs.composition import (
    AMBIENT_DB,
    BACKGROUND_DB,
    LEVEL_DBFS,
    compose,
)
from envs.errors import ScenarioError
from envs.planning import ScenePlan, plan_scene
from envs.proactive import DealtScenarios, ProactiveScenarios
from envs.scenario import GRACE_S, Answer, Clip, Decision
from envs.sources import Mixture

ANSWER = Answer(("I hear an alarm.", "An alarm is ringing."), ("alarm",), 1.0, "iii", "equipment_or_fire", 0.8)


class Bursts:
    """A source of noise bursts: three labels that deserve a reply and three that do not."""

    labels = ("alarm", "cry", "crash", "fan", "step", "rain")

    def has(self, decision: Decision) -> bool:
        return True

    def labels_of(self, decision: Decision) -> tuple[str, ...]:
        return (self.labels[:3] if decision == "RESPOND" else self.labels[3:]) if self.has(decision) else ()

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        respond = decision == "RESPOND"
        name = label or self.labels[int(rng.integers(3)) + (0 if respond else 3)]
        audio = rng.uniform(-1, 1, int(rng.uniform(0.05, 5.0) * 16_000)).astype(np.float32)
        take = f"take {int(rng.integers(6))}"
        return Clip(audio, name, name, "Test", decision, "bursts", (ANSWER,) if respond else (), take)


class OnlyReplies(Bursts):
    def has(self, decision: Decision) -> bool:
        return decision == "RESPOND"


SCENARIOS = ProactiveScenarios(Bursts())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_every_scenario_is_sound(seed: int) -> None:
    scenario = SCENARIOS(seed)
    assert scenario.audio.dtype == np.float32
    assert len(scenario.audio) % CHUNK_SAMPLES == 0
    assert 40 <= scenario.num_chunks <= 60
    assert np.isfinite(scenario.audio).all()
    assert np.abs(scenario.audio).max() <= 1
    for event in scenario.events:
        assert 0 <= event.onset_s < event.end_s <= scenario.duration_s + 1e-9
        assert event.role == "foreground" or event.decision == "IGNORE"
    assert any(event.role == "ambient" for event in scenario.events)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_cues_and_timeline_follow_the_events(seed: int) -> None:
    scenario = SCENARIOS(seed)
    foreground = [e for e in scenario.events if e.role == "foreground"]
    assert all(a.end_s <= b.onset_s for a, b in pairwise(foreground))
    answered = [e for e in foreground if e.decision == "RESPOND"]
    assert len(answered) == len(scenario.cues) == len(scenario.timeline)
    for event, cue, entry in zip(answered, scenario.cues, scenario.timeline, strict=True):
        assert cue.onset_s == event.onset_s < cue.ready_s <= event.end_s
        assert cue.ready_s < cue.deadline_s == event.end_s + GRACE_S <= scenario.duration_s
        assert chunk_end_s(entry.chunk) >= event.end_s - 1e-9
        assert chunk_end_s(entry.chunk - 1) < event.end_s
        assert entry.chunk == math.ceil(event.end_s / CHUNK_S - 1e-9) - 1
        assert entry.text in cue.replies


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_plans_keep_recordings_and_short_repeats_apart(seed: int) -> None:
    plan = plan_scene(Bursts(), np.random.default_rng(seed))
    assert 1 <= len(plan.foreground) <= 8
    recordings = [clip.recording for clip in plan.foreground]
    assert len(set(recordings)) == len(recordings)
    for a, b in pairwise(plan.foreground):
        short = all(clip.decision == "IGNORE" and clip.seconds < 2 for clip in (a, b))
        assert a.label != b.label or not short


def test_the_same_seed_gives_the_same_bytes_also_from_a_copy() -> None:
    copy = pickle.loads(pickle.dumps(SCENARIOS))
    assert SCENARIOS(7).audio.tobytes() == copy(7).audio.tobytes()
    assert SCENARIOS(7).cues == copy(7).cues
    assert SCENARIOS(7).audio.tobytes() != SCENARIOS(8).audio.tobytes()


def test_shares_of_silent_scenes_and_of_replies() -> None:
    rng = np.random.default_rng(0)
    plans = [plan_scene(Bursts(), rng, respond_share=0.4) for _ in range(200)]
    replies = [sum(clip.decision == "RESPOND" for clip in plan.foreground) for plan in plans]
    clips = sum(len(plan.foreground) for plan in plans)
    assert 0.1 < sum(r == 0 for r in replies) / len(plans) < 0.4
    assert 0.25 < sum(replies) / clips < 0.45
    assert np.mean([len(plan.foreground) for plan in plans]) > 3


def test_a_foreground_that_cannot_fit_is_refused() -> None:
    clip = Bursts().draw(np.random.default_rng(0), "IGNORE")
    with pytest.raises(ScenarioError, match="no room"):
        compose(ScenePlan((clip,) * 20, (), (clip,), 10), 0)


def test_scenes_need_something_to_ignore() -> None:
    with pytest.raises(ScenarioError, match="IGNORE"):
        plan_scene(OnlyReplies(), np.random.default_rng(0))


def test_a_mixture_draws_from_those_that_can() -> None:
    mixture = Mixture((OnlyReplies(), Bursts()), (0.9, 0.1))
    assert mixture.draw(np.random.default_rng(0), "IGNORE").decision == "IGNORE"
    with pytest.raises(ScenarioError, match="did you mean 'alarm'"):
        mixture.draw(np.random.default_rng(0), "RESPOND", "alarn")


@pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, -1.0), (1.0,), (1.0, math.nan)])
def test_a_mixture_wants_a_positive_weight_for_each_source(weights: tuple[float, ...]) -> None:
    with pytest.raises(ScenarioError, match="a positive one for each"):
        Mixture((OnlyReplies(), Bursts()), weights)


def test_background_and_ambience_stand_at_their_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same clip in the foreground: -6 and -12 dB; every clip fades in and out over 20 ms."""
    monkeypatch.setattr("envs.composition.add_noise", lambda *_: None)
    monkeypatch.setattr("envs.composition.LEVEL_SPREAD_DB", 0.0)
    clip = Bursts().draw(np.random.default_rng(0), "IGNORE")
    steady = replace(clip, audio=np.ones(16_000, np.float32), label="hum")
    for plan, level_db in [
        (ScenePlan((), (steady,), (), 40), BACKGROUND_DB),
        (ScenePlan((), (), (steady,), 40), AMBIENT_DB),
    ]:
        audio = compose(plan, 3).audio
        heard = audio[audio != 0]
        assert 20 * np.log10(heard.max()) == pytest.approx(LEVEL_DBFS + level_db, abs=0.1)
        assert (np.diff(heard[:320]) > 0).all()
        assert (np.diff(heard[-320:]) < 0).all()
    assert (BACKGROUND_DB, AMBIENT_DB, LEVEL_DBFS) == (-6.0, -12.0, -20.0)


def test_what_lasts_the_whole_scene_is_looped_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.composition.add_noise", lambda *_: None)
    monkeypatch.setattr("envs.composition.LEVEL_SPREAD_DB", 0.0)
    rng = np.random.default_rng(0)
    hum = replace(Bursts().draw(rng, "IGNORE"), audio=rng.uniform(-1, 1, 32_000).astype(np.float32), label="hum")
    scenario = compose(ScenePlan((), (), (), 40, whole_scene=(hum,)), 3)
    (event,) = scenario.events
    assert (event.label, event.role, event.onset_s, event.end_s) == ("hum", "ambient", 0.0, scenario.duration_s)
    level = 20 * np.log10(np.sqrt(np.square(scenario.audio.reshape(-1, CHUNK_SAMPLES // 4)).mean(axis=1)))
    assert level == pytest.approx(LEVEL_DBFS + AMBIENT_DB, abs=1.0)


@pytest.mark.parametrize("length", [1, 2, 100, 6400])
def test_any_clip_may_last_the_whole_scene(length: int) -> None:
    for audio in (np.zeros(length, np.float32), np.ones(length, np.float32)):
        clip = replace(Bursts().draw(np.random.default_rng(0), "IGNORE"), audio=audio)
        heard = compose(ScenePlan((), (), (), 8, whole_scene=(clip,)), 0).audio
        assert np.isfinite(heard).all()
        assert np.abs(heard).max() <= 1


def test_dealt_scenarios_are_numbered_and_repeatable() -> None:
    plans = [plan_scene(Bursts(), np.random.default_rng(i)) for i in range(3)]
    dealt = DealtScenarios(plans, seed=5)
    assert len(dealt) == 3
    assert dealt(1).audio.tobytes() == DealtScenarios(plans, seed=5)(1).audio.tobytes()
    assert dealt(1).audio.tobytes() != DealtScenarios(plans, seed=6)(1).audio.tobytes()
