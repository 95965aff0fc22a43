"""A stored trace is worth, under the reward it was played with, what it was worth live: bit for bit."""

import struct
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from beeps import REPLIES, beeps

from envs.errors import ConfigError, ScenarioError
from envs.rewards import Moment, Reward, reward_from_config
from envs.rewards.rescoring import rescore
from envs.stream_env import StreamingAudioEnv
from envs.tokenizer import ByteTokenizer
from envs.trace import Trace
from envs.trace_files import read_traces
from envs.vector_env import StreamingAudioVectorEnv
from envs.wrappers import InjectLatency, RecordTraces

IDS = ByteTokenizer()
WORDS = [*IDS.encode(REPLIES[0]), IDS.end_id]


class Everything:
    """Looks at all that a moment holds, and at nothing that comes later."""

    of_text = True

    def value(self, moment: Moment) -> float:
        trace = moment.trace
        seen = (
            [trace.steps[-1].reward if trace.steps else 0.5, float(len(trace.steps)), moment.now_s]
            + [float(len(reply.text)) + reply.num_tokens + (reply.end_s or 0.1) for reply in trace.replies]
            + [float(moment.agent_speaking), float(moment.user_speaking), float(moment.invalid)]
            + [float(len(moment.missed)), float(moment.started is not None), float(moment.ended is not None)]
        )
        return float(np.dot(seen, np.sqrt(np.arange(1, len(seen) + 1))) / 100)


def everything() -> Reward:
    return Reward([*Reward.default().components, ("everything", 0.3, Everything())])


def bits(rewards: dict[str, float]) -> dict[str, bytes]:
    return {name: struct.pack("d", value) for name, value in rewards.items()}


def random_action(rng: np.random.Generator) -> dict[str, object]:
    """Waits, answers, goes on, breaks off, and now and then does what does not fit."""
    kind = int(rng.choice(3, p=[0.35, 0.2, 0.45]))
    begin = int(rng.integers(len(WORDS)))
    return {"kind": kind, "tokens": np.array((WORDS[begin:] + [257] * 16)[:16])}


@pytest.mark.parametrize("late", [False, True], ids=["at once", "thinking"])
def test_every_component_gives_what_it_gave_live(late, tmp_path):
    env = StreamingAudioEnv(beeps, reward=everything())
    env = InjectLatency(env, lambda rng: rng.gamma(2.0, 0.3)) if late else env
    env = RecordTraces(gym.wrappers.TimeLimit(env, 11), tmp_path)  # some are cut off
    rng, live = np.random.default_rng(0), []
    for seed in range(40):
        env.reset(options={"scenario_seed": seed})
        over, episode = False, []
        while not over:
            *_, terminated, truncated, info = env.step(random_action(rng))
            over = terminated or truncated
            episode.append(bits(info["reward"]))
        live.append(episode)
    stored = read_traces(tmp_path)
    again = rescore(stored, everything())
    assert [[bits(step.rewards) for step in trace.steps] for trace in again] == live
    assert again == stored
    kinds = {name for episode in live for step in episode for name, value in step.items() if any(value)}
    assert kinds >= {"latency", "helpfulness", "false_alarm", "miss", "premature", "overlap", "invalid_action"}
    assert any(step.ended and step.kind == 0 for trace in stored for step in trace.steps)  # broken off by a wait
    assert any(step.ended and step.kind != 0 for trace in stored for step in trace.steps)


def test_what_the_batched_environment_left_out_is_scored_too():
    """Its quiet steps are told to the trace together, under a reward that gives 0 there."""
    env = StreamingAudioVectorEnv(8, beeps, autoreset=False, thinking_s=0.13)
    env.reset(options={"scenario_seeds": list(range(8))})
    rng, done = np.random.default_rng(1), np.zeros(8, bool)
    while not done.all():
        kinds = (rng.random(8) < 0.1).astype(np.int64)
        done |= env.step({"kind": kinds, "tokens": np.tile(WORDS[:16], (8, 1))})[2]
    again = rescore(env.traces, Reward.default())
    assert again == env.traces
    assert [bits(s.rewards) for t in again for s in t.steps] == [bits(s.rewards) for t in env.traces for s in t.steps]


def played(reward: Reward | None = None, actions: int = 0) -> Trace:
    env = StreamingAudioEnv(beeps, reward=reward)
    env.reset(options={"scenario_seed": 3})
    rng = np.random.default_rng(actions)
    while not env.step(random_action(rng))[2]:
        pass
    return env.trace


def test_another_reward_leaves_the_stored_traces_as_they_are():
    trace = played()
    before = Trace.from_json(trace.to_json())
    (again,) = rescore([trace], reward_from_config([{"name": "miss", "weight": 3.0}]))
    assert trace == before
    assert {name for step in again.steps for name in step.rewards} == {"miss"}
    assert again.replies == trace.replies
    missed = sum(step.rewards["miss"] for step in trace.steps)
    assert again.total_reward == pytest.approx(3 * missed)


class Prepared:
    """Is told of all moments, then asked about each."""

    def __init__(self):
        self.ended, self.calls = [], 0

    def prepare(self, moments):
        self.calls += 1
        self.ended += [moment.ended.text for moment in moments if moment.ended is not None]

    def value(self, moment):
        assert moment.ended is None or moment.ended.text in self.ended
        return 0.0


def test_the_replies_of_all_traces_are_told_of_together():
    hook = Prepared()
    traces = [played(actions=i) for i in range(5)]
    rescore(traces, Reward([("mine", 1.0, hook)]))
    assert hook.calls == 1
    assert hook.ended == [reply.text for trace in traces for reply in trace.replies]


def test_the_replies_of_one_step_of_the_batch_are_told_of_together():
    hook = Prepared()
    env = StreamingAudioVectorEnv(3, beeps, reward=Reward([("mine", 1.0, hook)]))
    env.reset(seed=0)
    env.step({"kind": np.ones(3, np.int64), "tokens": np.tile([IDS.encode("x")[0], IDS.end_id], (3, 8))})
    assert (hook.calls, hook.ended) == (1, ["x"] * 3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: replace(t.steps[0], now_s=None), "earlier version"),
        (lambda t: replace(t.steps[0], ended=True), "ends a reply at step 0 that it did not begin"),
        (lambda t: replace(t.steps[0], kind=1), "another start, or answers another cue"),
        (lambda t: replace(t.steps[0], kind=2), "speaks at step 0 in no reply"),
    ],
)
def test_a_trace_that_contradicts_itself_is_refused(spoil, message):
    trace = next(t for t in (played(actions=i) for i in range(50)) if t.steps[0].kind == 0 and t.replies)
    trace.steps[0] = spoil(trace)
    with pytest.raises(ScenarioError, match=rf"trace of scenario 3 .*{message}.*play the policy once more"):
        rescore([trace], Reward.default())


def test_a_reply_that_answers_another_cue_than_stored_is_refused():
    trace = next(t for t in (played(actions=i) for i in range(50)) if t.replies and t.replies[0].cue is not None)
    trace.replies[0].cue = None
    with pytest.raises(ScenarioError, match="answers another cue"):
        rescore([trace], Reward.default())
    trace.replies.clear()
    with pytest.raises(ScenarioError, match="begins a reply at step"):
        rescore([trace], Reward.default())


class FailsLate:
    def value(self, moment):
        return 1.0 if moment.step < 5 else float("nan")


def test_a_component_that_fails_on_a_stored_trace_is_named():
    with pytest.raises(ConfigError, match="component 'mine' gave nan at step 5 of scenario 3"):
        rescore([played()], Reward([("mine", 1.0, FailsLate())]))
