"""The folder of a run: asked before the work begins, never a mix of two runs, never somebody else's."""

import os
from itertools import count
from pathlib import Path

from envs.errors import ConfigError
from envs.files import write_text

CONFIG = "config.yaml"  # what the run was asked for; its folder is known by it
CHECKPOINTS = "checkpoints"  # from which a run goes on after a kill
_RESULTS = ("report.html", "metrics.json", "bills.json", "traces_*.jsonl", "policy", "supervised", "gate")
_OF_A_RUN = (CONFIG, CHECKPOINTS, *_RESULTS, "logs")


def check_out(out: Path) -> None:
    """Ask whether something could be written into `out`, which need not exist; nothing is created.

    Raises:
        ConfigError: when `out`, or what it would lie in, is a file or may not be written.
    """
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"--out {out}: {nearest} is a file; name a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: {nearest} may not be written; name another folder, or change its permissions")


def check_run_folder(out: Path) -> None:
    """Ask whether a run could write into `out`: a new folder, an empty one, or that of an earlier run.

    Raises:
        ConfigError: when it could not, or `out` holds something else.
    """
    check_out(out)
    if out.is_dir() and not (out / CONFIG).is_file():
        foreign = sorted(path.name for path in out.iterdir() if not path.name.startswith("earlier-"))
        if foreign:
            raise ConfigError(
                f"--out {out}: holds {foreign[0]!r} and no {CONFIG} of a run; name a new or an empty folder"
            )


def begin_run(out: Path, asked: str) -> None:
    """Make a run's folder, keep what an earlier run left there as `earlier-N`, and write what is asked for."""
    out.mkdir(parents=True, exist_ok=True)
    if (earlier := set_earlier_aside(out)) is not None:
        print(f"an earlier run in {out} is kept as {earlier}", flush=True)
    write_text(out / CONFIG, asked)


def set_earlier_aside(out: Path) -> Path | None:
    """Move what an earlier run left in `out` into `out/earlier-N`; return that folder, or None where nothing was."""
    left = [path for pattern in _OF_A_RUN for path in sorted(out.glob(pattern))]
    if not left:
        return None
    aside = next(path for n in count(1) if not (path := out / f"earlier-{n}").exists())
    aside.mkdir()
    for path in left:
        path.rename(aside / path.name)
    return aside
