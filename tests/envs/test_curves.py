"""Precision-recall and DET curves against numbers worked out by hand."""

import numpy as np
import pytest

from envs.curves import Units, as_played, average_precision, curve, equal_error_rate, ranking_metrics, units
from envs.episode import RESPOND, TOKENS, WAIT
from envs.scenario import Cue
from envs.trace import Reply, StepRecord, Trace


def cue(onset_s: float, deadline_s: float) -> Cue:
    return Cue(onset_s, onset_s + 0.1, deadline_s, "siren", ("A siren.",), (), 1.0, "iv", "safety_signal")


def trace(probabilities: list[float | None], kinds: list[int], *cues: Cue) -> Trace:
    """A stream whose replies begin where a kind is RESPOND."""
    times = [0.4 * (i + 1) for i in range(len(kinds))]
    steps = [StepRecord(kind, (), {}, now_s=t) for kind, t in zip(kinds, times, strict=True)]
    replies = [Reply(t, t + 0.4) for kind, t in zip(kinds, times, strict=True) if kind == RESPOND]
    return Trace(0, "Proactive", len(kinds), cues, (), (), replies, steps, probabilities)


def streams(windows: list[float], stretches: list[float]) -> list[Units]:
    return [Units(tuple(windows), tuple(stretches), (False,) * len(windows), (False,) * len(stretches))]


def test_a_unit_has_the_highest_probability_of_its_decisions() -> None:
    """Chunks end at 0.4, 0.8, ...; the window takes those at 1.2 and 1.6, its borders included."""
    played = trace([0.1, 0.3, 0.2, 0.9, None, 0.4], [WAIT, WAIT, WAIT, RESPOND, TOKENS, WAIT], cue(1.2, 1.6))
    found = units(played)
    assert found.windows == (0.9,)
    assert found.stretches == (0.3, 0.4)
    assert found.windows_replied == (True,)
    assert found.stretches_replied == (False, False)


def test_a_window_that_was_talked_over_is_missed_and_such_a_stretch_is_left_out() -> None:
    kinds = [RESPOND, TOKENS, TOKENS, TOKENS, WAIT]
    found = units(trace([0.8, None, None, None, 0.2], kinds, cue(0.8, 1.0), cue(1.6, 1.8)))
    assert found.windows == (-1.0, -1.0)
    assert found.stretches == (0.8, 0.2)  # of the chunk at 1.2, in which nothing was decided, nothing is said
    points = curve([found])
    assert points is not None
    assert points.recall.tolist() == [0.0, 0.0]


def test_the_curve_by_hand() -> None:
    """Windows 0.9, 0.6, 0.2 and stretches 0.6, 0.4: the tie at 0.6 is one point."""
    points = curve(streams([0.9, 0.6, 0.2], [0.6, 0.4]))
    assert points is not None
    assert points.thresholds.tolist() == [0.9, 0.6, 0.4, 0.2]
    assert points.recall == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert points.precision == pytest.approx([1, 2 / 3, 2 / 4, 3 / 5])
    assert points.false_alarm_rate == pytest.approx([0, 1 / 2, 1, 1])
    assert points.miss_rate == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0])
    assert average_precision(points) == pytest.approx((1 + 2 / 3 + 0 + 3 / 5) / 3)
    assert equal_error_rate(points) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_perfect_and_worthless_scores() -> None:
    perfect, worst = curve(streams([0.9, 0.8], [0.1, 0.2])), curve(streams([0.1], [0.9]))
    assert perfect is not None
    assert worst is not None
    assert (average_precision(perfect), equal_error_rate(perfect)) == (1.0, 0.0)
    assert (average_precision(worst), equal_error_rate(worst)) == (0.5, 1.0)


def test_a_policy_without_probabilities_has_a_point_and_no_curve() -> None:
    played = [units(trace([None] * 4, [RESPOND, TOKENS, WAIT, RESPOND], cue(1.4, 1.8)))]
    assert curve(played) is None
    point = as_played(played)
    assert point is not None
    assert (point.precision, point.recall, point.false_alarm_rate) == (0.5, 1.0, 1.0)
    assert ranking_metrics(played)["average_precision"].value is None


def test_the_point_as_played_lies_on_the_curve_at_the_threshold_played_at() -> None:
    rng, played = np.random.default_rng(0), []
    for _ in range(20):
        p = rng.random(30)
        kinds = [RESPOND if x >= 0.5 else WAIT for x in p]
        played.append(units(trace(p.tolist(), kinds, cue(2.0, 3.0), cue(6.0, 8.0))))
    points, point = curve(played), as_played(played)
    assert points is not None
    assert point is not None
    last = int(np.flatnonzero(points.thresholds >= 0.5)[-1])
    assert (points.recall[last], points.precision[last]) == (point.recall, point.precision)
    assert points.false_alarm_rate[last] == point.false_alarm_rate
    metric = ranking_metrics(played, resamples=50)["average_precision"]
    assert metric.count == 40
    assert metric.low is not None
    assert metric.value is not None
    assert metric.low <= metric.value
