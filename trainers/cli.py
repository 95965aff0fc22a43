"""The command line. Heavy imports happen only inside the commands that need them."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from envs.errors import SoundFlowError
from trainers.arguments import Command, parse
from trainers.bench_commands import bench
from trainers.metric_table import metric_table
from trainers.options import clip_folder, run_config
from trainers.quiet import quiet_libraries
from trainers.serve_extra import needs_serve

if TYPE_CHECKING:
    from envs.thinking import ThinkingTime


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for bad input, 130 when interrupted."""
    options = parse(COMMANDS, arguments)
    command: Command = options.command
    sys.path.insert(0, str(Path.cwd()))  # a user's own reward is a module of the folder they stand in
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


def _quickstart(options: argparse.Namespace) -> None:
    config = run_config(options)
    quiet_libraries()
    from trainers.quickstart import run_quickstart  # noqa: PLC0415 - heavy

    run_quickstart(config, options.out, clip_folder(options))


def _train(options: argparse.Namespace) -> None:
    quiet_libraries()
    from trainers.train import train  # noqa: PLC0415 - heavy

    train(options.config, options.out, clip_folder(options), options.overrides)


def _compose(options: argparse.Namespace) -> None:
    from envs.corpus import CorpusSpec  # noqa: PLC0415 - heavy
    from trainers.compose import Sounds, compose  # noqa: PLC0415 - heavy

    speech = None if options.speech is None else (options.speech, options.speech_layout)
    sounds = Sounds(clip_folder(options), speech, options.planner, options.base_url, options.model)
    spec = CorpusSpec(options.ability, options.hours, options.sub_task, options.seed)
    compose(options.out, spec, sounds, options.workers)


def _evaluate(options: argparse.Namespace) -> None:
    quiet_libraries()
    thinking_s = options.thinking
    if isinstance(thinking_s, Path):
        from policies.engine.recording import Recording  # noqa: PLC0415 - heavy

        thinking_s = Recording.load(thinking_s).thinking_times
    if options.out is not None:
        _evaluate_into(options, thinking_s)
        return
    if options.clips is None:
        _evaluate_suite(options, thinking_s)
        return
    from envs.metrics import metrics_json  # noqa: PLC0415 - heavy
    from trainers.evaluation import evaluate_on_clips  # noqa: PLC0415 - heavy

    clips = clip_folder(options)
    assert clips is not None  # one of the two is required
    metrics = evaluate_on_clips(
        options.policy[0], clips, options.seed, options.held_out, thinking_s=thinking_s, traces=options.traces
    )
    if options.json:
        print(json.dumps(metrics_json(metrics), indent=2, allow_nan=False))
    else:
        print(metric_table(metrics))


def _evaluate_into(options: argparse.Namespace, thinking_s: "ThinkingTime") -> None:
    from trainers.judge_command import REPORT, Told, evaluate_into  # noqa: PLC0415 - heavy

    told = Told(
        options.suite or "clips",
        options.data,
        options.tier,
        clip_folder(options),
        options.held_out,
        options.count,
        options.seed,
        thinking_s,
        options.scorer,
    )
    judged = evaluate_into(options.policy, told, options.out)
    if options.json:
        print(json.dumps(judged.to_json(), indent=2, allow_nan=False))
        return
    print(judged.coverage)
    for policy, metrics in judged.metrics.items():
        print(f"\n{policy}\n{metric_table(judged.benchmark.get(policy, metrics))}")
    print(f"\nreport: {options.out / REPORT}")


def _leaderboard(options: argparse.Namespace) -> None:
    from trainers.leaderboard import leaderboard_text, merge  # noqa: PLC0415 - heavy

    rows = merge(options.runs)
    print(json.dumps([row.to_json() for row in rows], indent=2) if options.json else leaderboard_text(rows))


def _evaluate_suite(options: argparse.Namespace, thinking_s: "ThinkingTime") -> None:
    from envs.suites.catalogue import open_suite  # noqa: PLC0415 - heavy
    from trainers.run_folder import check_out  # noqa: PLC0415 - heavy
    from trainers.suite_run import read_scorer, run_suite  # noqa: PLC0415 - heavy

    scorer = None if options.scorer is None else read_scorer(options.scorer)
    suite = open_suite(options.suite, options.data, options.tier, scorer)
    if (suite.coverage.short or not suite.coverage.complete) and not options.json:
        print(suite.coverage, flush=True)
    if options.predictions is not None:
        check_out(options.predictions.parent)
    run = run_suite(options.policy[0], suite, options.seed, thinking_s=thinking_s, offline=options.offline)
    if options.predictions is not None:
        run.write_predictions(options.predictions)
    if options.json:
        print(json.dumps(run.to_json(), indent=2, allow_nan=False))
    else:
        print("\n".join([metric_table(run.metrics), *(f"{name}: {note}" for name, note in suite.notes.items())]))


def _score(options: argparse.Namespace) -> None:
    if options.semantic not in (None, "chrf"):
        quiet_libraries()
    from trainers.suite_run import score_file, scores_text, semantic_match  # noqa: PLC0415 - heavy

    semantic = semantic_match(options.semantic)
    numbers = score_file(options.predicted, options.data, options.mode, options.tier, semantic)
    print(json.dumps(numbers, indent=2, allow_nan=False) if options.json else scores_text(numbers))


def _reward(options: argparse.Namespace) -> None:
    from trainers.reward_compare import compare_reward_files  # noqa: PLC0415 - heavy

    compare_reward_files(options.rewards, options.traces, options.out, sys.stdout, options.json)


def _listen(options: argparse.Namespace) -> None:
    quiet_libraries()
    from trainers.listen import Microphone, listen  # noqa: PLC0415 - heavy

    listen(
        Microphone() if options.microphone else options.file,
        options.policy,
        sys.stdout,
        options.json,
        realtime=options.realtime,
        bias=options.bias,
        full_duplex=options.full_duplex,
        logs=options.logs,
        record=options.record,
    )


def _serve(options: argparse.Namespace) -> None:
    quiet_libraries()
    with needs_serve():
        from policies.server.serve import serve  # noqa: PLC0415 - heavy, and an extra

    serve(
        options.policy,
        options.host,
        options.port,
        options.slots,
        options.api_key_env,
        options.allow_origin,
        speak=options.speak,
        vad=options.vad or ("silero" if options.speak else "energy"),
        full_duplex=options.full_duplex,
    )


def _watch(options: argparse.Namespace) -> None:
    if options.policy is not None:
        quiet_libraries()
    from trainers.watch import watch  # noqa: PLC0415 - heavy

    print(watch(options.ability, options.sub_task, options.seed, options.out, options.policy))


def _plan(options: argparse.Namespace) -> None:
    from envs.curation import planner_from_options  # noqa: PLC0415 - heavy
    from trainers.plan import show_plans  # noqa: PLC0415 - heavy

    planner = planner_from_options(options.planner, options.base_url, options.model)
    seeds = range(options.seed, options.seed + options.count)
    show_plans(planner, clip_folder(options), seeds, sys.stdout, options.json)


def _convert(options: argparse.Namespace) -> None:
    quiet_libraries()
    from policies.conversion.audio_interaction import convert_audio_interaction  # noqa: PLC0415 - heavy

    convert_audio_interaction(options.source, options.out)
    print(f"policy: {options.out}")


COMMANDS: dict[str, Command] = {
    "quickstart": _quickstart,
    "train": _train,
    "compose": _compose,
    "evaluate": _evaluate,
    "reward": _reward,
    "leaderboard": _leaderboard,
    "score": _score,
    "listen": _listen,
    "serve": _serve,
    "watch": _watch,
    "plan": _plan,
    "convert": _convert,
    "bench": bench,
}


if __name__ == "__main__":
    sys.exit(main())
