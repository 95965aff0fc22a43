"""Benchmark suites on the command line: play one through the engine, and score a prediction file of anybody's."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import ScenarioError
from envs.files import write_text
from envs.metrics import Metric
from envs.suites import Suite
from envs.suites.catalogue import SUITES
from envs.suites.proactive_predictions import read_predictions
from envs.suites.proactive_scores import CHRF_MATCH, Mode, SemanticMatch, score_predictions
from envs.suites.proactive_sound_bench import ProactiveSoundBench
from envs.thinking import ThinkingTime
from envs.trace import Trace
from trainers.evaluation import load_player, play

NUM_SLOTS = 64
RERANKER_THRESHOLD = 0.5


@dataclass(frozen=True)
class SuiteRun:
    """A suite that was played: its traces in the order of its items, and its numbers."""

    suite: Suite
    traces: list[Trace]
    metrics: dict[str, Metric]

    def to_json(self) -> dict[str, Any]:
        """Return coverage, then every metric, as plain JSON types."""
        return {
            "coverage": self.suite.coverage.to_json(),
            **{name: metric.to_json() for name, metric in self.metrics.items()},
        }

    def write_predictions(self, path: Path) -> None:
        """Write the suite's own prediction file; it appears under its name when it is whole.

        Raises:
            OSError: when it cannot be written.
        """
        write_text(path, "".join(f"{json.dumps(line)}\n" for line in self.suite.predictions(self.traces)))


def run_suite(
    policy: str, suite: Suite, seed: int = 0, num_slots: int = NUM_SLOTS, thinking_s: ThinkingTime = 0.0
) -> SuiteRun:
    """Play a suite, `num_slots` of its items at once.

    Args:
        policy: A baseline's name (all but the oracle), or a policy folder.
        suite: What is played; only the items that are there.
        seed: Of what a baseline draws.
        num_slots: Streams at once.
        thinking_s: See `play`.

    Raises:
        PolicyError: when the policy is neither a baseline nor a usable folder.
        ScenarioError: when no item is there.
        AudioError: when a recording cannot be decoded.
    """
    seeds = suite.seeds
    if not seeds:
        raise ScenarioError(f"{suite.name}: {suite.coverage}; put its recordings where the manifest says")
    player = load_player(policy, min(num_slots, len(seeds)), seed)
    traces = play(
        player.policy,
        suite.scenario,
        seeds,
        num_slots=min(num_slots, len(seeds)),
        tokenizer=player.tokenizer,
        tokens_per_chunk=player.tokens_per_chunk,
        thinking_s=thinking_s,
    )
    return SuiteRun(suite, traces, suite.score(traces))


def open_suite(name: str, folder: Path, tier: str) -> Suite:
    """Return a suite of `SUITES`.

    Raises:
        ManifestError: when the folder does not hold its release.
    """
    return SUITES[name](folder, tier)


def semantic_match(chosen: str | None) -> SemanticMatch | None:
    """Return what a reply's words are judged by: "chrf", or a reranker's folder; None: they are not.

    Raises:
        PolicyError: when the folder is no reranker's.
    """
    if chosen is None or chosen == CHRF_MATCH.name:
        return None if chosen is None else CHRF_MATCH
    from policies.reranker import Reranker  # noqa: PLC0415 - torch is heavy

    return SemanticMatch(chosen, RERANKER_THRESHOLD, Reranker(Path(chosen)).best)


def score_file(
    predictions: Path, folder: Path, mode: Mode, tier: str = "single", semantic: SemanticMatch | None = None
) -> dict[str, Any]:
    """Return every number of a prediction file for Proactive-Sound-Bench, with `accuracy` at the top level.

    Args:
        predictions: JSON Lines, as `envs.suites.proactive_predictions` describes.
        folder: Holds the two manifests; no recording is needed.
        mode: See `envs.suites.proactive_scores`.
        tier: Which one was played. Of "multiple" there are also accuracies by the number of sounds in a stream.
        semantic: What replies are judged by.

    Raises:
        ManifestError: when a manifest cannot be used, or the predictions are not in UTF-8.
        OSError: when the predictions cannot be read.
    """
    suite = ProactiveSoundBench.read(folder, tier)
    items = [item for stream in suite.streams for item in stream]
    read = read_predictions(predictions, {item.id for item in items})
    _name_faults(read.malformed, read.published_stops if mode == "official" else "")
    sizes = suite.stream_sizes if tier == "multiple" else None
    return {"suite": suite.name, "tier": tier, **score_predictions(items, read, mode, semantic).to_json(sizes)}


def _name_faults(malformed: Sequence[object], published_stops: str) -> None:
    lines = [f"malformed: {record}" for record in malformed[:10]]
    if len(malformed) > len(lines):
        lines.append(f"malformed: {len(malformed)} lines, of which {len(lines)} are named")
    if published_stops:
        lines.append(f"the published scorer gives no number for this file: {published_stops}")
    print("".join(f"soundflow: {line}\n" for line in lines), end="", file=sys.stderr, flush=True)


def scores_text(numbers: dict[str, Any]) -> str:
    """Return what `score_file` gave as a page to read."""
    semantic, timing = numbers["semantic"], numbers["timing"]
    judged = "decisions alone" if semantic is None else f"replies by {semantic['by']} above {semantic['threshold']}"
    balanced = numbers["balanced_accuracy"]
    lines = [
        f"{numbers['suite']}, {numbers['tier']} tier, {numbers['mode']}, {judged}",
        _line("accuracy", numbers),
        f"{'balanced accuracy':64s} {'none' if balanced is None else f'{balanced:.4f}':>8s}",
        f"{'accuracy of decisions':64s} {numbers['decision_accuracy']:8.4f}",
        _line("RESPOND", numbers["respond"]),
        _line("IGNORE", numbers["ignore"]),
    ]
    for part in ("domains", "sub_domains", "stream_sizes"):
        lines += [_line(f"{part[:-1].replace('_', '-')} {k}", share) for k, share in numbers.get(part, {}).items()]
    if timing is not None:
        lines.append(
            f"latency p50 {timing['latency_p50_s']:.2f} s, p95 {timing['latency_p95_s']:.2f} s over {timing['count']}"
        )
    lines.append(", ".join(f"{name} {count}" for name, count in numbers["counts"].items()))
    return "\n".join(lines)


def _line(name: str, share: dict[str, Any]) -> str:
    return f"{name:64s} {share['accuracy']:8.4f}   {share['correct']} of {share['total']}"
