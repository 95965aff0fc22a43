"""`soundflow bench`: its parts, their options, and what they print. Heavy imports happen only inside a part."""

import argparse
import json
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

from trainers.metric_table import metric_table
from trainers.options import (
    add_clips,
    add_json,
    add_run,
    clip_folder,
    positive_number,
    read_count,
    run_config,
    whole_number,
)
from trainers.quiet import quiet_libraries
from trainers.serve_extra import needs_serve

_MOST_SEEDS = 100
_minutes = positive_number("minutes")


def add_bench(command: argparse.ArgumentParser) -> None:
    """Add the parts and their options."""
    parts = command.add_subparsers(required=True, metavar="PART", dest="part")
    world = "composing streams and stepping environments"
    listener = "train compact on recordings, and judge it beside a classifier on those that were held out"
    engine = "many sessions at once, an hour of one, and real time, beside loops that people write first"
    add_json(parts.add_parser("world", help=world, description=world))
    add_json(parts.add_parser("engine", help=engine, description=engine))
    heard = parts.add_parser("listener", help=listener, description=listener)
    add_clips(heard, "a folder of recordings", required=True)
    heard.add_argument("--no-classifier", action="store_true", help="leave the classifier out")
    add_run(heard)
    add_json(heard)
    train = "how fast rollouts are collected; with --seeds, what PPO adds to the supervised policy"
    learned = parts.add_parser("train", help=train, description=train)
    learned.add_argument(
        "--seeds",
        type=whole_number(0, _MOST_SEEDS),
        default=0,
        metavar="N",
        help="train and judge N policies, a quickstart each; default: 0",
    )
    learned.add_argument(
        "--vary",
        type=_variants,
        default=[""],
        metavar="KEY=VALUE,...",
        help="with --seeds, train and judge N policies under each of these values",
    )
    learned.add_argument("--append", type=Path, metavar="FILE", help="with --seeds, write a table to a Markdown file")
    add_clips(learned, "a folder of recordings")
    add_run(learned)
    add_json(learned)
    _add_serve(parts)


def _add_serve(parts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    purpose = "a server process with sessions in real time, with clients that break the rules, and its memory"
    served = parts.add_parser("serve", help=purpose, description=purpose)
    served.add_argument("--policy", type=Path, metavar="DIR", help="default: compact with random weights")
    served.add_argument("--sessions", type=read_count, default=64, metavar="N", help="at once; default: %(default)s")
    served.add_argument("--minutes", type=_minutes, default=5.0, metavar="M", help="of the load; default: %(default)g")
    served.add_argument(
        "--soak-minutes", type=_soak, default=2.0, metavar="M", help="of few sessions; 0: none; default: %(default)g"
    )
    served.add_argument(
        "--soak-sessions", type=read_count, default=8, metavar="N", help="of the soak; default: %(default)s"
    )
    served.add_argument(
        "--rounds", type=whole_number(0), default=50, metavar="N", help="of offences; default: %(default)s"
    )
    add_json(served)


def bench(options: argparse.Namespace) -> None:
    """Measure a part, and print what was found."""
    _PARTS[options.part](options)


def _bench_world(options: argparse.Namespace) -> None:
    from envs.benchmark import bench_world  # noqa: PLC0415 - heavy

    _show(bench_world(), options)


def _bench_engine(options: argparse.Namespace) -> None:
    quiet_libraries()
    from policies.engine.benchmark import bench_engine  # noqa: PLC0415 - heavy

    numbers = bench_engine()
    if options.json:
        print(json.dumps({name: float(f"{value:.4g}") for name, value in numbers.items()}, indent=2))
    else:
        print("\n".join(f"{name:24s} {value:12,.4g}" for name, value in numbers.items()))


def _bench_train(options: argparse.Namespace) -> None:
    configs = {varied: run_config(options, *([varied] if varied else [])) for varied in options.vary}
    quiet_libraries()
    from trainers.learning_bench import bench_train  # noqa: PLC0415 - heavy
    from trainers.learning_table import LearningLog  # noqa: PLC0415 - heavy

    log = None if options.append is None else LearningLog(options.append, shlex.join(["soundflow", *sys.argv[1:]]))
    with redirect_stdout(sys.stderr):  # the phases say where they are
        numbers = bench_train(configs, clip_folder(options), options.seeds, None if log is None else log.append)
    if options.json:
        print(json.dumps(numbers.to_json(), indent=2, allow_nan=False))
        return
    print("\n".join(f"{name:24s} {value:12,.4g}" for name, value in numbers.rollouts.items()))
    for one in numbers.seeds:
        for suite, learned in one.suites.items():
            goals = ", ".join(f"{name} {reached}" for name, reached in learned.reached().items())
            print(f"\n{one.varied or 'nothing'} varied, seed {one.seed}, {suite}: {goals}")
            print(f"supervised\n{metric_table(learned.supervised)}\nppo\n{metric_table(learned.ppo)}")


def _bench_listener(options: argparse.Namespace) -> None:
    config = run_config(options)
    quiet_libraries()
    from trainers.listener_bench import bench_listener  # noqa: PLC0415 - heavy

    clips = clip_folder(options)
    assert clips is not None  # the option is required
    with redirect_stdout(sys.stderr):  # the phases say where they are
        numbers = bench_listener(config, clips, not options.no_classifier)
    if options.json:
        print(json.dumps(numbers.to_json(), indent=2, allow_nan=False))
        return
    print(f"{numbers.parameters:,} parameters, trained in {numbers.train_s:.0f} s ({numbers.train_cpu_s:.0f} s of CPU)")
    print(metric_table(numbers.listener))
    if numbers.classifier is not None and numbers.difference is not None:
        print(f"\nclassifier, trained in {numbers.classifier_train_s:.0f} s\n{metric_table(numbers.classifier)}")
        print(f"\nlistener minus classifier, paired over the streams\n{metric_table(numbers.difference)}")


def _bench_serve(options: argparse.Namespace) -> None:
    quiet_libraries()
    with needs_serve():
        from trainers.server_bench import ServerBench, bench_serve  # noqa: PLC0415 - heavy, and an extra

    numbers = bench_serve(
        ServerBench(
            options.policy,
            options.sessions,
            options.minutes,
            options.soak_minutes,
            options.soak_sessions,
            options.rounds,
        )
    )
    if options.json:
        print(json.dumps(numbers, indent=2, allow_nan=False))
    else:
        print("\n".join(f"{name:24s} {value}" for name, value in numbers.items()))


_PARTS = {
    "world": _bench_world,
    "engine": _bench_engine,
    "listener": _bench_listener,
    "train": _bench_train,
    "serve": _bench_serve,
}


def _show(numbers: "dict[str, float | str | None]", options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in numbers.items()}, indent=2))
    else:
        shown = {k: f"{v:14,.1f}" if isinstance(v, float) else f"  {v or 'none'}" for k, v in numbers.items()}
        print("\n".join(f"{name:24s} {value}" for name, value in shown.items()))


def _variants(text: str) -> list[str]:
    key, equals, values = text.partition("=")
    if not key or not equals or not all(values.split(",")):
        raise argparse.ArgumentTypeError(
            f"expected KEY=VALUE,VALUE, such as ppo.objective=split,raw_token, got {text!r}"
        )
    return [f"{key}={value}" for value in values.split(",")]


def _soak(text: str) -> float:
    return 0.0 if text == "0" else _minutes(text)
