"""Options that several commands share, how their words are read, and what becomes of them."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from envs.layouts import LAYOUTS
from envs.records import ALLOW_BROKEN

if TYPE_CHECKING:
    from trainers.clips import ClipFolder
    from trainers.config import QuickstartConfig

CONFIGS = Path(__file__).parent.parent / "configs"
PLAIN_CLIPS = ("manifest", ALLOW_BROKEN, 0)  # how a folder is read where nothing else was said


def add_run(command: argparse.ArgumentParser) -> None:
    """Add what a run is begun with: seed, configuration and overrides."""
    command.add_argument("--seed", type=read_seed, metavar="N", help="of everything that is drawn")
    command.add_argument("--config", type=Path, default=CONFIGS / "quickstart.yaml", help="a YAML file")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as supervised.streams.steps=300")


def add_json(command: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    command.add_argument("--json", action="store_true", help="print one JSON object")


def add_clips(command: argparse.ArgumentParser, purpose: str, required: bool = False, held_out: bool = True) -> None:
    """Add a folder of recordings, and how it is read; which of them are held out, where the command holds some out."""
    layout, share, fold = PLAIN_CLIPS
    command.add_argument("--clips", type=Path, required=required, help=purpose)
    command.add_argument(
        "--layout",
        choices=[layout, *LAYOUTS],
        default=layout,
        metavar="NAME",
        help="how the folder is laid out: %(choices)s; default: %(default)s, which is a manifest.csv",
    )
    command.add_argument(
        "--allow-broken",
        type=read_share,
        default=share,
        metavar="SHARE",
        help="of the recordings that may be left out because they are broken; default: %(default)s",
    )
    if not held_out:
        command.set_defaults(fold=fold)
        return
    command.add_argument(
        "--fold",
        type=whole_number(0),
        default=fold,
        metavar="K",
        help="for cross-validation, which part of the recordings is held out: 0, 1, ...; default: %(default)s",
    )


def whole_number(least: int, most: int | None = None, what: str = "a whole number") -> Callable[[str], int]:
    """Return what reads a whole number of a range, and raises ArgumentTypeError for anything else.

    Args:
        least: The range's first.
        most: Its last; None: it has none.
        what: The number is called in that error.
    """
    span = f"from {least} on" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"expected {what} {span}, got {text!r}")
        return int(text)

    return read


read_seed = whole_number(0, 2**32 - 1)  # what numpy and transformers take
read_count = whole_number(1)


def positive_number(unit: str) -> Callable[[str], float]:
    """Return what reads a finite number of some unit above 0, and raises ArgumentTypeError for anything else."""

    def read(text: str) -> float:
        number = read_number(text)
        if not 0 < number < math.inf:  # not for NaN, either
            raise argparse.ArgumentTypeError(f"expected a number of {unit} above 0, got {text!r}")
        return number

    return read


def read_share(text: str) -> float:
    """Read a share of a whole.

    Raises:
        ArgumentTypeError: when it is anything else.
    """
    share = read_number(text)
    if not 0 <= share <= 1:  # not for NaN, either
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text!r}")
    return share


def read_number(text: str) -> float:
    """Read a number; what is none is NaN, which no range has."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def clip_folder(options: argparse.Namespace) -> "ClipFolder | None":
    """Return the recordings of `add_clips`, where some were named."""
    from trainers.clips import ClipFolder  # noqa: PLC0415 - heavy

    return ClipFolder(options.clips, options.layout, options.allow_broken, options.fold) if options.clips else None


def run_config(options: argparse.Namespace, *more: str) -> "QuickstartConfig":
    """Return the configuration of `add_run`, with `more` overrides after those of the command line.

    Raises:
        ConfigError: as `load_config`.
    """
    from trainers.config import QuickstartConfig  # noqa: PLC0415 - heavy
    from trainers.config_loading import load_config  # noqa: PLC0415 - heavy

    overrides = list(options.overrides) + ([] if options.seed is None else [f"seed={options.seed}"])
    config = load_config(QuickstartConfig, options.config, [*overrides, *more])
    return config
