"""Every metric on two small episodes, computed by hand."""

import json

import pytest
from beeps import REPLIES, cue, event

from envs.errors import ScenarioError
from envs.metrics import (
    Metric,
    compare,
    compare_traces,
    evaluate_traces,
    lower_is_better,
    percentile_metric,
    rate_metric,
    share_metric,
)
from envs.text_metrics import corpus_bleu, word_error_rates
from envs.trace import Reply, StepRecord, Trace


def trace(cues=(), events=(), replies=(), reward=0.0, num_chunks=90, seed=0):  # 36 s, a hundredth of an hour
    steps = [StepRecord(0, (), {"all": reward})]
    return Trace(seed, "Proactive", num_chunks, tuple(cues), tuple(events), replies=list(replies), steps=steps)


def answer(start_s, index, text=REPLIES[0]):
    return Reply(start_s, start_s + 1.0, text, len(text), index)


def alarm(start_s, text="What was that?"):
    return Reply(start_s, start_s + 1.0, text, len(text), None)


@pytest.fixture
def metrics():
    first = trace(
        cues=[cue(2.0, 3.0, 7.0), cue(20.0, 21.0, 25.0)],
        events=[
            event("beep", "RESPOND", 2.0, 3.0),
            event("hum", "IGNORE", 10.0, 2.0),
            event("rain", "IGNORE", 0.0, 36.0, "ambient"),
            event("beep", "RESPOND", 20.0, 3.0),
        ],
        replies=[answer(4.0, 0), alarm(13.9, "no no no no no no no no")],  # the alarm: 1.9 s after the hum
        reward=1.5,
    )
    second = trace(
        cues=[cue(2.0, 3.0, 7.0)],
        events=[event("beep", "RESPOND", 2.0, 3.0), event("hum", "IGNORE", 10.0, 2.0)],
        replies=[answer(2.5, 0, "zzz"), alarm(14.0)],  # this alarm: 2 s after the hum, no longer during it
        reward=-0.5,
    )
    return evaluate_traces([first, second], resamples=200)


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [
        ("trigger_precision", 2 / 4, 4),
        ("trigger_recall", 2 / 3, 3),
        ("trigger_f1", 2 * 2 / (4 + 3), 3),
        ("decision_accuracy", 3 / 5, 5),  # two of three cues, one of two hums
        ("balanced_accuracy", (2 / 3 + 1 / 2) / 2, 5),
        ("false_alarms_per_hour", 2 / 0.02, 2),
        ("misses_per_hour", 1 / 0.02, 2),
        ("latency_p50_s", 0.25, 2),  # of 1.0 and -0.5
        ("latency_p95_s", 0.925, 2),
        ("early_rate", 1 / 2, 2),
        ("key_fact_match", 1 / 2, 2),
        ("pauc", 0.75 / 3, 3),  # a perfect reply a quarter into its window, a worthless one, a miss
        ("reply_quality", 1 / 2, 2),
        ("repetition", 4 / 5 / 4, 4),
        ("mean_reward", 0.5, 2),
    ],
)
def test_by_hand(metrics, name, value, count):
    assert metrics[name].value == pytest.approx(value, abs=1e-9)
    assert metrics[name].count == count
    assert metrics[name].low <= metrics[name].value <= metrics[name].high


def test_every_metric_has_a_direction(metrics):
    """Of an agent that gets better, these fall and the others rise; parts and offline numbers go with their whole."""
    falls = {name for name in metrics if lower_is_better(name)}
    assert falls == {
        "false_alarms_per_hour",
        "misses_per_hour",
        "latency_p50_s",
        "latency_p95_s",
        "early_rate",
        "repetition",
    }
    assert lower_is_better("offline_wer")
    assert lower_is_better("false_alarms_per_hour: kitchen")
    assert not lower_is_better("accuracy: task sound")
    taken = [f"takeover_rate: {task}" for task in ("pause handling", "smooth turn taking", "backchannel")]
    assert [lower_is_better(name) for name in taken] == [True, False, True]


def test_that_is_all_of_them(metrics):
    assert len(metrics) == 15


def test_a_silent_agent_has_no_latency_and_no_quality():
    metrics = evaluate_traces([trace(cues=[cue(2.0, 3.0, 7.0)])], resamples=50)
    for name in ("latency_p50_s", "latency_p95_s", "reply_quality", "key_fact_match", "repetition"):
        assert metrics[name] == Metric(None, 0, None, None)
    for name in ("trigger_precision", "trigger_recall", "trigger_f1", "early_rate", "pauc"):
        assert metrics[name].value == 0.0
    assert metrics["trigger_precision"].count == 0
    assert metrics["trigger_recall"].count == 1


def test_balanced_accuracy_of_one_kind_of_event_is_that_kinds():
    only_hums = evaluate_traces([trace(events=[event("hum", "IGNORE", 1.0, 2.0)])], resamples=50)
    assert only_hums["balanced_accuracy"].value == only_hums["decision_accuracy"].value == 1.0
    only_cues = evaluate_traces([trace(cues=[cue(2.0, 3.0, 7.0)])], resamples=50)
    assert only_cues["balanced_accuracy"].value == 0.0


def test_json_is_strict_even_when_nothing_happened():
    metrics = {name: m.to_json() for name, m in evaluate_traces([trace()], resamples=50).items()}
    text = json.dumps(metrics, allow_nan=False)
    assert set(json.loads(text)["latency_p50_s"]) == {"value", "count", "low", "high"}


def test_intervals_follow_from_the_seed_and_narrow_with_more_episodes():
    def episodes(n):
        return [trace(reward=float(i % 2)) for i in range(n)]

    few, again, many = (evaluate_traces(episodes(n), seed=3)["mean_reward"] for n in (10, 10, 400))
    assert few == again
    assert (few.value, many.value) == (0.5, 0.5)
    assert many.high - many.low < 0.12 < few.high - few.low  # 2 * 1.96 * 0.5 / sqrt(400) = 0.098


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ScenarioError, match="no episodes"):
        evaluate_traces([])


def test_a_comparison_is_paired_over_the_streams():
    def played(bonus):  # rewards that differ wildly from stream to stream, and by the same between the policies
        return [trace(reward=10.0 * i + bonus, seed=i) for i in range(20)]

    alone = evaluate_traces(played(1.0))["mean_reward"]
    gain = compare_traces(played(1.0), played(0.0))["mean_reward"]
    assert gain.value == pytest.approx(1.0)
    assert gain.low == pytest.approx(1.0)
    assert gain.high == pytest.approx(1.0)
    assert alone.high - alone.low > 40.0


TEXT = ("the cat sat down today", "it rains in the hills now")


def test_benchmarks_numbers_are_compared_in_pairs():
    """What differs by the same in every item differs without a doubt, however far the items are apart."""
    items = range(1, 21)
    later, sooner = ([[i + late] for i in items] for late in (0.5, 0.0))
    first = {
        "share": share_metric(([0.5 * i + 0.25 for i in items], [1.0] * 20)),
        "late": percentile_metric(later, 50),
        "alarms": rate_metric([i + 1 for i in items], [0.5] * 20),
    }
    second = {
        "share": share_metric(([0.5 * i for i in items], [1.0] * 20)),
        "late": percentile_metric(sooner, 50),
        "alarms": rate_metric(list(items), [0.5] * 20),
        "else": share_metric(([1.0], [1.0])),
    }
    gaps = compare(first, second)
    assert {name: (m.value, m.count) for name, m in gaps.items()} == {
        "share": (pytest.approx(0.25), 20),
        "late": (pytest.approx(0.5), 20),
        "alarms": (pytest.approx(2.0), 210),  # one more in each half hour
    }
    for gap in gaps.values():
        assert (gap.low, gap.high) == (pytest.approx(gap.value), pytest.approx(gap.value))
    good = corpus_bleu(TEXT, TEXT, "13a").minus(corpus_bleu(TEXT, ("the cat", "it rains"), "13a"))
    assert good.low > 0
    worse = word_error_rates(TEXT, ("the cat sat", TEXT[1]))["wer"].minus(word_error_rates(TEXT, TEXT)["wer"])
    assert worse.value == pytest.approx(2 / 11)


def test_a_difference_needs_values_and_the_same_resamples():
    known, none = share_metric(([1.0, 0.0], [1.0, 1.0])), share_metric(([0.0, 0.0], [0.0, 0.0]))
    assert known.minus(none) == Metric(None, 0, None, None)
    assert known.minus(Metric(0.25, 4, 0.0, 0.5)) == Metric(0.25, 2, None, None)  # read back from a file
    assert known.to_json().keys() == {"value", "count", "low", "high"}


def test_traces_of_other_streams_are_not_compared():
    with pytest.raises(ScenarioError, match="different scenarios"):
        compare_traces([trace(seed=1)], [trace(seed=2)])


def test_a_share_is_of_sums_and_several_are_averaged():
    first, second = ([1, 1, 0], [1, 3, 0]), ([0, 0, 2], [0, 1, 3])
    one = share_metric(first)
    assert (one.value, one.count) == (2 / 4, 4)
    assert 1 / 3 <= one.low <= one.value <= one.high <= 1.0
    both = share_metric(first, second)
    assert (both.value, both.count) == ((2 / 4 + 2 / 4) / 2, 8)
    nothing = ([0, 0, 0], [0, 0, 0])
    assert share_metric(first, nothing) == one
    assert share_metric(nothing) == Metric(None, 0, None, None)


def test_a_percentile_is_of_the_values_of_all_episodes():
    median = percentile_metric([[1.0], [], [2.0, 6.0]], 50)
    assert (median.value, median.count) == (2.0, 3)
    assert 1.0 <= median.low <= median.high <= 6.0
    assert percentile_metric([[], []], 50) == Metric(None, 0, None, None)
