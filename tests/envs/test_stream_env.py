import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from beeps import REPLIES, beeps
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TimeLimit

from envs.episode import RESPOND, TOKENS, WAIT
from envs.errors import ScenarioError
from envs.stream_env import StreamingAudioEnv
from envs.tokenizer import ByteTokenizer

K = 16
SCENARIO_WITH_TWO_BEEPS = next(seed for seed in range(100) if len(beeps(seed).cues) == 2)


def action(kind, ids=()):
    tokens = np.full(K, ByteTokenizer.vocab_size)
    tokens[: len(ids)] = ids
    return {"kind": kind, "tokens": tokens}


@pytest.fixture
def env():
    return StreamingAudioEnv(beeps)


@pytest.mark.parametrize("render_mode", [None, "ansi"])
def test_gymnasiums_checker_has_no_complaint(render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(StreamingAudioEnv(beeps, render_mode=render_mode), skip_render_check=True)


def test_gymnasiums_checker_has_no_complaint_about_the_registered_environment():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("envs:SoundFlow/Proactive-v0", render_mode="rgb_array").unwrapped)


def test_made_by_its_name_it_plays_built_in_foley():
    env = gym.make("envs:SoundFlow/Proactive-v0")
    observation, info = env.reset(seed=3)
    assert observation in env.observation_space
    assert np.abs(observation["audio"]).max() > 0
    assert info["instruction"] == ""
    assert env.step(env.action_space.sample())[2] is False
    assert env.unwrapped.metadata["render_fps"] == 2.5


def test_the_agent_hears_the_scenario_chunk_by_chunk(env):
    observation, info = env.reset(options={"scenario_seed": 5})
    scenario, heard, terminated = beeps(5), [], False
    while not terminated:
        heard.append(observation["audio"])
        assert observation["elapsed"][0] == pytest.approx(0.4 * len(heard))
        observation, _, terminated, truncated, info = env.step(action(WAIT))
        assert not truncated
    assert np.array_equal(np.concatenate(heard), scenario.audio)
    assert not observation["audio"].any()
    assert info["invalid"] is False


def test_an_answer_in_time_earns_latency_and_helpfulness(env):
    env.reset(options={"scenario_seed": SCENARIO_WITH_TWO_BEEPS})
    say = [*ByteTokenizer().encode(REPLIES[0]), ByteTokenizer.end_id]
    env.step(action(WAIT))
    env.step(action(WAIT))
    observation, reward, _, _, info = env.step(action(RESPOND, say[:K]))  # at 1.2 s; ready at 1.0 s, deadline 2.0 s
    urgency = env.trace.cues[0].urgency
    assert observation["speaking"] == 1
    assert info["reward"]["latency"] == pytest.approx(0.8 * urgency)
    assert sum(info["reward"].values()) == reward
    observation, _, _, _, info = env.step(action(TOKENS, say[K:]))
    assert observation["speaking"] == 0
    assert info["reward"]["helpfulness"] == pytest.approx(1.0)
    assert env.trace.replies[0].text == REPLIES[0]


def test_a_time_limit_truncates_and_the_scenario_terminates():
    env = TimeLimit(StreamingAudioEnv(beeps), max_episode_steps=3)
    env.reset(seed=0)
    ends = [env.step(action(WAIT))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_seed_decides_and_the_generator_goes_on(env):
    first = [env.reset(seed=9)[1]["scenario_seed"], *(env.reset()[1]["scenario_seed"] for _ in range(3))]
    again = [env.reset(seed=9)[1]["scenario_seed"], *(env.reset()[1]["scenario_seed"] for _ in range(3))]
    assert first == again
    assert len(set(first)) == 4


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (1, "a dict of 'kind' and 'tokens'"),
        ({"kind": 1}, "a dict of 'kind' and 'tokens'"),
        ({"kind": 1, "tokens": np.zeros(K - 1, int)}, r"action\['tokens'\] is int64 of shape \(15,\)"),
        ({"kind": 1, "tokens": np.zeros(K)}, "float64"),
        ({"kind": [1], "tokens": np.zeros(K, int)}, r"action\['kind'\] is int64 of shape \(1,\)"),
        ({"kind": 3, "tokens": np.zeros(K, int)}, "is 3, expected 0"),
    ],
)
def test_an_action_of_another_shape_is_one_clear_error(env, bad, message):
    env.reset(seed=0)
    with pytest.raises(ScenarioError, match=message):
        env.step(bad)
    assert env.trace.steps == []


def test_order_and_arguments_are_checked(env):
    with pytest.raises(ScenarioError, match="call reset"):
        env.step(action(WAIT))
    env.reset(seed=0)
    while not env.step(action(WAIT))[2]:
        pass
    with pytest.raises(ScenarioError, match="played out"):
        env.step(action(WAIT))
    with pytest.raises(ScenarioError, match="tokens_per_chunk is 0"):
        StreamingAudioEnv(beeps, tokens_per_chunk=0)
    with pytest.raises(ScenarioError, match="thinking_s is -1"):
        StreamingAudioEnv(beeps, thinking_s=-1.0)
    with pytest.raises(ScenarioError, match="render_mode is 'movie', expected one of"):
        StreamingAudioEnv(beeps, render_mode="movie")


def test_importing_envs_is_light():
    heavy = ("torch", "transformers", "matplotlib", "soundfile", "soxr", "sacrebleu", "policies", "trainers")
    script = f"import sys, envs, envs.stream_env; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
