"""What each command of the command line can be told. Nothing heavy is imported here: `--help` answers at once."""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from envs import ABILITY_NAMES
from envs.speech.corpora import SPEECH_LAYOUTS
from envs.suites.catalogue import SUITES
from envs.suites.proactive_scores import MODES
from envs.suites.proactive_sound_bench import TIERS, ProactiveSoundBench
from trainers.bench_commands import add_bench
from trainers.built_in_suites import ABILITY_OF, BUILT_IN_SUITES
from trainers.options import (
    PLAIN_CLIPS,
    add_clips,
    add_json,
    add_run,
    positive_number,
    read_count,
    read_number,
    read_seed,
    whole_number,
)

Command = Callable[[argparse.Namespace], None]
MOST_WORKERS = 1024


def parse(commands: Mapping[str, Command], arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `command` of the result is what to call with it.

    Overrides may stand anywhere after the command, which argparse alone does not allow.
    """
    parser = argparse.ArgumentParser(prog="soundflow", description="Audio agents that know when to speak.")
    parser.add_argument("--version", action="version", version=f"soundflow {version('soundflow')}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (purpose, add_arguments) in _COMMANDS.items():
        command = subparsers.add_parser(name, help=purpose, description=purpose)
        add_arguments(command)
        command.set_defaults(command=commands[name])
    options, rest = parser.parse_known_args(arguments)
    strays = [word for word in rest if word.startswith("-") or "overrides" not in options]
    if strays:
        parser.error(f"unrecognized arguments: {' '.join(strays)}")
    if rest:
        options.overrides += rest
    read_otherwise = "clips" in options and (options.layout, options.allow_broken, options.fold) != PLAIN_CLIPS
    if read_otherwise and options.clips is None:
        parser.error("--layout, --allow-broken and --fold say how --clips is read; name a folder with it")
    if "suite" in options:
        _check_judged_on(parser, options)
    if "speech" in options and (options.speech is None) != (options.speech_layout is None):
        parser.error("--speech and --speech-layout go together")
    return options


def _quickstart(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="default: %(default)s")
    add_clips(command, "a folder of recordings")
    add_run(command)


def _train(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", type=Path, help="a YAML file whose key `kind` says what is trained")
    command.add_argument("--out", type=Path, help="a folder; default: runs/ and the name of CONFIG")
    add_clips(command, "a folder of recordings to train on beside built-in sounds")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as streaming.steps=300")


def _compose(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, help="a folder; what is there already is kept")
    command.add_argument(
        "--hours", type=positive_number("hours"), required=True, metavar="H", help="how long its streams are together"
    )
    command.add_argument("--ability", choices=ABILITY_NAMES, default="Mixed", help="default: %(default)s")
    command.add_argument("--sub-task", metavar="NAME", help="of the ability; default: all of them")
    add_clips(command, "a folder of recordings for half of the sounds", held_out=False)
    command.add_argument("--speech", type=Path, help="a folder of recorded speech; default: espeak-ng speaks")
    command.add_argument("--speech-layout", choices=SPEECH_LAYOUTS, help="how that folder is laid out")
    _add_planner(command, None, "of the ability Proactive; default: sounds in any order")
    command.add_argument("--seed", type=read_seed, default=0, metavar="N", help="of the streams; default: %(default)s")
    command.add_argument(
        "--workers", type=whole_number(1, MOST_WORKERS), default=2, metavar="N", help="processes; default: %(default)s"
    )


def _thinking(text: str) -> float | Path:
    try:
        return float(text)
    except ValueError:
        return Path(text)


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--policy",
        required=True,
        action="append",
        help="a policy or gate folder, or a baseline, energy or baseline:energy: silent, always, random, energy, vad,"
        " classifier (trained first); with --out it may be given several times",
    )
    add_clips(command, "a folder of recordings")
    command.add_argument(
        "--suite",
        choices=[*SUITES, *BUILT_IN_SUITES],
        help="a benchmark in place of --clips; with --out also streams of built-in sounds",
    )
    command.add_argument("--out", type=Path, help="write numbers, traces, a leaderboard and a page there, or go on")
    command.add_argument("--count", type=read_count, metavar="N", help="streams of built-in sounds; default: 256")
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="holds the release of that benchmark, where it is not built in"
    )
    tiers = "; ".join(f"of {name} {', '.join(kind.tiers)}" for name, kind in SUITES.items())
    command.add_argument("--tier", metavar="NAME", help=f"a part of that benchmark: {tiers}; default: the first")
    command.add_argument(
        "--scorer",
        type=Path,
        metavar="YAML",
        help="judges answers to open questions, such as {name: judge, args: {base_url: URL, model: NAME, cache: FILE}}",
    )
    command.add_argument("--offline", action="store_true", help="ask whole clips as well, where that has a meaning")
    command.add_argument(
        "--predictions", type=Path, metavar="FILE", help="write what was said there, as its authors do"
    )
    command.add_argument(
        "--held-out",
        type=_part,
        metavar="SHARE",
        help="judge on this share of the recordings, those that every run with this --fold holds out (0.3 of them by"
        " default); the classifier learns from the others; default: judge on all",
    )
    command.add_argument(
        "--thinking",
        type=_thinking,
        default=0.0,
        metavar="S",
        help="seconds from a chunk's end to a decision, or a recording of an engine to draw them from; default: 0",
    )
    command.add_argument("--traces", type=Path, metavar="DIR", help="write there what happened in each stream")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--seed", type=read_seed, default=0, metavar="N", help="of the streams; default: %(default)s")


def _reward(command: argparse.ArgumentParser) -> None:
    parts = command.add_subparsers(required=True, metavar="PART", dest="part")
    purpose = "score stored traces under several rewards, and say how each ranks the policies"
    compare = parts.add_parser("compare", help=purpose, description=purpose)
    compare.add_argument("rewards", nargs="+", type=Path, metavar="YAML", help="a run's file, or the list `reward:`")
    compare.add_argument("--traces", type=Path, required=True, metavar="DIR", help="holds a folder for each policy")
    compare.add_argument("--out", type=Path, metavar="FILE", help="a page (.html) with tables and curves")
    add_json(compare)


def _check_judged_on(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with usage unless recordings or a suite are named, each with its own options."""
    suite = "clips" if options.suite is None else options.suite
    published = suite not in BUILT_IN_SUITES
    if (suite == "clips") != (options.clips is not None):
        parser.error("name either --clips or --suite")
    if published and options.data is None and SUITES[suite].built_in is None:
        parser.error(f"--suite {suite} wants --data")
    if not published and options.data is not None:
        parser.error("--data is of a benchmark")
    if not published and (options.tier, options.predictions, options.offline, options.scorer) != (
        None, None, False, None,
    ):  # fmt: skip
        parser.error("--tier, --predictions, --offline and --scorer are of a benchmark")
    if suite != "clips" and options.held_out is not None:
        parser.error("--held-out is of --clips")
    if options.fold and options.held_out is None:
        parser.error("--fold says which part of the recordings --held-out takes; say how much of them")
    if suite != "clips" and options.out is None and options.traces is not None:
        parser.error("--traces is of --clips; --out writes those of a suite")
    if options.count is not None and suite not in ABILITY_OF:
        parser.error(f"--count is of --suite {' or '.join(ABILITY_OF)}")
    if options.out is None and (suite in ABILITY_OF or len(options.policy) > 1):
        parser.error("several policies, and suites of built-in sounds, need --out")
    if options.out is not None and (options.traces, options.predictions) != (None, None):
        parser.error("--out writes traces and predictions itself; leave --traces and --predictions out")
    if options.out is not None and options.offline:
        parser.error("--offline answers are no streams: leave --out out, or --offline")


def _leaderboard(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="what evaluate --out wrote")
    add_json(command)


def _score(command: argparse.ArgumentParser) -> None:
    command.add_argument("suite_name", choices=[ProactiveSoundBench.name], metavar="SUITE", help="%(choices)s")
    command.add_argument("predicted", type=Path, metavar="PRED", help="JSON Lines, in the benchmark's own format")
    command.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds its manifests; no audio needed")
    command.add_argument("--mode", choices=MODES, required=True, help="as its published scorer counts, or without gaps")
    command.add_argument("--tier", choices=TIERS, default="single", help="which was played; default: %(default)s")
    command.add_argument(
        "--semantic",
        metavar="FOLDER|chrf",
        help="replies have to match the references too, by a reranker's folder or by chrF; default: decisions alone",
    )
    add_json(command)


def _listen(command: argparse.ArgumentParser) -> None:
    heard = command.add_mutually_exclusive_group(required=True)
    heard.add_argument("file", nargs="?", help="audio of any rate, channels and length; -: raw 16-bit mono, 16 kHz")
    heard.add_argument("--microphone", action="store_true", help="listen to the default microphone")
    command.add_argument("--realtime", action="store_true", help="play the file at the pace of the clock")
    command.add_argument("--bias", type=_bias, default=0.0, metavar="B", help="above 0 speaks sooner, below 0 later")
    command.add_argument("--logs", type=Path, metavar="DIR", help="write the engine's statistics there for TensorBoard")
    command.add_argument("--record", type=Path, metavar="FILE", help="keep what was heard, and how long decisions took")
    command.add_argument("--full-duplex", action="store_true", help="listen in the middle of replies, and cut them")
    command.add_argument("--policy", type=Path, default=Path("runs/quickstart/policy"), help="default: %(default)s")
    command.add_argument("--json", action="store_true", help="print one JSON object a line")


def _serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("--policy", type=Path, default=Path("runs/quickstart/policy"), help="default: %(default)s")
    command.add_argument(
        "--host", default="127.0.0.1", help="others than this machine need a key; default: %(default)s"
    )
    command.add_argument(
        "--port",
        type=whole_number(0, 2**16 - 1, "a port"),
        default=8765,
        metavar="N",
        help="0: any; default: %(default)s",
    )
    command.add_argument(
        "--slots", type=read_count, default=64, metavar="N", help="sessions at once; default: %(default)s"
    )
    command.add_argument(
        "--api-key-env",
        default="SOUNDFLOW_API_KEY",
        metavar="NAME",
        help="a variable with the key; default: %(default)s",
    )
    command.add_argument(
        "--allow-origin", action="append", default=[], metavar="URL", help="of pages of other servers; may stand twice"
    )
    command.add_argument("--speak", action="store_true", help="speak replies; the extra `speech`")
    command.add_argument(
        "--vad",
        choices=("energy", "silero"),
        help="speech is what is loud, or a voice (the extra `vad`); default: silero with --speak, else energy",
    )
    command.add_argument("--full-duplex", action="store_true", help="listen in the middle of replies, and cut them")


def _watch(command: argparse.ArgumentParser) -> None:
    command.add_argument("--ability", choices=ABILITY_NAMES, default="Proactive", help="default: %(default)s")
    command.add_argument("--sub-task", metavar="NAME", help="of the ability; default: any")
    command.add_argument("--seed", type=read_seed, default=0, metavar="N", help="of the scenario; default: %(default)s")
    command.add_argument("--policy", type=Path, help="a policy folder; default: an oracle that knows the scenario")
    command.add_argument("--out", type=Path, required=True, help="a .html, .png or .mp4 file")


def _plan(command: argparse.ArgumentParser) -> None:
    _add_planner(command, "grammar", "default: %(default)s")
    add_clips(command, "a folder of recordings; default: built-in sounds", held_out=False)
    command.add_argument(
        "--seed", type=read_seed, default=0, metavar="N", help="of the first scene; default: %(default)s"
    )
    command.add_argument(
        "--count", type=read_count, default=3, metavar="N", help="scenes to plan; default: %(default)s"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("layout", choices=["audio-interaction"], help="what kind of checkpoint it is")
    command.add_argument("source", type=Path, help="its folder")
    command.add_argument("out", type=Path, help="the policy folder to write")


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "quickstart": ("train and judge an agent from scratch, in minutes", _quickstart),
    "train": ("train what a YAML asks for, or go on with it after a kill", _train),
    "compose": ("write a corpus of streams to disk, or go on with one", _compose),
    "evaluate": ("judge policies on streams of sounds, or on a published benchmark", _evaluate),
    "leaderboard": ("show the leaderboards of evaluations as one, beside what was published", _leaderboard),
    "score": ("score a prediction file for a published benchmark", _score),
    "reward": ("compare rewards on stored traces, before training on one", _reward),
    "listen": ("stream a file, a pipe or the microphone through a policy", _listen),
    "serve": ("serve a policy live, by the OpenAI Realtime protocol", _serve),
    "watch": ("show one episode: picture, sound, and what was said", _watch),
    "plan": ("plan scenes in words, and say which sounds were found for them", _plan),
    "convert": ("make a policy of a checkpoint that others trained", _convert),
    "bench": ("measure how fast a part is, on this machine", add_bench),
}


def _add_planner(command: argparse.ArgumentParser, default: str | None, purpose: str) -> None:
    command.add_argument("--planner", choices=["grammar", "llm"], default=default, help=purpose)
    command.add_argument("--base-url", metavar="URL", help="of an OpenAI-compatible endpoint, for the planner llm")
    command.add_argument("--model", metavar="NAME", help="of the endpoint; its key is read from OPENAI_API_KEY")


def _part(text: str) -> float:
    part = read_number(text)
    if not 0 < part < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, got {text!r}")
    return part


def _bias(text: str) -> float:
    bias = read_number(text)
    if not math.isfinite(bias):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return bias
