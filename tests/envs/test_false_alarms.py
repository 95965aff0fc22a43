"""Streams in which nothing deserves a word: their levels, and false alarms an hour with Poisson's interval."""

from pathlib import Path

import numpy as np
import pytest
from tiny_speech_suites import recording

from envs.errors import ManifestError, ScenarioError
from envs.metrics import rate_metric
from envs.suites.catalogue import open_suite
from envs.suites.false_alarms import NOISE, SNR_DB, FalseAlarms
from envs.trace import Reply, Trace

SUITE = FalseAlarms(scenes=(NOISE, "rain"), repeats=1)


@pytest.mark.parametrize(
    ("events", "low", "high"),
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390)],  # the table of Poisson limits of any handbook
)
def test_a_rate_has_poissons_exact_interval(events: int, low: float, high: float) -> None:
    rate = rate_metric([0, events], [1.5, 0.5])
    assert (rate.value, rate.count) == (events / 2, events)
    assert (rate.low, rate.high) == pytest.approx((low / 2, high / 2), abs=1e-3)
    with pytest.raises(ScenarioError, match="no hours"):
        rate_metric([events], [0.0])


@pytest.mark.parametrize("scene", [0, 1], ids=SUITE.scenes)
def test_noise_lies_under_the_sounds_as_the_ratio_says(scene: int) -> None:
    """The sounds of a scene are the same at every ratio: what two streams differ by is noise alone."""
    streams = [SUITE.scenario(scene * len(SNR_DB) + i) for i in range(len(SNR_DB))]
    for stream in streams:
        assert not stream.cues
        assert {event.decision for event in stream.events} == {"IGNORE"}
        assert stream.duration_s == 60.0
        assert np.abs(stream.audio).max() <= 1.0
    assert [event.label for event in streams[0].events] == [event.label for event in streams[3].events]
    loud, soft = streams[1].audio.astype(np.float64), streams[3].audio.astype(np.float64)  # 5 and 20 dB
    on = np.zeros(len(soft), bool)
    for event in streams[3].events[1:]:
        on[round(event.onset_s * 16_000) : round(event.end_s * 16_000)] = True
    spread = (loud - soft)[~on].std() / (10 ** (-5 / 20) - 10 ** (-20 / 20))  # of noise at 0 dB
    level = np.sqrt(np.square(soft[on]).mean())
    assert 20 * np.log10(level / spread) == pytest.approx(0.0, abs=1.0)


def test_alarms_are_counted_by_ratio_and_scene() -> None:
    """Eight minutes in all: three alarms, two of them at 0 dB, and two of them in rain."""
    said = {0: 1, 4: 1, 5: 1}
    traces = []
    for seed in SUITE.seeds:
        replies = [Reply(1.0, 2.0, "Hm.", 1)] * said.get(seed, 0)
        traces.append(Trace(seed, "Proactive", 150, (), (), replies=replies))
    scores = SUITE.score(traces)
    assert scores["false_alarms_per_hour"].value == pytest.approx(3 / (8 / 60))
    assert scores["false_alarms_per_hour: snr 0 dB"].value == pytest.approx(2 / (2 / 60))
    assert scores["false_alarms_per_hour: rain"].value == pytest.approx(2 / (4 / 60))
    assert scores["false_alarms_per_hour: snr 20 dB"].value == 0.0
    assert scores["false_alarms_per_hour: snr 20 dB"].high == pytest.approx(3.689 / (2 / 60), abs=0.1)
    assert SUITE.predictions(traces)[5] == {
        "stream": 5,
        "snr_db": 5.0,
        "scene": "rain",
        "replies": [{"start_s": 1.0, "end_s": 2.0, "text": "Hm.", "num_tokens": 1, "cue": None}],
    }


def test_the_noise_of_a_corpus_is_read_in_its_layout(tmp_path: Path) -> None:
    for seed, name in enumerate(("noise/free-sound/noise-1", "music/fma/music-1")):
        recording(tmp_path / f"{name}.wav", seed, 2.0)
    suite = open_suite("false-alarms", tmp_path, "musan")
    assert isinstance(suite, FalseAlarms)
    assert set(suite.scenes) == {"noise", "music"}
    assert len(suite.seeds) == 4 * 2 * 5
    assert suite.scenario(0).events[0].label == suite.cell(0)[1]
    assert not np.array_equal(suite.scenario(0).audio, suite.scenario(4).audio)
    with pytest.raises(ScenarioError, match="built-in takes no --data; say how"):
        open_suite("false-alarms", tmp_path)
    with pytest.raises(ScenarioError, match="musan, is not built in"):
        open_suite("false-alarms", None, "musan")
    with pytest.raises(ManifestError, match="holds no clips in the layout of musan"):
        open_suite("false-alarms", tmp_path / "music", "musan")


def test_what_is_built_in_is_two_hours() -> None:
    suite = open_suite("false-alarms", None)
    assert suite.coverage.complete
    assert len(suite.seeds) * 60 / 3600 == 2.0
