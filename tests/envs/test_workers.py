"""Worker processes: the same bytes in the same order, and an end whenever the one who asked has ended."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from itertools import count, islice
from pathlib import Path

from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.workers import compose_all

SHORT = ProactiveScenarios(Foley(), 0.8, (20, 24))
SCRIPT = """
import os, signal
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.workers import compose_all

if __name__ == "__main__":
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
