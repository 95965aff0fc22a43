"""Every family of suites gives one result, whether its streams are played one at a time or 64 at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from envs.foley import Foley
from envs.scenario import Scenario
from envs.suites import OfflineSuite, Suite
from envs.suites.catalogue import SUITES, open_suite
from envs.suites.false_alarms import NOISE, FalseAlarms
from envs.suites.long_stream import LongStream
from tests.envs.tiny_speech_suites import recording, write_librispeech, write_voicebench
from tests.policies.conftest import write_tiny_policy
from trainers.suite_run import run_suite

CHUNKS = 12  # of a stream that is built in, from its beginning


@dataclass(frozen=True)
class _Begun(FalseAlarms):
    def scenario(self, seed: int) -> Scenario:
        return _begin(super().scenario(seed))


@dataclass(frozen=True)
class _BegunLong(LongStream):
    def scenario(self, seed: int) -> Scenario:
        return _begin(super().scenario(seed))


def _begin(stream: Scenario) -> Scenario:
    return replace(stream, audio=stream.audio[: CHUNKS * 6_400], cues=(), timeline=())


def write_duplex(folder: Path) -> Path:
    for seed in (1, 2, 3):
        recording(folder / "candor_pause_handling" / str(seed) / "input.wav", seed, 1.5 * seed)
        (folder / "candor_pause_handling" / str(seed) / "pause.json").write_text("[]")
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "librispeech": write_librispeech,
    "voicebench": write_voicebench,
    "full-duplex-bench": write_duplex,
}
MADE: dict[str, Callable[[], Suite]] = {
    "long-stream": partial(_BegunLong, Foley(), groups=1),
    "false-alarms": partial(_Begun, scenes=(NOISE,), repeats=1),
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


def test_no_suite_is_left_out() -> None:
    alike = {"covost2", "mmau"}  # played as librispeech is, by the same class
    elsewhere = {"proactive-sound-bench"}  # in test_suite_run.py
    assert {*WRITERS, *MADE} | alike | elsewhere == {*SUITES}


@pytest.mark.parametrize("name", [*WRITERS, *MADE])
def test_one_at_a_time_and_64_at_once_are_the_same(name: str, policy: Path, tmp_path: Path) -> None:
    suite = MADE[name]() if name in MADE else open_suite(name, WRITERS[name](tmp_path))
    offline = isinstance(suite, OfflineSuite)
    alone, together = (run_suite(str(policy), suite, num_slots=slots, offline=offline) for slots in (1, 64))
    assert suite.predictions(alone.traces) == suite.predictions(together.traces)
    assert alone.to_json() == together.to_json()
    assert alone.answers == together.answers
    for one, other in zip(alone.traces, together.traces, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
