"""The command line. Heavy imports happen only inside the commands that need them."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from envs.errors import SoundFlowError

if TYPE_CHECKING:
    from envs.metrics import Metric

Command = Callable[[argparse.Namespace], None]
CONFIGS = Path(__file__).parent.parent / "configs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for bad input, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        command(options)
    except SoundFlowError as error:
        print(f"soundflow: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("soundflow: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="soundflow", description="Audio agents that know when to speak.")
    parser.add_argument("--version", action="version", version=f"soundflow {version('soundflow')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    quickstart = commands.add_parser("quickstart", help="train and judge an agent from scratch, in minutes")
    quickstart.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="default: %(default)s")
    quickstart.add_argument("--clips", type=Path, help="a folder of recordings with a manifest.csv")
    quickstart.add_argument("--seed", type=int, help="of everything that is drawn")
    quickstart.add_argument("--config", type=Path, default=CONFIGS / "quickstart.yaml", help="a YAML file")
    quickstart.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as ppo.iterations=4")
    quickstart.set_defaults(command=_quickstart)
    evaluate = commands.add_parser("evaluate", help="judge a policy on streams made of your recordings")
    evaluate.add_argument("--policy", type=Path, required=True, help="a policy folder")
    evaluate.add_argument("--clips", type=Path, required=True, help="a folder of recordings with a manifest.csv")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.set_defaults(command=_evaluate)
    listen = commands.add_parser("listen", help="stream an audio file through a policy")
    listen.add_argument("file", type=Path)
    listen.add_argument("--policy", type=Path, default=Path("runs/quickstart/policy"), help="default: %(default)s")
    listen.add_argument("--json", action="store_true", help="print one JSON object a line")
    listen.set_defaults(command=_listen)
    return parser


def _quickstart(options: argparse.Namespace) -> None:
    from trainers.config import QuickstartConfig  # noqa: PLC0415 - heavy
    from trainers.config_loading import load_config  # noqa: PLC0415 - heavy

    overrides = list(options.overrides) + ([] if options.seed is None else [f"seed={options.seed}"])
    config = load_config(QuickstartConfig, options.config, overrides)
    from trainers.quickstart import run_quickstart  # noqa: PLC0415 - heavy

    run_quickstart(config, options.out, options.clips)


def _evaluate(options: argparse.Namespace) -> None:
    from trainers.evaluation import evaluate_on_clips  # noqa: PLC0415 - heavy

    metrics = evaluate_on_clips(options.policy, options.clips, options.seed)
    if options.json:
        print(json.dumps({name: metric.to_json() for name, metric in metrics.items()}, indent=2))
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
    from trainers.listen import listen  # noqa: PLC0415 - heavy

    listen(options.file, options.policy, sys.stdout, options.json)


if __name__ == "__main__":
    sys.exit(main())
