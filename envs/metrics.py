"""Every metric of an evaluation, with its count and a bootstrap interval: one file for all evaluations.

Ratios are sums over episodes divided by sums over episodes; the 95 % interval resamples whole episodes. A
share with nothing to divide by is 0 with count 0; a latency or a quality of no replies at all is None (null
in JSON).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_S
from envs.errors import ScenarioError
from envs.outcomes import outcomes
from envs.text_scores import helpfulness, key_fact_share, repeated_share
from envs.trace import Reply, Trace

MEANINGS = {  # of each metric, for who reads a table of them
    "trigger_precision": "of the replies, those that answer a cue",
    "trigger_recall": "of the cues, those answered before their deadline",
    "trigger_f1": "precision and recall in one: their harmonic mean",
    "decision_accuracy": "of all foreground sounds, those answered or left alone as they deserve",
    "balanced_accuracy": "the same, as the mean of the two kinds",
    "false_alarms_per_hour": "replies that answer no cue, an hour of stream",
    "misses_per_hour": "cues that were missed, an hour of stream",
    "latency_p50_s": "median of the seconds from when enough had been heard to the reply; below 0 it came before",
    "latency_p95_s": "their 95th percentile",
    "early_rate": "of the replies that answer a cue, those that began before enough had been heard",
    "reply_quality": "how well the words of such replies fit the references, from 0 to 1",
    "key_fact_match": "of the key facts of the references, those that such replies name",
    "repetition": "of the word 4-grams of a reply, those that repeat an earlier one; the mean over all replies",
    "pauc": "reply quality delivered over the time from enough heard to the deadline, 0 for a miss",
    "mean_reward": "the mean over streams of the sum of the reward's components",
}
_LOWER_IS_BETTER = frozenset(
    "false_alarms_per_hour misses_per_hour latency_p50_s latency_p95_s latency_mean_s early_rate repetition"
    " equal_error_rate backchannel_distance wer substitution_rate deletion_rate insertion_rate".split()
) | {"takeover_rate: pause handling", "takeover_rate: backchannel"}  # where a turn is not the agent's to take
Totals = dict[str, NDArray[Any]]  # a number a resample, by name


@dataclass(frozen=True)
class Metric:
    """A number with its count (of what it averages over) and 95 % bootstrap interval.

    Attributes:
        value: None: there was nothing to divide by.
        count: Of what it averages over.
        low: Of the interval; None: there is none.
        high: Likewise.
        spread: What it is in each resample of the episodes, NaN where there was nothing to divide by:
            float64 [resamples]. Metrics of as many episodes were resampled alike, so that two policies can be
            compared. None: it was not bootstrapped here. Neither JSON nor `==` looks at it.
    """

    value: float | None
    count: int
    low: float | None
    high: float | None
    spread: NDArray[Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, value: float | None, count: int, spread: NDArray[Any]) -> "Metric":
        """Return it with its central 95 %; resamples that had nothing to divide by are left out."""
        known = spread[np.isfinite(spread)]
        if not len(known):
            return cls(value, count, None, None, spread)
        low, high = np.percentile(known, (2.5, 97.5))
        return cls(value, count, float(low), float(high), spread)

    def minus(self, other: "Metric") -> "Metric":
        """Return the difference of a metric of two policies on the same episodes, its interval paired over them.

        The count is the smaller of the two. Where one has no value there is none, and where one was not bootstrapped
        here, or over other resamples, no interval.
        """
        value = None if self.value is None or other.value is None else self.value - other.value
        count = min(self.count, other.count)
        if self.spread is None or other.spread is None or len(self.spread) != len(other.spread):
            return Metric(value, count, None, None)
        return Metric.of(value, count, self.spread - other.spread)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"value": self.value, "count": self.count, "low": self.low, "high": self.high}


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
    foreground: int  # cues and ignored events
    quality: float
    facts: float
    repeated: float
    delivered: float  # sum over cues of the mean quality delivered over the cue's window
    latencies: tuple[float, ...]  # reply - ready, signed, of matched replies


def _measure(trace: Trace) -> _Episode:
    matched = [(r, trace.cues[r.cue]) for r in trace.replies if r.cue is not None]
    ignored = [outcome for outcome in outcomes(trace) if not outcome.deserves]
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
        ignored_right=sum(outcome.right for outcome in ignored),
        ignored=len(ignored),
        foreground=len(trace.cues) + len(ignored),
        quality=sum(qualities),
        facts=sum(key_fact_share(r.text, c.key_facts) for r, c in matched),
        repeated=sum(repeated_share(r.text) for r in trace.replies),
        delivered=delivered,
        latencies=tuple(r.start_s - c.ready_s for r, c in matched),
    )


def lower_is_better(name: str) -> bool:
    """Return whether a low value of a metric is a good one; `name: part` and `offline_name` are metrics of its kind."""
    whole = name.removeprefix("offline_")
    return whole in _LOWER_IS_BETTER or whole.partition(":")[0] in _LOWER_IS_BETTER


def metrics_json(metrics: Mapping[str, Metric]) -> dict[str, dict[str, Any]]:
    """Return metrics by name as plain JSON types."""
    return {name: metric.to_json() for name, metric in metrics.items()}


def evaluate_traces(traces: Sequence[Trace], seed: int = 0, resamples: int = 1000) -> dict[str, Metric]:
    """Return all metrics of finished episodes.

    Latencies are signed seconds from `ready_s` to the reply's start, over matched replies, and stand beside
    `trigger_recall` and `early_rate` (the share of matched replies that began before `ready_s`): a silent
    agent must not look fast. `decision_accuracy` counts foreground events: a RESPOND event is right when its
    cue was answered, an IGNORE event when no false alarm fell between its onset and two seconds after its
    end; `balanced_accuracy` is the mean of the two kinds' accuracies, of one kind alone where the other does
    not occur. `reply_quality` is the mean helpfulness of matched replies. `pauc` is the mean over cue windows
    (ready to deadline) of the quality delivered so far, 0 for a missed cue.

    Args:
        traces: At least one.
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.

    Raises:
        ScenarioError: when there are no traces.
    """
    if not traces:
        raise ScenarioError("there are no episodes to evaluate; play at least one")
    episodes = [_measure(trace) for trace in traces]
    sums = {
        name: np.array([float(getattr(e, name)) for e in episodes])
        for name in _Episode.__dataclass_fields__
        if name != "latencies"
    }
    sums["episodes"] = np.ones(len(episodes))
    drawn = resampled_rows(len(episodes), seed, resamples)
    totals = {name: values[drawn].sum(axis=1) for name, values in sums.items()}
    own = {name: np.array([values.sum()]) for name, values in sums.items()}

    def ratio(formula: Callable[[Totals], NDArray[Any]], count: str, empty: float | None = 0.0) -> Metric:
        n = round(float(own[count][0]))
        if n == 0:
            return Metric.of(empty, 0, np.full(resamples, np.nan if empty is None else empty))
        return Metric.of(float(formula(own)[0]), n, formula(totals))

    def share(top: str, bottom: str, empty: float | None = 0.0) -> Metric:
        return ratio(lambda t: _divide(t[top], t[bottom]), bottom, empty)

    median, tail = _percentiles([e.latencies for e in episodes], drawn, (50, 95))
    return {
        "trigger_precision": share("matched", "replies"),
        "trigger_recall": share("matched", "cues"),
        "trigger_f1": ratio(lambda t: _divide(2 * t["matched"], t["replies"] + t["cues"]), "cues"),
        "decision_accuracy": ratio(lambda t: _divide(t["matched"] + t["ignored_right"], t["foreground"]), "foreground"),
        "balanced_accuracy": ratio(_balanced_accuracy, "foreground"),
        "false_alarms_per_hour": ratio(lambda t: _divide(t["replies"] - t["matched"], t["hours"]), "episodes"),
        "misses_per_hour": ratio(lambda t: _divide(t["cues"] - t["matched"], t["hours"]), "episodes"),
        "latency_p50_s": median,
        "latency_p95_s": tail,
        "early_rate": share("early", "matched"),
        "reply_quality": share("quality", "matched", None),
        "key_fact_match": share("facts", "matched", None),
        "repetition": share("repeated", "replies", None),
        "pauc": share("delivered", "cues"),
        "mean_reward": share("reward", "episodes"),
    }


def compare(first: Mapping[str, Metric], second: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return every metric of one policy minus that of another, of those that both have.

    A resample draws the same episodes for both, so that what is hard about a stream does not widen an interval.

    Args:
        first: Metrics that were computed here, over some episodes.
        second: Those of the same episodes in the same order.
    """
    return {name: own.minus(second[name]) for name, own in first.items() if name in second}


def compare_traces(
    first: Sequence[Trace], second: Sequence[Trace], seed: int = 0, resamples: int = 1000
) -> dict[str, Metric]:
    """Return every metric of `first` minus that of `second`, two policies on the same streams; see `compare`.

    Args:
        first: At least one trace.
        second: Traces of the same scenarios in the same order.
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.

    Raises:
        ScenarioError: when there are no traces, or they are not of the same scenarios.
    """
    if [trace.seed for trace in first] != [trace.seed for trace in second]:
        raise ScenarioError("traces of different scenarios cannot be compared; play both policies on the same seeds")
    return compare(evaluate_traces(first, seed, resamples), evaluate_traces(second, seed, resamples))


def share_metric(*shares: tuple[Sequence[float], Sequence[float]], seed: int = 0, resamples: int = 1000) -> Metric:
    """Return a share of sums over episodes, or the mean of several, with an interval over whole episodes.

    Args:
        shares: Of each its numerators and denominators, a number an episode. One whose denominators are all 0 is left
            out of the mean; where all are, the value is None.
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.
    """
    parts = np.array(shares, np.float64)  # [shares, 2, episodes]
    drawn = resampled_rows(parts.shape[-1], seed, resamples)
    own, totals = parts.sum(axis=-1, keepdims=True), parts[..., drawn].sum(axis=-1)  # [shares, 2, 1 or resamples]
    value, spread = (_mean_of_known(_divide(sums[:, 0], sums[:, 1])) for sums in (own, totals))
    count = round(float(parts[:, 1].sum()))
    return Metric.of(None if np.isnan(value[0]) else float(value[0]), count, spread)


def percentile_metric(
    values: Sequence[Sequence[float]], percent: float, seed: int = 0, resamples: int = 1000
) -> Metric:
    """Return a percentile of the values of all episodes, with an interval over whole episodes; None: there are none."""
    return _percentiles(values, resampled_rows(len(values), seed, resamples), (percent,))[0]


def rate_metric(events: Sequence[int], hours: Sequence[float], seed: int = 0, resamples: int = 1000) -> Metric:
    """Return events an hour with Poisson's exact 95 % interval (Garwood 1936); the count is of events.

    For n events it goes from chi2(0.025; 2n) / 2, 0 for none, to chi2(0.975; 2n + 2) / 2 events in the same hours.
    Only differences between policies follow from a bootstrap.

    Args:
        events: A number an episode.
        hours: How long each was.
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.

    Raises:
        ScenarioError: when there are no hours.
    """
    from scipy.special import gammaincinv  # noqa: PLC0415 - `import envs` stays light

    n, whole = sum(events), float(sum(hours))
    if not whole > 0:
        raise ScenarioError("there are no hours of stream to divide by; play at least one")
    # half a chi-square quantile of 2n degrees of freedom is a quantile of the gamma distribution of shape n
    low, high = float(gammaincinv(n, 0.025)) if n else 0.0, float(gammaincinv(n + 1, 0.975))
    spread = share_metric((events, hours), seed=seed, resamples=resamples).spread
    return Metric(n / whole, n, low / whole, high / whole, spread)


def _divide(top: NDArray[Any], bottom: NDArray[Any]) -> NDArray[Any]:
    """Return top / bottom, NaN where there is nothing to divide by."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _balanced_accuracy(totals: Totals) -> NDArray[Any]:
    """Return the mean accuracy over the kinds of event that occur."""
    spoken = _divide(totals["matched"], totals["cues"])
    silent = _divide(totals["ignored_right"], totals["ignored"])
    mean = (spoken + silent) / 2
    return np.where(np.isnan(spoken), silent, np.where(np.isnan(silent), spoken, mean))


def _mean_of_known(shares: NDArray[Any]) -> NDArray[Any]:
    """Return the mean over the first axis without NaN; NaN where nothing else is there."""
    known = np.isfinite(shares)
    return _divide(np.where(known, shares, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def resampled_rows(episodes: int, seed: int, resamples: int) -> NDArray[Any]:
    """Return which episodes each resample has: [resamples, episodes]."""
    return np.random.default_rng([seed, 0xB007]).integers(0, episodes, (resamples, episodes))


def _percentiles(episodes: Sequence[Sequence[float]], drawn: NDArray[Any], percents: tuple[float, ...]) -> list[Metric]:
    """Return percentiles of the values of all episodes; their intervals resample episodes too."""
    values = np.array([value for episode in episodes for value in episode])
    if not len(values):
        return [Metric.of(None, 0, np.full(len(drawn), np.nan))] * len(percents)
    owner = np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes])
    resampled = [np.repeat(values, np.bincount(row, minlength=len(episodes))[owner]) for row in drawn]
    spread = np.array([np.percentile(r, percents) if len(r) else np.full(len(percents), np.nan) for r in resampled])
    return [
        Metric.of(float(np.percentile(values, percent)), len(values), column)
        for percent, column in zip(percents, spread.T, strict=True)
    ]


def replies_by_label(trace: Trace) -> list[tuple[Reply, str]]:
    """Return each reply with the label of the cue it answered, or "false alarm"."""
    return [(r, "false alarm" if r.cue is None else trace.cues[r.cue].label) for r in trace.replies]
