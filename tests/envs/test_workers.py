"""Worker processes: the same bytes in the same order, and an end whenever the one who asked has ended."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from itertools import count, islice
from pathlib import Path

import pytest

from envs.errors import ScenarioError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.scenario import Scenario
from envs.workers import RenderedAhead, compose_all

SHORT = ProactiveScenarios(Foley(), 0.8, (20, 24))
SCRIPT = """
import os, signal
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.workers import compose_all

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
    try:
        for scenario in compose_all(ProactiveScenarios(Foley(), 0.4, (20, 24)), range(400), 2):
            {act}
    except KeyboardInterrupt:
        print("interrupted")
"""


def run(folder: Path, act: str) -> subprocess.CompletedProcess[str]:
    """Run a script of its own session; returns when nobody holds its output any longer, its workers included."""
    (folder / "script.py").write_text(SCRIPT.format(act=act))
    return subprocess.run(
        [sys.executable, str(folder / "script.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_workers_compose_the_same_bytes_in_order() -> None:
    """Of seeds without an end, too: the workers end with the iterator."""
    alone = list(compose_all(SHORT, range(3), 1))
    with closing(compose_all(SHORT, count(), 2)) as endless:
        pooled = list(islice(endless, 3))
    for a, b in zip(alone, pooled, strict=True):
        assert a.audio.tobytes() == b.audio.tobytes()
        assert a.cues == b.cues


def test_ctrl_c_ends_composing_without_a_word_from_the_workers(tmp_path: Path) -> None:
    """A worker that died in the middle of its queue left the run hanging for ever."""
    done = run(tmp_path, "os.killpg(0, signal.SIGINT)  # what a terminal does: the workers get it, too")
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("interrupted", "", 0)


def test_workers_end_when_the_run_is_killed(tmp_path: Path) -> None:
    """They were left waiting for their next block, each with its memory."""
    assert run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)").returncode == -signal.SIGKILL


def test_scenarios_that_cannot_be_sent_and_workers_that_die_are_named() -> None:
    with pytest.raises(ScenarioError, match="cannot be sent to worker processes"):
        RenderedAhead(lambda seed: SHORT(seed), 1)  # noqa: PLW0108 - what cannot be sent
    with pytest.raises(ScenarioError, match="a worker process ended before its streams were composed"):
        list(compose_all(dying, range(4), 2))


def dying(seed: int) -> Scenario:
    """As the kernel ends a process where the memory is full."""
    os.kill(os.getpid(), signal.SIGKILL)
    return SHORT(seed)


def test_what_rendered_ahead_can_be_asked_after_it_was_closed() -> None:
    ahead = RenderedAhead(SHORT, 1)
    ahead.announce(1)
    ahead.close()
    ahead.announce(2)
    assert [ahead(seed).audio.tobytes() for seed in (1, 2)] == [SHORT(seed).audio.tobytes() for seed in (1, 2)]
