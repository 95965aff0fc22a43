"""Rewards compared on stored traces: who stands where, what each is made of, and what is odd about it."""

from collections.abc import Callable

import numpy as np
import pytest
from beeps import REPLIES, beeps

from envs.errors import ScenarioError
from envs.metrics import evaluate_traces
from envs.rewards import Moment, Reward, reward_from_config
from envs.rewards.comparison import RewardReport, compare_rewards
from envs.stream_env import StreamingAudioEnv
from envs.tokenizer import ByteTokenizer
from envs.trace import Trace

IDS = ByteTokenizer()
WORDS = [*IDS.encode(REPLIES[1]), IDS.end_id]
SEEDS = tuple(range(20))


def play(wants: Callable[[StreamingAudioEnv], bool], seeds: tuple[int, ...] = SEEDS) -> list[Trace]:
    """Play streams: answer at once and in few chunks whenever it is wanted."""
    env, traces = StreamingAudioEnv(beeps, tokens_per_chunk=len(WORDS)), []
    for seed in seeds:
        env.reset(options={"scenario_seed": seed})
        while not env.episode.over:
            kind = int(not env.episode.speaking and wants(env))
            env.step({"kind": kind, "tokens": np.array(WORDS if kind else [257] * len(WORDS))})
        traces.append(env.trace)
    return traces


@pytest.fixture(scope="module")
def played() -> dict[str, list[Trace]]:
    return {
        "silent": play(lambda _: False),
        "always": play(lambda _: True),
        "knows": play(lambda env: env.episode.answerable is not None),
    }


def report(played: dict[str, list[Trace]], *entries: dict[str, object]) -> RewardReport:
    (made,) = compare_rewards({"mine": reward_from_config(entries)}, played)
    return made


def test_policies_stand_in_the_order_of_their_rewards(played: dict[str, list[Trace]]) -> None:
    made = report(played)
    assert [standing.policy for standing in made.standings] == ["knows", "silent", "always"]
    for standing in made.standings:
        traces = played[standing.policy]
        assert standing.reward == evaluate_traces(traces)["mean_reward"]  # with its interval: the same reward, live
        assert sum(standing.components.values()) == pytest.approx(standing.reward.value)
        miss = np.mean([sum(step.rewards["miss"] for step in trace.steps) for trace in traces])
        assert standing.components["miss"] == pytest.approx(miss)


def test_curves_sum_up_to_the_means_and_keep_what_short_streams_earned(played: dict[str, list[Trace]]) -> None:
    made = report(played, {"name": "false_alarm", "weight": 2.0})
    (standing,) = (s for s in made.standings if s.policy == "always")
    curve = standing.curves["false_alarm"]
    assert len(curve) == max(trace.num_chunks for trace in played["always"]) + 1
    assert curve[0] == 0.0
    assert curve[-1] == standing.components["false_alarm"] < 0.0
    after = np.mean([-2.0 * sum(r.cue is None for r in t.replies if r.start_s <= 2.0) for t in played["always"]])
    assert curve[5] == pytest.approx(after)


def test_what_never_fires_is_found(played: dict[str, list[Trace]]) -> None:
    made = report(played, {"name": "false_alarm"}, {"name": "miss"}, {"name": "repetition"}, {"name": "latency"})
    assert [(f.kind, f.names) for f in made.findings if f.kind == "never fires"] == [("never fires", ("repetition",))]


def test_a_component_that_stands_for_all_is_found(played: dict[str, list[Trace]]) -> None:
    heavy = report(played, {"name": "miss", "weight": 50.0}, {"name": "latency"})
    (found,) = (f for f in heavy.findings if f.kind == "dominates")
    assert found.names == ("miss",)
    assert "miss is 9" in found.message  # more than 90 %
    for entries in ([{"name": "miss"}, {"name": "latency"}], [{"name": "miss"}]):  # shares alike; alone anyway
        assert all(f.kind != "dominates" for f in report(played, *entries).findings)


def test_a_reward_that_prefers_the_worse_policy_is_found_with_the_pair(played: dict[str, list[Trace]]) -> None:
    assert all(f.kind != "disagrees" for f in report({k: played[k] for k in ("silent", "knows")}).findings)
    made = report(played, {"name": "latency", "weight": -1.0})
    pairs = {f.names for f in made.findings if f.kind == "disagrees"}
    assert pairs == {("knows", "silent"), ("always", "silent")}
    (found,) = (f for f in made.findings if f.names == ("knows", "silent"))
    assert "knows has the better trigger F1, 1.000 against 0.000 of silent" in found.message
    assert "both differences are beyond chance" in found.message
    with_cues = next(i for i, trace in enumerate(played["knows"]) if len(trace.cues) == 2)
    one = {policy: [traces[with_cues]] for policy, traces in played.items()}
    unsure = [f.message for f in report(one, {"name": "latency", "weight": -1.0}).findings if f.kind == "disagrees"]
    assert unsure
    assert all("this may be chance" in message for message in unsure)


def test_the_order_of_the_traces_does_not_matter(played: dict[str, list[Trace]]) -> None:
    turned = {policy: traces[::-1] if policy == "silent" else traces for policy, traces in played.items()}
    assert report(turned).to_json() == report(played).to_json()


def test_traces_of_other_streams_are_refused(played: dict[str, list[Trace]]) -> None:
    with pytest.raises(ScenarioError, match="19 traces of 'silent' and the 20 of 'knows' are not of the same streams"):
        report({"knows": played["knows"], "silent": played["silent"][1:]})
    others = play(lambda _: False, (*SEEDS[1:], 77))
    with pytest.raises(ScenarioError, match="play all policies on the same seeds"):
        report({"knows": played["knows"], "silent": others})
    with pytest.raises(ScenarioError, match="no traces to score"):
        report({"knows": []})


class Listens:
    def value(self, moment: Moment) -> float:
        return float(moment.user_speaking)


def test_a_users_own_component_is_compared_too(played: dict[str, list[Trace]]) -> None:
    (made,) = compare_rewards({"mine": Reward([("listens", 0.5, Listens())])}, played)
    assert {standing.components["listens"] for standing in made.standings} == {1.5}  # three chunks of every stream
