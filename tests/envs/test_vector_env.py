import gymnasium as gym
import numpy as np
import pytest
from beeps import beeps
from gymnasium.vector import AutoresetMode

from envs.errors import ScenarioError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from envs.stream_env import StreamingAudioEnv
from envs.tokenizer import ByteTokenizer
from envs.vector_env import StreamingAudioVectorEnv

K = 4


def test_made_by_its_name_without_processes():
    env = gym.make_vec("SoundFlow/Proactive-v0", 3, "vector_entry_point", scenarios=beeps, tokens_per_chunk=K)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    observations, infos = env.reset(seed=0)
    assert observations in env.observation_space
    assert infos["instruction"].tolist() == [""] * 3
    observations, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
    assert observations["audio"].shape == (3, 6400)
    assert sum(infos["reward"].values()) == pytest.approx(rewards)
    assert infos["invalid"].shape == terminated.shape == truncated.shape == (3,)


def test_a_slot_is_a_single_environment_byte_for_byte():
    slots, steps = 3, 40
    batch = StreamingAudioVectorEnv(slots, beeps, tokens_per_chunk=K)
    alone = [StreamingAudioEnv(beeps, tokens_per_chunk=K) for _ in range(slots)]
    batch.action_space.seed(0)
    seen, _ = batch.reset(seed=11)
    expected = [env.reset(seed=11 + i)[0] for i, env in enumerate(alone)]
    over = [False] * slots
    for _ in range(steps):
        for i, observation in enumerate(expected):
            assert all(seen[key][i].tobytes() == np.asarray(observation[key]).tobytes() for key in observation)
        actions = batch.action_space.sample()
        seen, rewards, terminated, truncated, infos = batch.step(actions)
        assert not truncated.any()
        for i, env in enumerate(alone):
            if over[i]:  # the batch begins this slot's next episode in this step
                expected[i], over[i] = env.reset()[0], False
                assert (rewards[i], terminated[i]) == (0.0, False)
                continue
            action = {key: actions[key][i] for key in actions}
            expected[i], reward, over[i], _, info = env.step(action)
            assert (rewards[i], terminated[i], infos["invalid"][i]) == (reward, over[i], info["invalid"])
            assert {name: part[i] for name, part in infos["reward"].items()} == info["reward"]
            assert batch.traces[i] == env.trace
            assert infos["scenario_seed"][i] == env.trace.seed


class Talkative:
    """A user's component that gives something in every step, and does not call itself eventful."""

    def value(self, moment):
        return 0.125


@pytest.mark.parametrize("thinking_s", [0.0, (0.05, 0.3, 1.1)], ids=["at once", "measured times"])
@pytest.mark.parametrize("parts", [(), (("talk", 1.0, Talkative()),)], ids=["eventful", "a user's own"])
def test_steps_in_which_nothing_happens_are_steps_all_the_same(parts, thinking_s):
    """An agent that waits nearly always is told, step for step, what a single environment tells."""
    reward = Reward([*Reward.default().components, *parts])
    batch = StreamingAudioVectorEnv(3, beeps, tokens_per_chunk=K, reward=reward, thinking_s=thinking_s)
    alone = [StreamingAudioEnv(beeps, tokens_per_chunk=K, reward=reward, thinking_s=thinking_s) for _ in range(3)]
    seen, _ = batch.reset(seed=5)
    expected, over = [env.reset(seed=5 + i)[0] for i, env in enumerate(alone)], [False] * 3
    rng = np.random.default_rng(0)
    for _ in range(120):
        assert all(seen[key][i].tobytes() == expected[i][key].tobytes() for i in range(3) for key in seen)
        kinds = rng.choice(3, 3, p=(0.9, 0.07, 0.03))
        tokens = np.full((3, K), ByteTokenizer.end_id)
        seen, rewards, terminated, _, infos = batch.step({"kind": kinds, "tokens": tokens})
        for i, env in enumerate(alone):
            if over[i]:
                expected[i], over[i] = env.reset()[0], False
                continue
            expected[i], earned, over[i], _, info = env.step({"kind": kinds[i], "tokens": tokens[i]})
            assert (rewards[i], terminated[i]) == (earned, over[i])
            assert {name: part[i] for name, part in infos["reward"].items()} == info["reward"]
    assert [trace == env.trace for trace, env in zip(batch.traces, alone, strict=True)] == [True] * 3


def test_without_autoreset_finished_slots_are_silent_until_they_are_reset():
    env = StreamingAudioVectorEnv(2, beeps, tokens_per_chunk=K, autoreset=False)
    assert env.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    short, long = sorted(range(20), key=lambda s: beeps(s).num_chunks)[::19]
    env.reset(options={"scenario_seeds": [short, long]})
    wait = {"kind": np.zeros(2, int), "tokens": np.zeros((2, K), int)}
    for _ in range(beeps(short).num_chunks):
        observations, _, terminated, _, _ = env.step(wait)
    assert terminated.tolist() == [True, False]
    finished = env.traces[0]
    observations, rewards, terminated, _, _ = env.step(wait)
    assert terminated.tolist() == [True, False]
    assert (rewards[0], observations["audio"][0].any(), len(finished.steps)) == (0.0, False, beeps(short).num_chunks)
    going_on = env.traces[1]
    env.reset(options={"reset_mask": np.array([True, False]), "scenario_seeds": [7, 8]})
    assert env.traces[0].seed == 7
    assert env.traces[1] is going_on


def test_seeds_may_be_given_by_slot():
    env = StreamingAudioVectorEnv(3, beeps)
    first, listed = env.reset(seed=4)[1]["scenario_seed"], env.reset(seed=[4, 5, 6])[1]["scenario_seed"]
    assert first.tolist() == listed.tolist()


def test_bad_arguments_are_named():
    env = StreamingAudioVectorEnv(2, beeps, tokens_per_chunk=K)
    with pytest.raises(ScenarioError, match=r"call reset\(\) first"):
        env.step(env.action_space.sample())
    with pytest.raises(ScenarioError, match="first reset must reset all slots"):
        env.reset(options={"reset_mask": [True, False]})
    with pytest.raises(ScenarioError, match="scenario_seeds has 3 entries"):
        env.reset(options={"scenario_seeds": [1, 2, 3]})
    env.reset(seed=0)
    with pytest.raises(ScenarioError, match=r"of shape \(4,\), expected integers of shape \(2, 4\)"):
        env.step({"kind": np.zeros(2, int), "tokens": np.zeros(K, int)})
    with pytest.raises(ScenarioError, match="num_envs is 0"):
        StreamingAudioVectorEnv(0, beeps)
    with pytest.raises(ScenarioError, match="does not render"):
        StreamingAudioVectorEnv(1, beeps, render_mode="rgb_array")


def play(env, steps):
    """Return the bytes that an environment gives, seeded, then let run on, then seeded anew."""
    seen = [env.reset(seed=3)[0]["audio"].tobytes()]
    actions = {"kind": np.zeros(env.num_envs, int), "tokens": np.full((env.num_envs, K), 257)}
    for step in range(steps):
        if step == steps // 2:
            seen.append(env.reset(seed=4)[0]["audio"].tobytes())
        seen.append(env.step(actions)[0]["audio"].tobytes())
    return seen


def test_scenarios_rendered_ahead_are_the_same_bytes():
    scenarios = ProactiveScenarios(Foley(), 0.8, (10, 12))
    here = StreamingAudioVectorEnv(3, scenarios, tokens_per_chunk=K)
    ahead = StreamingAudioVectorEnv(3, scenarios, tokens_per_chunk=K, workers=2)
    try:
        assert play(ahead, 60) == play(here, 60)
        assert len(set(play(here, 60))) > 50
    finally:
        ahead.close()
    with pytest.raises(ScenarioError, match="workers is -1"):
        StreamingAudioVectorEnv(3, scenarios, workers=-1)


class Counted:
    """Scenarios that count how often this process composed one."""

    def __init__(self):
        self.composed = 0

    def __call__(self, seed):
        self.composed += 1
        return beeps(seed)


def test_only_first_scenarios_are_rendered_where_they_are_played():
    scenarios = Counted()
    env = StreamingAudioVectorEnv(2, scenarios, tokens_per_chunk=K, workers=1)
    actions = {"kind": np.zeros(2, int), "tokens": np.full((2, K), 257)}
    env.reset(seed=0)
    ended = 0
    while ended < 6:
        ended += env.step(actions)[2].sum()
    env.close()
    assert scenarios.composed == 2
