"""The folder of a run: asked before the work begins, gone on with, never a mix of two runs, never somebody else's."""

import json
import os
import shutil
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from envs.errors import ConfigError
from envs.files import remove_leftovers, write_text

CONFIG = "config.yaml"  # what the run was asked for; its folder is known by it
CHECKPOINTS = "checkpoints"  # from which a run goes on after a kill
START = "start"  # the policy that supervised stages begin with, where it is a new one
_STAGES = (START, "hearing", "format", "adapter", "streaming", "following")
_RESULTS = ("report.html", "metrics.json", "bills.json", "traces_*.jsonl", "policy", "supervised", "gate", *_STAGES)
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
        foreign = sorted(path.name for path in out.iterdir() if not path.name.startswith((f".{CONFIG}.", "earlier-")))
        if foreign:
            raise ConfigError(
                f"--out {out}: holds {foreign[0]!r} and no {CONFIG} of a run; name a new or an empty folder"
            )


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration, a dataclass, as plain JSON."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return document


def words(config: Any, **made_with: str | None) -> str:
    """Return what a run is known by: its configuration as YAML, under comments on what it is made with beside that.

    Args:
        config: A dataclass.
        made_with: What recordings there are, say, by a name that changes when they do; None: none.
    """
    heard = "".join(f"# {name}: {value}\n" for name, value in made_with.items() if value is not None)
    return heard + yaml.safe_dump(plain(config), sort_keys=False)


def is_complete(out: Path, asked: str, last: str) -> bool:
    """Return whether `out` holds the run that is asked for, and all of it; `last` is what it writes last."""
    return _holds(out, asked) and (out / last).exists()


def begin_run(out: Path, asked: str, last: str) -> bool:
    """Make a run's folder, or find that of the same run; what a run of other words left is kept as `earlier-N`.

    Nothing is lost so, and nothing is mixed: who asks for something else by mistake moves `earlier-N` back, asks as
    before, and the run goes on. An earlier run that has come to nothing, but for its first policy, is not kept.

    Args:
        out: The folder.
        asked: The run's `words`.
        last: The file or folder that the run writes last.

    Returns:
        Whether there is something left to do. It is said when there is not.
    """
    if is_complete(out, asked, last):
        print(f"{out} was complete; nothing was done")
        return False
    out.mkdir(parents=True, exist_ok=True)
    for pattern in _OF_A_RUN:
        remove_leftovers(out, pattern)
    if not _holds(out, asked):
        if (earlier := set_earlier_aside(out)) is not None:
            print(f"an earlier run in {out} is kept as {earlier}", flush=True)
        write_text(out / CONFIG, asked)
    elif any(_holds_files(out / name) for name in _left(out) - {CONFIG, START}):
        print(f"goes on with the run in {out}", flush=True)
    return True


def set_earlier_aside(out: Path) -> Path | None:
    """Move what an earlier run left in `out` into `out/earlier-N`; return that folder, or None where nothing was."""
    left = _left(out)
    if not any(_holds_files(out / name) for name in left - {CONFIG, START}):
        for name in left - {CONFIG}:
            shutil.rmtree(out / name)
        return None
    aside = next(path for n in count(1) if not (path := out / f"earlier-{n}").exists())
    aside.mkdir()
    for name in sorted(left, key=lambda name: (name == CONFIG, name)):  # by which it is known, until it is empty
        (out / name).rename(aside / name)
    return aside


def _holds(out: Path, asked: str) -> bool:
    written = out / CONFIG
    return written.is_file() and written.read_bytes() == asked.encode()


def _holds_files(path: Path) -> bool:
    return path.is_file() or any(inner.is_file() for inner in path.rglob("*"))


def _left(out: Path) -> set[str]:
    return {path.name for pattern in _OF_A_RUN for path in out.glob(pattern)}
