"""Precision-recall and DET curves over the control threshold, from the P(response) that was stored with each decision.

The unit is an event, not a chunk. A cue's window, onset to deadline, has as its score the highest probability of the
decisions that took effect in it; so has each cue-free stretch, a run of chunks between windows. At a threshold a window
at or above it is found, and a stretch at or above it is a false alarm.

What that can say: how well the probabilities part moments that deserve a reply from those that do not, as the stream
was played. What it cannot: what would have happened at another threshold. The policy has heard itself: after a reply
its probabilities are those of one that has spoken, and in the middle of a reply it decided nothing. A window without a
decision was talked over and is missed at every threshold; a stretch without one had no chance and is left out. Longer
stretches have more chances, so curves of one suite can be compared with each other, not with those of another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.episode import TOKENS
from envs.metrics import Metric
from envs.outcomes import effect_s
from envs.trace import Trace

_DIGITS = 6  # batches of different sizes differ in the last bits of float32; what is closer than that is a tie
_MISSED = -1.0  # the score of a window without a decision: below every threshold
Ranked = tuple[NDArray[np.float64], NDArray[np.float64]]  # scores of windows, and of stretches


@dataclass(frozen=True)
class Units:
    """The units of one stream. `replied` says whether a reply began in a unit, as the stream was played."""

    windows: tuple[float, ...]  # the score of each cue's window; -1: no decision was taken in it
    stretches: tuple[float, ...]  # the score of each cue-free stretch in which a decision was taken
    windows_replied: tuple[bool, ...]
    stretches_replied: tuple[bool, ...]


@dataclass(frozen=True)
class Curve:
    """One point a threshold, from the highest threshold to the lowest.

    Attributes:
        thresholds: The distinct scores at or above 0, descending: float64 [N].
        precision: Found windows over all units at or above the threshold: float64 [N].
        recall: Found windows over all windows: float64 [N].
        false_alarm_rate: Stretches at or above the threshold over all stretches: float64 [N].
        windows: How many.
        stretches: How many.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    false_alarm_rate: NDArray[np.float64]
    windows: int
    stretches: int

    @property
    def miss_rate(self) -> NDArray[np.float64]:
        """Windows that are not found over all windows: float64 [N]."""
        return 1.0 - self.recall


@dataclass(frozen=True)
class Played:
    """Where a policy stood as it was played; also one that has no probabilities."""

    precision: float | None  # None: it replied in no unit
    recall: float
    false_alarm_rate: float


def units(trace: Trace) -> Units:
    """Return the units of a finished stream, with scores where the policy has probabilities."""
    weighs = any(p is not None for p in trace.probabilities)
    times = [effect_s(index, step.now_s) for index, step in enumerate(trace.steps)]
    decided = [p is not None for p in trace.probabilities] if weighs else [s.kind != TOKENS for s in trace.steps]
    scores = [_MISSED if p is None else round(p, _DIGITS) for p in trace.probabilities]
    begun = {reply.start_s for reply in trace.replies}
    windows = [[i for i, t in enumerate(times) if cue.onset_s <= t <= cue.deadline_s] for cue in trace.cues]
    inside = {i for window in windows for i in window}
    stretches: list[list[int]] = []
    for i in range(len(times)):
        if i in inside:
            continue
        if i == 0 or i - 1 in inside:
            stretches.append([])
        stretches[-1].append(i)
    stretches = [stretch for stretch in stretches if any(decided[i] for i in stretch)]

    def highest(unit: Sequence[int]) -> float:
        return max((scores[i] for i in unit), default=_MISSED) if weighs else _MISSED

    def replied(unit: Sequence[int]) -> bool:
        return any(times[i] in begun for i in unit)

    return Units(
        tuple(map(highest, windows)),
        tuple(map(highest, stretches)),
        tuple(map(replied, windows)),
        tuple(map(replied, stretches)),
    )


def curve(streams: Sequence[Units]) -> Curve | None:
    """Return the curve of a policy; None where it has no probabilities, or a kind of unit does not occur."""
    windows, stretches = _scores(streams)
    if not len(windows) or not len(stretches) or max(windows.max(), stretches.max()) < 0:
        return None
    thresholds = np.unique(np.concatenate([windows, stretches]))[::-1]
    thresholds = thresholds[thresholds >= 0]
    found, alarms = _at_or_above(windows, thresholds), _at_or_above(stretches, thresholds)
    return Curve(
        thresholds,
        found / (found + alarms),
        found / len(windows),
        alarms / len(stretches),
        len(windows),
        len(stretches),
    )


def as_played(streams: Sequence[Units]) -> Played | None:
    """Return the units in which a reply began as recall and false alarms; None where a kind of unit does not occur."""
    windows = [replied for stream in streams for replied in stream.windows_replied]
    stretches = [replied for stream in streams for replied in stream.stretches_replied]
    if not windows or not stretches:
        return None
    found, alarms = sum(windows), sum(stretches)
    precision = found / (found + alarms) if found + alarms else None
    return Played(precision, found / len(windows), alarms / len(stretches))


def average_precision(points: Curve) -> float:
    """Return the precision at each threshold, weighted by the recall that the threshold adds."""
    return float(np.sum(np.diff(points.recall, prepend=0.0) * points.precision))


def equal_error_rate(points: Curve) -> float:
    """Return the mean of miss rate and false alarm rate at the threshold at which they are nearest to each other."""
    misses = np.concatenate([[1.0], points.miss_rate])  # above every score nothing is found, and nothing is wrong
    alarms = np.concatenate([[0.0], points.false_alarm_rate])
    nearest = int(np.argmin(np.abs(misses - alarms)))
    return float(misses[nearest] + alarms[nearest]) / 2


def ranking_metrics(streams: Sequence[Units], seed: int = 0, resamples: int = 1000) -> dict[str, Metric]:
    """Return average precision, over windows, and equal error rate, over units, with intervals over whole streams.

    A policy without probabilities has neither: the values are None, the counts 0.
    """
    points = curve(streams)
    if points is None:
        return dict.fromkeys(("average_precision", "equal_error_rate"), Metric(None, 0, None, None))
    drawn = np.random.default_rng([seed, 0xC0DE]).integers(0, len(streams), (resamples, len(streams)))
    resampled = [curve([streams[i] for i in row]) for row in drawn]

    def metric(of: Callable[[Curve], float], count: int) -> Metric:
        spread = np.array([np.nan if again is None else of(again) for again in resampled])
        return Metric.of(of(points), count, spread)

    return {
        "average_precision": metric(average_precision, points.windows),
        "equal_error_rate": metric(equal_error_rate, points.windows + points.stretches),
    }


def _scores(streams: Sequence[Units]) -> Ranked:
    windows = np.array([score for stream in streams for score in stream.windows], np.float64)
    return windows, np.array([score for stream in streams for score in stream.stretches], np.float64)


def _at_or_above(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many scores reach each threshold."""
    ordered = np.sort(scores)
    return len(scores) - np.searchsorted(ordered, thresholds, side="left")
