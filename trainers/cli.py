"""The command line. Heavy imports happen only inside the commands that need them."""

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from envs import ABILITY_NAMES
from envs.corpora import LAYOUTS
from envs.errors import SoundFlowError
from envs.records import ALLOW_BROKEN

if TYPE_CHECKING:
    from envs.metrics import Metric
    from trainers.clips import ClipFolder

Command = Callable[[argparse.Namespace], None]
_PLAIN_CLIPS = ("manifest", ALLOW_BROKEN)
CONFIGS = Path(__file__).parent.parent / "configs"
MOST_WORKERS = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for bad input, 130 when interrupted."""
    options = _parse(arguments)
    command: Command = options.command
    try:
        command(options)
        sys.stdout.flush()
    except SoundFlowError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("soundflow: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:  # not about a file that the user can mend
            raise
        return _fail(f"{error.filename}: {error.strerror}")
    return 0


def _fail(message: str) -> int:
    print(f"soundflow: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; overrides may stand anywhere after the command, which argparse alone does not allow."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    strays = [word for word in rest if word.startswith("-") or "overrides" not in options]
    if strays:
        parser.error(f"unrecognized arguments: {' '.join(strays)}")
    if rest:
        options.overrides += rest
    if "clips" in options and options.clips is None and (options.layout, options.allow_broken) != _PLAIN_CLIPS:
        parser.error("--layout and --allow-broken say how --clips is read; name a folder with it")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="soundflow", description="Audio agents that know when to speak.")
    parser.add_argument("--version", action="version", version=f"soundflow {version('soundflow')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    quickstart = commands.add_parser("quickstart", help="train and judge an agent from scratch, in minutes")
    quickstart.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="default: %(default)s")
    quickstart.add_argument("--clips", type=Path, help="a folder of recordings")
    _add_clip_options(quickstart)
    quickstart.add_argument("--seed", type=_seed, metavar="N", help="of everything that is drawn")
    quickstart.add_argument("--config", type=Path, default=CONFIGS / "quickstart.yaml", help="a YAML file")
    quickstart.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as ppo.iterations=4")
    quickstart.set_defaults(command=_quickstart)
    compose = commands.add_parser("compose", help="write a corpus of streams to disk, or go on with one")
    compose.add_argument("--out", type=Path, required=True, help="a folder; what is there already is kept")
    compose.add_argument("--hours", type=_hours, required=True, metavar="H", help="how long its streams are together")
    compose.add_argument("--ability", choices=ABILITY_NAMES, default="Mixed", help="default: %(default)s")
    compose.add_argument("--sub-task", metavar="NAME", help="of the ability; default: all of them")
    compose.add_argument("--clips", type=Path, help="a folder of recordings for half of the sounds")
    compose.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the streams; default: %(default)s")
    compose.add_argument("--workers", type=_workers, default=2, metavar="N", help="processes; default: %(default)s")
    compose.set_defaults(command=_compose)
    evaluate = commands.add_parser("evaluate", help="judge a policy on streams made of your recordings")
    evaluate.add_argument("--policy", type=Path, required=True, help="a policy folder")
    evaluate.add_argument("--clips", type=Path, required=True, help="a folder of recordings")
    _add_clip_options(evaluate)
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the streams; default: %(default)s")
    evaluate.set_defaults(command=_evaluate)
    listen = commands.add_parser("listen", help="stream an audio file through a policy")
    listen.add_argument("file", type=Path, help="audio of any rate, channels and length")
    listen.add_argument("--policy", type=Path, default=Path("runs/quickstart/policy"), help="default: %(default)s")
    listen.add_argument("--json", action="store_true", help="print one JSON object a line")
    listen.set_defaults(command=_listen)
    watch = commands.add_parser("watch", help="show one episode: picture, sound, and what was said")
    watch.add_argument("--ability", choices=ABILITY_NAMES, default="Proactive", help="default: %(default)s")
    watch.add_argument("--sub-task", metavar="NAME", help="of the ability; default: any")
    watch.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the scenario; default: %(default)s")
    watch.add_argument("--policy", type=Path, help="a policy folder; default: an oracle that knows the scenario")
    watch.add_argument("--out", type=Path, required=True, help="a .html, .png or .mp4 file")
    watch.set_defaults(command=_watch)
    plan = commands.add_parser("plan", help="plan scenes in words, and say which sounds were found for them")
    plan.add_argument("--planner", choices=["grammar", "llm"], default="grammar", help="default: %(default)s")
    plan.add_argument("--base-url", metavar="URL", help="of an OpenAI-compatible endpoint, for the planner llm")
    plan.add_argument("--model", metavar="NAME", help="of the endpoint; its key is read from OPENAI_API_KEY")
    plan.add_argument("--clips", type=Path, help="a folder of recordings with a manifest.csv; default: built-in sounds")
    plan.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the first scene; default: %(default)s")
    plan.add_argument("--count", type=_count, default=3, metavar="N", help="scenes to plan; default: %(default)s")
    plan.add_argument("--json", action="store_true", help="print one JSON object")
    plan.set_defaults(command=_plan)
    bench = commands.add_parser("bench", help="measure how fast a part is, on this machine")
    bench.add_argument("part", choices=["world"], help="world: composing streams and stepping environments")
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.set_defaults(command=_bench)
    return parser


def _add_clip_options(command: argparse.ArgumentParser) -> None:
    layout, share = _PLAIN_CLIPS
    command.add_argument(
        "--layout",
        choices=[layout, *LAYOUTS],
        default=layout,
        metavar="NAME",
        help="how the folder is laid out: %(choices)s; default: %(default)s, which is a manifest.csv",
    )
    command.add_argument(
        "--allow-broken",
        type=_share,
        default=share,
        metavar="SHARE",
        help="of the recordings that may be left out because they are broken; default: %(default)s",
    )


def _clips(options: argparse.Namespace) -> "ClipFolder | None":
    from trainers.clips import ClipFolder  # noqa: PLC0415 - heavy

    return ClipFolder(options.clips, options.layout, options.allow_broken) if options.clips else None


def _quickstart(options: argparse.Namespace) -> None:
    from trainers.config import QuickstartConfig  # noqa: PLC0415 - heavy
    from trainers.config_loading import load_config  # noqa: PLC0415 - heavy

    overrides = list(options.overrides) + ([] if options.seed is None else [f"seed={options.seed}"])
    config = load_config(QuickstartConfig, options.config, overrides)
    sys.path.insert(0, str(Path.cwd()))  # a user's own reward is a module of the folder they stand in
    _quiet_libraries()
    from trainers.quickstart import run_quickstart  # noqa: PLC0415 - heavy

    run_quickstart(config, options.out, _clips(options))


def _compose(options: argparse.Namespace) -> None:
    from trainers.compose import compose  # noqa: PLC0415 - heavy

    o = options
    compose(o.out, o.ability, o.hours, o.sub_task, o.seed, o.workers, o.clips)


def _evaluate(options: argparse.Namespace) -> None:
    _quiet_libraries()
    from trainers.evaluation import evaluate_on_clips  # noqa: PLC0415 - heavy

    clips = _clips(options)
    assert clips is not None  # the option is required
    metrics = evaluate_on_clips(options.policy, clips, options.seed)
    if options.json:
        print(json.dumps({name: metric.to_json() for name, metric in metrics.items()}, indent=2, allow_nan=False))
    else:
        print(_table(metrics))


def _table(metrics: "dict[str, Metric]") -> str:
    lines = [f"{'metric':24s} {'value':>9s}   {'95 % interval':>19s}   {'count':>6s}"]
    for name, m in metrics.items():
        if m.value is None:
            lines.append(f"{name:24s} {'none':>9s}")
        else:
            lines.append(f"{name:24s} {m.value:9.3f}   {m.low:8.3f} to {m.high:7.3f}   {m.count:6d}")
    return "\n".join(lines)


def _listen(options: argparse.Namespace) -> None:
    _quiet_libraries()
    from trainers.listen import listen  # noqa: PLC0415 - heavy

    listen(options.file, options.policy, sys.stdout, options.json)


def _watch(options: argparse.Namespace) -> None:
    _quiet_libraries()
    from trainers.watch import watch  # noqa: PLC0415 - heavy

    print(watch(options.ability, options.sub_task, options.seed, options.out, options.policy))


def _plan(options: argparse.Namespace) -> None:
    from envs.curation import planner_from_options  # noqa: PLC0415 - heavy
    from trainers.plan import show_plans  # noqa: PLC0415 - heavy

    planner = planner_from_options(options.planner, options.base_url, options.model)
    show_plans(planner, options.clips, range(options.seed, options.seed + options.count), sys.stdout, options.json)


def _bench(options: argparse.Namespace) -> None:
    from envs.benchmark import bench_world  # noqa: PLC0415 - heavy

    numbers = bench_world()
    if options.json:
        print(json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in numbers.items()}, indent=2))
    else:
        shown = {k: f"{v:14,.1f}" if isinstance(v, float) else f"  {v or 'none'}" for k, v in numbers.items()}
        print("\n".join(f"{name:24s} {value}" for name, value in shown.items()))


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:  # what numpy and transformers take
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**32 - 1}, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text!r}")
    return share


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of hours above 0, got {text!r}")
    return hours


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MOST_WORKERS}, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _quiet_libraries() -> None:
    """Silence notices that a user can do nothing about; for commands that need the libraries anyway."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for category in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.simplefilter("ignore", category)
    from transformers.utils import logging  # noqa: PLC0415 - heavy

    logging.set_verbosity_error()
    logging.disable_progress_bar()  # of reading and writing weights, which take no time


if __name__ == "__main__":
    sys.exit(main())
