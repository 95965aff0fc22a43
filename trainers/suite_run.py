"""Benchmark suites on the command line: play one through the engine, and score a prediction file of anybody's.

A suite whose items make sense without a stream is answered offline as well, by the same policy, where that is asked
for: the two numbers of one model stand beside each other.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from envs.errors import ConfigError, PolicyError, ScenarioError
from envs.files import write_text
from envs.metrics import Metric, metrics_json
from envs.rewards.scorers import scorer_from_config
from envs.rewards.scoring import Scorer
from envs.suites import OfflineSuite, Suite, hear
from envs.suites.proactive_predictions import read_predictions
from envs.suites.proactive_scores import CHRF_MATCH, Mode, SemanticMatch, score_predictions
from envs.suites.proactive_sound_bench import RELEASED, ProactiveSoundBench
from envs.suites.voicebench import JUDGE_PROMPT
from envs.thinking import ThinkingTime, check_thinking
from envs.trace import Trace
from trainers.config_loading import read_yaml
from trainers.evaluation import GATE_FILE, JUDGED_BASELINES, load_player, plain_name

NUM_SLOTS = 64
RERANKER_THRESHOLD = 0.5
OFFLINE = "offline_"  # what the names of offline numbers begin with
_QUESTIONS = 256  # recordings that are in memory at once


@dataclass(frozen=True)
class SuiteRun:
    """A suite that was played: its traces in the order of its items, and its numbers.

    Attributes:
        suite: What was played.
        traces: Of its items, in order.
        metrics: Streamed numbers, then offline ones.
        answers: Offline, in the order of the items; empty where none were asked for.
    """

    suite: Suite
    traces: list[Trace]
    metrics: dict[str, Metric]
    answers: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return coverage, every metric, then the notes on them, as plain JSON types."""
        return {
            "coverage": self.suite.coverage.to_json(),
            **metrics_json(self.metrics),
            "notes": dict(self.suite.notes),
        }

    def write_predictions(self, path: Path) -> None:
        """Write the suite's own prediction file; it appears under its name when it is whole.

        Where there are answers, each line has its own as `offline`.

        Raises:
            OSError: when it cannot be written.
        """
        lines = self.suite.predictions(self.traces)
        if self.answers:
            lines = [{**line, "offline": said} for line, said in zip(lines, self.answers, strict=True)]
        write_text(path, "".join(f"{json.dumps(line)}\n" for line in lines))


def run_suite(
    policy: str,
    suite: Suite,
    seed: int = 0,
    num_slots: int = NUM_SLOTS,
    thinking_s: ThinkingTime = 0.0,
    offline: bool = False,
) -> SuiteRun:
    """Play a suite, `num_slots` of its items at once.

    Args:
        policy: A baseline's name (all but the oracle), or a policy folder.
        suite: What is played; only the items that are there.
        seed: Of what a baseline draws.
        num_slots: Streams at once.
        thinking_s: See `play`.
        offline: Ask every item offline as well.

    Raises:
        PolicyError: when the policy is neither a baseline nor a usable folder, or cannot be asked offline.
        ScenarioError: when no item is there, the suite has no meaning offline, or nobody can think for so long.
        AudioError: when a recording cannot be decoded.
    """
    check_thinking(thinking_s)
    seeds = suite.seeds
    if not seeds:
        raise ScenarioError(f"{suite.name}: {suite.coverage}; put its recordings where the release has them")
    answers = ask_offline(policy, suite) if offline else []
    slots = min(num_slots, len(seeds))
    player = load_player(policy, slots, seed)
    with tqdm(total=len(seeds), unit="stream", desc=suite.name) as bar:
        traces = player.play(partial(hear, suite, suite.scenario), seeds, slots, thinking_s, bar.update)
    metrics = suite.score(traces)
    if isinstance(suite, OfflineSuite) and answers:
        asked = suite.score_answers(seeds, answers)
        metrics |= {f"{OFFLINE}{name}": metric for name, metric in asked.items()}
    return SuiteRun(suite, traces, metrics, answers)


def ask_offline(policy: str, suite: Suite) -> list[str]:
    """Return a policy's answers to whole clips, in the order of the suite's items.

    Raises:
        PolicyError: when the policy is no folder of a language model.
        ScenarioError: when the suite has no meaning offline.
        AudioError: when a recording cannot be decoded, or lasts more than two minutes.
    """
    if not isinstance(suite, OfflineSuite):
        raise ScenarioError(f"--offline: {suite.name} is about the moment of a reply, and has no meaning offline")
    policy = plain_name(policy)
    if policy in JUDGED_BASELINES or (Path(policy) / GATE_FILE).exists():
        raise PolicyError(f"--offline: {policy} has no words of its own; give the folder of a language model")
    from policies.lalm_policy import LALMPolicy  # noqa: PLC0415 - torch is heavy

    loaded, answers = LALMPolicy.from_pretrained(Path(policy)), list[str]()
    for first in range(0, len(suite.seeds), _QUESTIONS):
        asked = [hear(suite, suite.question, seed) for seed in suite.seeds[first : first + _QUESTIONS]]
        answers += loaded.answer([one.audio for one in asked], [one.instruction for one in asked])
    return answers


def read_scorer(path: Path) -> Scorer:
    """Return the scorer that a YAML file describes, as `envs.rewards.scorers` builds it; a judge is told of questions.

    Raises:
        ConfigError: when the file cannot be read, or describes none.
        SoundFlowError: of the scorer itself.
    """
    entry = read_yaml(path)
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: expected a scorer, such as {{name: judge, args: {{base_url: URL, model: NAME}}}}")
    if entry.get("name") == "judge" and isinstance(entry.get("args"), dict):
        entry = {**entry, "args": {"prompt": JUDGE_PROMPT, **entry["args"]}}
    return scorer_from_config(entry)


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
    scores = score_predictions(items, read, mode, semantic).to_json(sizes)
    return {"suite": suite.name, "tier": tier, "released": RELEASED, **scores}


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
    balanced, counts = numbers["balanced_accuracy"], numbers["counts"]
    lacks = (
        f"; incomplete: {counts['missing']} of {counts['items']} recordings have no line" if counts["missing"] else ""
    )
    lines = [
        f"{numbers['suite']}, {numbers['tier']} tier, {numbers['mode']}, {judged}{lacks}",
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
    lines.append(", ".join(f"{name} {count}" for name, count in counts.items()))
    if counts["items"] < numbers["released"]:
        lines.append(f"{counts['items']} of {numbers['released']} released recordings are named")
    return "\n".join(lines)


def _line(name: str, share: dict[str, Any]) -> str:
    return f"{name:64s} {share['accuracy']:8.4f}   {share['correct']} of {share['total']}"
