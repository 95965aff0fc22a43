"""`soundflow evaluate --out`: several policies on one suite, block by block; what a kill interrupts goes on.

    OUT/command.json                            what was asked for; another command is refused
    OUT/traces/SUITE/POLICY/block-000000.jsonl  64 streams, written whole
    OUT/predictions/SUITE/POLICY.jsonl          what was said, as the suite's authors write it
    OUT/metrics.json, leaderboard.json, report.html

Everything below `traces` is computed from the traces on disk, so that a run that went on after a kill, and one that was
left alone, write the same.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from tqdm import tqdm

from envs.clip_library import ClipLibrary
from envs.curves import ranking_metrics, units
from envs.errors import ConfigError, ScenarioError
from envs.files import remove_leftovers, write_text
from envs.metrics import Metric, compare, evaluate_traces, metrics_json
from envs.suites import Coverage, Suite, hear
from envs.thinking import ThinkingTime, check_thinking
from envs.trace import Trace
from envs.trace_files import read_traces, write_block
from policies.base import Numbered
from trainers.conditions import stream_words, thinking_words
from trainers.evaluation import JUDGED_BASELINES, check_player, load_player, plain_name
from trainers.run_folder import check_out

BLOCK = 64  # streams that a kill may cost, and that are played at once
COMMAND = "command.json"
METRICS = "metrics.json"


@dataclass(frozen=True)
class Judged:
    """What was played, and every number of it.

    Attributes:
        suite: As on the command line.
        tier: Of the suite; blank: it has none.
        coverage: What of the suite was there.
        notes: How the suite's numbers are made.
        conditions: What they depend on beside that: those of others are not ranked together (`trainers.conditions`).
        seed: Of the streams and of what baselines draw.
        traces: By policy, in the order of the suite's seeds.
        metrics: By policy: the metrics of `envs.metrics`, the same for every suite.
        benchmark: By policy: the numbers of the suite itself; empty where it has no others.
        ranking: By policy: average precision and equal error rate (`envs.curves`).
        differences: By pair of policies: the first minus the second, of every number of these three kinds.
    """

    suite: str
    tier: str
    coverage: Coverage
    notes: Mapping[str, str]
    conditions: Mapping[str, str]
    seed: int
    traces: dict[str, list[Trace]]
    metrics: dict[str, dict[str, Metric]]
    benchmark: dict[str, dict[str, Metric]]
    ranking: dict[str, dict[str, Metric]]
    differences: dict[tuple[str, str], dict[str, dict[str, Metric]]]

    def to_json(self) -> dict[str, Any]:
        """Return all but the traces as plain JSON types."""
        parts = {"metrics": self.metrics, "benchmark": self.benchmark, "ranking": self.ranking}
        policies = {
            name: {part: metrics_json(by_policy[name]) for part, by_policy in parts.items() if name in by_policy}
            for name in self.metrics
        }
        differences = [
            {"first": first, "second": second, **{part: metrics_json(metrics) for part, metrics in parts.items()}}
            for (first, second), parts in self.differences.items()
        ]
        numbers = {
            "tier": self.tier,
            "seed": self.seed,
            "coverage": self.coverage.to_json(),
            "notes": dict(self.notes),
            "conditions": dict(self.conditions),
            "policies": policies,
            "differences": differences,
        }
        return {"suites": {self.suite: numbers}}


@dataclass(frozen=True)
class Question:
    """What is judged: a suite, and how it is played.

    Attributes:
        suite: It is played whole, as far as it is there.
        tier: Of the suite; blank: it has none.
        seed: Of what baselines draw, and of the bootstrap.
        thinking_s: See `play`.
        learned: Recordings that the classifier learns from, beside built-in sounds.
        domains: The categories of sounds by label, where they are no built-in ones.
        told: What else the command was told, such as where the recordings lie; a change of it is refused.
        conditions: What the numbers depend on beside suite, tier, streams and thinking time.
    """

    suite: Suite
    tier: str = ""
    seed: int = 0
    thinking_s: ThinkingTime = 0.0
    learned: ClipLibrary | None = None
    domains: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)


def judge(policies: Sequence[str], question: Question, out: Path, num_slots: int = BLOCK) -> Judged:
    """Play what is not on disk yet, then compute every number; `metrics.json` is written.

    Args:
        policies: Baselines' names (all but the oracle), policy folders, gates' folders.
        question: What is played.
        out: A new folder, or that of the same command.
        num_slots: Streams at once. Results do not depend on it.

    Raises:
        ConfigError: when a policy is named twice, `out` cannot be written, or is another command's.
        PolicyError: when a policy is neither a baseline nor a usable folder.
        ScenarioError: when nothing of the suite is there, nobody can think for so long, or a block on disk cannot be
            read.
        AudioError: when a recording cannot be decoded.
    """
    check_out(out)
    check_thinking(question.thinking_s)
    named = policy_names([plain_name(policy) for policy in policies])
    for policy in named.values():
        check_player(policy)
    suite = question.suite
    if not suite.seeds:
        raise ScenarioError(f"{suite.name}: {suite.coverage}; put its recordings where the manifest says")
    _claim(out, _command(named, question))
    folders = {name: out / "traces" / suite.name / name for name in named}
    for name, policy in named.items():
        _play_blocks(name, policy, question, folders[name], num_slots)
    traces = {name: _read_blocks(folder, suite.seeds) for name, folder in folders.items()}
    judged = _numbers_of(question, traces)
    if judged.benchmark:
        for name, played in traces.items():
            lines = "".join(f"{json.dumps(line)}\n" for line in suite.predictions(played))
            write_text(out / "predictions" / suite.name / f"{name}.jsonl", lines)
    write_text(out / METRICS, json.dumps(judged.to_json(), indent=2, allow_nan=False) + "\n")
    return judged


def policy_names(policies: Sequence[str]) -> dict[str, str]:
    """Return what each policy is called, and where it is; of a folder's path as much as tells it from the others.

    >>> policy_names(["energy", "runs/a/policy", "runs/b/policy"])
    {'energy': 'energy', 'a-policy': 'runs/a/policy', 'b-policy': 'runs/b/policy'}

    Raises:
        ConfigError: when one is given twice.
    """
    places = [policy if policy in JUDGED_BASELINES else str(Path(policy).resolve()) for policy in policies]
    twice = next((policy for policy, place in zip(policies, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise ConfigError(f"--policy {twice} is given twice; name each policy once")
    longest = max(2, *(len(Path(policy).parts) for policy in policies))
    for depth in range(2, longest + 1):
        names = [_tail(policy, depth) for policy in policies]
        if len(set(names)) == len(names):
            return dict(zip(names, policies, strict=True))
    counted = Counter[str]()
    names = []
    for policy in policies:
        counted[_tail(policy, longest)] += 1
        names.append(f"{_tail(policy, longest)}-{counted[_tail(policy, longest)]}")
    return dict(zip(names, policies, strict=True))


def _tail(policy: str, depth: int) -> str:
    parts = [part for part in Path(policy).parts if part.strip("./\\")]
    return "-".join(parts[-depth:]) or "policy"


def _command(named: Mapping[str, str], question: Question) -> dict[str, Any]:
    suite, thinking_s = question.suite, question.thinking_s
    return {
        "--policy": {name: {"given": policy, "sha256": _digest(policy)} for name, policy in named.items()},
        "--suite": suite.name,
        "--seed": question.seed,
        **question.told,
        "tier": question.tier,
        "streams": len(suite.seeds),
        "coverage": suite.coverage.to_json(),
        "--thinking": thinking_s if isinstance(thinking_s, int | float) else [float(x) for x in thinking_s],
        "block": BLOCK,
    }


def _digest(policy: str) -> str | None:
    """Return a hash of what a policy's folder holds; None for a baseline, even beside a folder of its name."""
    if policy in JUDGED_BASELINES:
        return None
    digest, folder = hashlib.sha256(), Path(policy)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "README.md"):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _claim(out: Path, command: dict[str, Any]) -> None:
    """Write down what was asked for, or refuse another command; one that has played nothing yet is forgotten.

    Raises:
        ConfigError: naming the first key that differs, or what is in a folder that is no evaluation's.
    """
    path = out / COMMAND
    if not path.is_file():
        foreign = sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) if out.is_dir() else []
        if foreign:
            raise ConfigError(
                f"--out {out}: holds {foreign[0]!r} and no {COMMAND} of an evaluation; name a new or an empty folder"
            )
    if next(out.glob("traces/*/*/block-*.jsonl"), None) is None:
        write_text(path, json.dumps(command, indent=2, allow_nan=False) + "\n")
    remove_leftovers(out, "*.json")
    before = read_command(out)
    asked = json.loads(json.dumps(command))
    for key in [*asked, *(key for key in before if key not in asked)]:
        was, now = _differing(before.get(key), asked.get(key))
        if was != now:
            raise ConfigError(
                f"--out {out} was begun by another command: {key} was {_short(was)}, is now"
                f" {_short(now)}; give the same command, or name another folder"
            )


def read_command(out: Path) -> dict[str, Any]:
    """Return what the evaluation of a folder was asked for.

    Raises:
        ConfigError: when the file is no longer what was written.
    """
    path = out / COMMAND
    try:
        command = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}; name another folder for --out") from error
    if not isinstance(command, dict):
        raise ConfigError(f"{path}: not an object; name another folder for --out")
    return command


def _differing(was: object, now: object) -> tuple[object, object]:
    """Return of two objects what differs between them; of anything else both."""
    if not isinstance(was, dict) or not isinstance(now, dict):
        return was, now
    same = {key for key in was if key in now and was[key] == now[key]}
    return {k: v for k, v in was.items() if k not in same}, {k: v for k, v in now.items() if k not in same}


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _blocks(seeds: Sequence[int]) -> list[Sequence[int]]:
    return [seeds[first : first + BLOCK] for first in range(0, len(seeds), BLOCK)]


def _file(folder: Path, number: int) -> Path:
    return folder / f"block-{number:06d}.jsonl"


def _play_blocks(name: str, policy: str, question: Question, folder: Path, num_slots: int) -> None:
    """Play the blocks of one policy that are not there; the policy is loaded only if any is missing."""
    suite, blocks = question.suite, _blocks(question.suite.seeds)
    remove_leftovers(folder, "block-*")
    todo = [number for number in range(len(blocks)) if not _file(folder, number).exists()]
    if not todo:
        return
    there = len(suite.seeds) - sum(len(blocks[number]) for number in todo)
    slots = min(num_slots, len(suite.seeds))
    with tqdm(total=len(suite.seeds), initial=there, unit="stream", desc=f"{suite.name}: {name}") as bar:
        player = load_player(policy, slots, question.seed, question.learned)
        scenarios = partial(hear, suite, suite.scenario)
        for number in todo:
            if isinstance(player.policy, Numbered):  # its draws do not depend on which blocks this process plays
                player.policy.episodes = number * BLOCK
            played = player.play(scenarios, blocks[number], slots, question.thinking_s, bar.update)
            write_block(_file(folder, number), played)


def _read_blocks(folder: Path, seeds: Sequence[int]) -> list[Trace]:
    """Return the traces of all blocks, in order.

    Raises:
        ScenarioError: naming the file, when a block holds other traces than it should.
    """
    blocks = _blocks(seeds)
    foreign = sorted(set(folder.glob("*.jsonl")) - {_file(folder, number) for number in range(len(blocks))})
    if foreign:
        raise ScenarioError(f"{foreign[0]}: not of this evaluation; move it away")
    traces = read_traces(folder)
    if len(traces) != len(seeds):
        raise ScenarioError(f"{folder} holds {len(traces)} traces, expected {len(seeds)}; remove the folder, and go on")
    for number, (trace, seed) in enumerate(zip(traces, seeds, strict=True)):
        if trace.seed != seed:
            file = _file(folder, number // BLOCK)
            raise ScenarioError(f"{file}: holds stream {trace.seed} in place of {seed}; remove it, and go on")
    return traces


def _numbers_of(question: Question, traces: dict[str, list[Trace]]) -> Judged:
    suite, seed = question.suite, question.seed
    print(f"soundflow: {suite.name}: computing intervals", file=sys.stderr, flush=True)
    metrics = {name: evaluate_traces(played, seed) for name, played in traces.items()}
    scores = {name: suite.score(played) for name, played in traces.items()}
    own = any(scores[name].keys() != metrics[name].keys() for name in traces)  # or it has no others
    kinds = {
        "metrics": metrics,
        "benchmark": scores if own else {},
        "ranking": {name: ranking_metrics([units(trace) for trace in played], seed) for name, played in traces.items()},
    }
    differences = {
        (a, b): {kind: compare(by_policy[a], by_policy[b]) for kind, by_policy in kinds.items() if by_policy}
        for a, b in combinations(traces, 2)
    }
    conditions = {"thinking": thinking_words(question.thinking_s), **question.conditions}
    if suite.coverage.complete:  # else they are fewer than those of who has all of them
        conditions["streams"] = stream_words(next(iter(traces.values())))
    return Judged(
        suite.name, question.tier, suite.coverage, suite.notes, conditions, seed, traces, **kinds,
        differences=differences,
    )  # fmt: skip
