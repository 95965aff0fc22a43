"""The numbers of Proactive-Sound-Bench, as the published scorer counts them and as they ought to be counted.

*official* gives what the published scorer gives, number for number:

- A recording without a decision leaves the denominator, and so does one that is missing from the file.
- Of several lines with one id the last counts. Ids that the benchmark does not have are left aside.
- Its domains are what follows a folder `/sound_v3/` in a path. No released path has one, so that all recordings are of
  the one domain, and sub-domain, "Unknown".
- With semantic matching a recording to RESPOND to is right when it was answered and its reply, not blank, scores above
  the threshold against one of its references.
- Where nothing is left to divide by, it gives 0.

It ends with an exception, and no number, at some files (`Predictions.published_stops`). We score those all the same,
without the lines it stops at, and say so: that is our reading. Its reranker is FlagEmbedding's, which cuts a reply at
384 tokens; with ours only the pair is cut, at 512.

*strict* counts every recording: one that is missing, undecided, decided both ways in one line, or there twice with
different content, is wrong. Domains and sub-domains are those of the released paths.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from envs.scenario import Decision
from envs.suites.proactive_manifest import BenchItem
from envs.suites.proactive_predictions import Prediction, Predictions
from envs.text_scores import chrf

Mode = Literal["official", "strict"]
MODES: tuple[Mode, ...] = ("official", "strict")
UNKNOWN = "Unknown"
_PUBLISHED_DOMAIN = re.compile(r"/sound_v3/([^/]+)/")
_PUBLISHED_FOLDER = re.compile(r"/sound_v3/([^/]+/[^/]+)/")


@dataclass(frozen=True)
class SemanticMatch:
    """When a reply says what its references say: its best score against them is above the threshold."""

    name: str  # "chrf", or the reranker's folder
    threshold: float
    score: Callable[[str, tuple[str, ...]], float]  # of a reply against its references, in [0, 1]

    def matches(self, reply: str, references: tuple[str, ...]) -> bool:
        """Return whether a reply matches; a blank one does not."""
        return bool(reply and references) and self.score(reply, references) > self.threshold


# Each reference of the release against the others of its recording, and against those of another: above 0.25 are 73 %
# of the first and 22 % of the second. It tells them apart as well as chrF can, and far worse than a reranker.
CHRF_MATCH = SemanticMatch("chrf", 0.25, chrf)


@dataclass(frozen=True)
class Verdict:
    """How a recording was scored."""

    item: BenchItem
    decision: Decision | None  # None: undecided, and in official mode not counted
    decision_right: bool
    right: bool  # with semantic matching where there is any
    latency_s: float | None


@dataclass(frozen=True)
class Scores:
    """What a prediction file is worth in one mode."""

    mode: Mode
    verdicts: tuple[Verdict, ...]  # of every recording, in the release's order
    predictions: Predictions
    semantic: SemanticMatch | None

    @property
    def counted(self) -> tuple[Verdict, ...]:
        """Those in the denominator."""
        return tuple(v for v in self.verdicts if self.mode == "strict" or v.decision is not None)

    @property
    def accuracy(self) -> float:
        """The benchmark's number, in [0, 1]."""
        return float(_share(self.counted)["accuracy"])

    @property
    def balanced_accuracy(self) -> float | None:
        """The mean accuracy over RESPOND and IGNORE, of one alone where the other is not counted; None: neither is."""
        kinds = [of for of in (self._of("RESPOND"), self._of("IGNORE")) if of]
        return float(np.mean([_share(of)["accuracy"] for of in kinds])) if kinds else None

    def _of(self, decision: Decision) -> list[Verdict]:
        return [v for v in self.counted if v.item.decision == decision]

    def to_json(self, stream_sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Return every number as plain JSON types.

        Args:
            stream_sizes: How many sounds the stream of an id has, for accuracies by it.
        """
        counted, semantic = self.counted, self.semantic
        decisions = sum(v.decision_right for v in counted)
        domain, folder = (_published_domain, _published_folder) if self.mode == "official" else (_domain, _sub_domain)
        numbers = {
            "mode": self.mode,
            **_share(counted),
            "balanced_accuracy": self.balanced_accuracy,
            "respond": _share(self._of("RESPOND")),
            "ignore": _share(self._of("IGNORE")),
            "decision_accuracy": decisions / len(counted) if counted else 0.0,
            "semantic": None if semantic is None else {"by": semantic.name, "threshold": semantic.threshold},
            "domains": _grouped(counted, domain),
            "sub_domains": _grouped(counted, folder),
            "timing": self._timing(),
            "counts": self._counts(),
            "published_scorer_stops": self.predictions.published_stops or None,
        }
        if stream_sizes is not None:
            numbers["stream_sizes"] = _grouped(counted, lambda item: str(stream_sizes[item.id]))
        return numbers

    def _timing(self) -> dict[str, float | int] | None:
        """Return the latencies of the sounds that were rightly answered, from their ends; None: the file has none."""
        answered = [v for v in self.counted if v.decision_right and v.item.decision == "RESPOND"]
        latencies = [v.latency_s for v in answered if v.latency_s is not None]
        if not latencies:
            return None
        median, tail = np.percentile(latencies, (50, 95)).tolist()
        return {"latency_p50_s": median, "latency_p95_s": tail, "count": len(latencies)}

    def _counts(self) -> dict[str, int]:
        lines = [self.predictions.by_id.get(v.item.id, []) for v in self.verdicts]
        return {
            "items": len(self.verdicts),
            "missing": sum(not found for found in lines),
            "undecided": sum(bool(found) and v.decision is None for found, v in zip(lines, self.verdicts, strict=True)),
            "repeated": sum(len(found) > 1 for found in lines),
            "unknown": self.predictions.unknown,
            "malformed": len(self.predictions.malformed),
        }


def score_predictions(
    items: Sequence[BenchItem], predictions: Predictions, mode: Mode, semantic: SemanticMatch | None = None
) -> Scores:
    """Score a prediction file on these recordings; the module says how each mode counts."""
    verdicts = tuple(_judge(item, predictions.by_id.get(item.id, []), mode, semantic) for item in items)
    return Scores(mode, verdicts, predictions, semantic)


def _judge(item: BenchItem, lines: Sequence[Prediction], mode: Mode, semantic: SemanticMatch | None) -> Verdict:
    if not lines or (mode == "strict" and len({line.raw for line in lines}) > 1):
        return Verdict(item, None, False, False, None)
    line = lines[-1]
    decision = line.decision if mode == "official" else line.clear_decision
    right = decision == item.decision
    asked = semantic is not None and right and item.decision == "RESPOND"
    matched = right and (not asked or semantic is None or semantic.matches(line.reply, item.references))
    return Verdict(item, decision, right, matched, line.latency_s)


def _share(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    correct, total = sum(v.right for v in verdicts), len(verdicts)
    return {"accuracy": correct / total if total else 0.0, "correct": correct, "total": total}


def _grouped(verdicts: Iterable[Verdict], name: Callable[[BenchItem], str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(name(verdict.item), []).append(verdict)
    return {key: _share(groups[key]) for key in sorted(groups)}


def _domain(item: BenchItem) -> str:
    return item.domain


def _sub_domain(item: BenchItem) -> str:
    return item.sub_domain


def _published_domain(item: BenchItem) -> str:
    found = _PUBLISHED_DOMAIN.search(item.path)
    return found[1] if found else UNKNOWN


def _published_folder(item: BenchItem) -> str:
    found = _PUBLISHED_FOLDER.search(item.path)
    return found[1] if found else UNKNOWN
