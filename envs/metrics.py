"""Every metric of an evaluation, with its count and a bootstrap interval. The one file that all evaluations use.

Ratios are sums over episodes divided by sums over episodes; the 95 % interval resamples whole episodes. A share
with nothing to divide by is 0; a latency or quality of no replies at all is None.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_S
from envs.composition import GRACE_S
from envs.text_scores import helpfulness, key_fact_share
from envs.trace import Reply, Trace


@dataclass(frozen=True)
class Metric:
    """A number with its count (of what it averages over) and 95 % bootstrap interval."""

    value: float | None
    count: int
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _Episode:
    """What one episode adds to every metric."""

    hours: float
    reward: float
    replies: int
    matched: int
    cues: int
    early: int
    ignored_right: int  # IGNORE events met with silence
    ignored: int
    quality: float
    facts: float
    delivered: float  # sum over cues of the mean quality delivered over the cue's window
    latencies: tuple[float, ...]  # reply - ready, signed, of matched replies


def _measure(trace: Trace) -> _Episode:
    matched = [(r, trace.cues[r.cue]) for r in trace.replies if r.cue is not None]
    strays = [r.start_s for r in trace.replies if r.cue is None]
    ignored = [e for e in trace.events if e.role == "foreground" and e.decision == "IGNORE"]
    right = sum(not any(e.onset_s <= t < e.end_s + GRACE_S for t in strays) for e in ignored)
    qualities = [helpfulness(r.text, c.replies, c.key_facts) for r, c in matched]
    delivered = sum(
        q * min(max((c.deadline_s - r.start_s) / (c.deadline_s - c.ready_s), 0.0), 1.0)
        for q, (r, c) in zip(qualities, matched, strict=True)
    )
    return _Episode(
        hours=trace.num_chunks * CHUNK_S / 3600.0,
        reward=trace.total_reward,
        replies=len(trace.replies),
        matched=len(matched),
        cues=len(trace.cues),
        early=sum(r.start_s < c.ready_s for r, c in matched),
        ignored_right=right,
        ignored=len(ignored),
        quality=sum(qualities),
        facts=sum(key_fact_share(r.text, c.key_facts) for r, c in matched),
        delivered=delivered,
        latencies=tuple(r.start_s - c.ready_s for r, c in matched),
    )


def evaluate_traces(traces: Sequence[Trace], seed: int = 0, resamples: int = 1000) -> dict[str, Metric]:
    """Return all metrics of finished episodes.

    Latencies are signed seconds from `ready_s` to the reply's start, over matched replies, and stand beside
    `trigger_recall` and `early_rate`: a silent agent must not look fast. `decision_accuracy` counts foreground
    events: a RESPOND event is right when its cue was answered, an IGNORE event when no false alarm fell between its
    onset and two seconds after its end. `pauc` is the mean over cue windows (ready to deadline) of the quality
    delivered so far.

    Args:
        traces: At least one.
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.
    """
    episodes = [_measure(trace) for trace in traces]
    sums = {
        name: np.array([float(getattr(e, name)) for e in episodes])
        for name in _Episode.__dataclass_fields__
        if name != "latencies"
    }
    sums["one"] = np.ones(len(episodes))
    rng = np.random.default_rng([seed, 0xB007])
    drawn = rng.integers(0, len(episodes), (resamples, len(episodes)))
    totals = {name: values[drawn].sum(axis=1) for name, values in sums.items()}
    own = {name: np.array([values.sum()]) for name, values in sums.items()}

    def metric(formula: Callable[[dict[str, NDArray[Any]]], NDArray[Any]], count: str, empty: float | None) -> Metric:
        n = round(float(own[count][0]))
        if n == 0 and empty is None:
            return Metric(None, 0, None, None)
        spread = formula(totals)
        spread = spread[np.isfinite(spread)]
        value = float(formula(own)[0]) if n else empty
        low, high = np.percentile(spread, (2.5, 97.5)) if n and len(spread) else (value, value)
        return Metric(value, n, float(low or 0.0), float(high or 0.0))

    def share(top: str, bottom: str, empty: float | None = 0.0) -> Metric:
        return metric(lambda t: _divide(t[top], t[bottom]), bottom, empty)

    result = {
        "trigger_precision": share("matched", "replies"),
        "trigger_recall": share("matched", "cues"),
        "trigger_f1": metric(lambda t: _divide(2 * t["matched"], t["replies"] + t["cues"]), "cues", 0.0),
        "decision_accuracy": metric(
            lambda t: _divide(t["matched"] + t["ignored_right"], t["cues"] + t["ignored"]), "one", 0.0
        ),
        "balanced_accuracy": metric(
            lambda t: (_divide(t["matched"], t["cues"]) + _divide(t["ignored_right"], t["ignored"])) / 2, "one", 0.0
        ),
        "false_alarms_per_hour": metric(lambda t: (t["replies"] - t["matched"]) / t["hours"], "one", 0.0),
        "misses_per_hour": metric(lambda t: (t["cues"] - t["matched"]) / t["hours"], "one", 0.0),
        "early_rate": share("early", "matched"),
        "reply_quality": share("quality", "matched", None),
        "key_fact_match": share("facts", "matched", None),
        "pauc": share("delivered", "cues"),
        "mean_reward": share("reward", "one"),
    }
    for name, percent in (("latency_p50_s", 50.0), ("latency_p95_s", 95.0)):
        result[name] = _latency(episodes, drawn, percent)
    return result


def _divide(top: NDArray[Any], bottom: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 0, top / np.maximum(bottom, 1e-12), np.nan)


def _latency(episodes: Sequence[_Episode], drawn: NDArray[Any], percent: float) -> Metric:
    """Return a percentile of the latencies; its interval resamples episodes, as everywhere."""
    everything = [latency for e in episodes for latency in e.latencies]
    if not everything:
        return Metric(None, 0, None, None)
    owner = np.repeat(np.arange(len(episodes)), [len(e.latencies) for e in episodes])
    order = np.argsort(everything)
    values, owner = np.array(everything)[order], owner[order]
    spread = []
    for row in drawn:
        weight = np.cumsum(np.bincount(row, minlength=len(episodes))[owner])
        if weight[-1]:
            spread.append(values[min(np.searchsorted(weight, percent / 100 * weight[-1]), len(values) - 1)])
    low, high = np.percentile(spread, (2.5, 97.5))
    return Metric(float(np.percentile(values, percent)), len(values), float(low), float(high))


def replies_by_label(trace: Trace) -> list[tuple[Reply, str]]:
    """Return each reply with the label of the cue it answered, or "false alarm"."""
    return [(r, "false alarm" if r.cue is None else trace.cues[r.cue].label) for r in trace.replies]
