import doctest
import warnings

import gymnasium as gym
import numpy as np
import pytest
from beeps import REPLIES, beeps
from gymnasium.wrappers import FlattenObservation, FrameStackObservation

from envs import log_mel, stream_env, wrappers
from envs.episode import RESPOND, TOKENS, WAIT
from envs.errors import ScenarioError
from envs.stream_env import StreamingAudioEnv
from envs.trace_files import read_traces
from envs.wrappers import CANNED_REPLY, DiscreteDecision, InjectLatency, LogMelObservation, RecordTraces

TWO_BEEPS = next(seed for seed in range(100) if len(beeps(seed).cues) == 2)


def play(env, decisions, **reset):
    """Play an episode, with 0 after the decisions given; return its trace."""
    env.reset(**reset)
    plan, terminated = iter(decisions), False
    while not terminated:
        terminated = env.step(next(plan, 0))[2]
    return env.unwrapped.trace


@pytest.mark.parametrize("module", [wrappers, log_mel, stream_env])
def test_examples_in_the_docstrings_run(module):
    result = doctest.testmod(module, extraglobs={"gym": gym, "np": np})
    assert (result.failed, result.attempted > 0) == (0, True)


def test_a_decision_says_the_reference_reply_of_the_open_cue():
    trace = play(DiscreteDecision(StreamingAudioEnv(beeps)), [0, 0, 1], options={"scenario_seed": TWO_BEEPS})
    assert [(r.text, r.cue) for r in trace.replies] == [(REPLIES[0], 0)]
    assert [step.kind for step in trace.steps][:5] == [WAIT, WAIT, RESPOND, TOKENS, WAIT]  # 28 tokens, 16 a chunk
    assert not any(step.invalid for step in trace.steps)


def test_a_decision_without_a_cue_says_the_canned_reply():
    trace = play(DiscreteDecision(StreamingAudioEnv(beeps)), [1], options={"scenario_seed": TWO_BEEPS})
    assert [(r.text, r.cue) for r in trace.replies] == [(CANNED_REPLY, None)]


def test_what_is_decided_in_the_middle_of_a_reply_is_ignored():
    env = DiscreteDecision(StreamingAudioEnv(beeps), canned="x" * 40)
    trace = play(env, [1, 1, 0, 1], options={"scenario_seed": TWO_BEEPS})
    assert [step.kind for step in trace.steps][:4] == [RESPOND, TOKENS, TOKENS, RESPOND]
    assert trace.replies[0].text == "x" * 40


def test_a_reply_cut_by_a_reset_is_forgotten():
    env = DiscreteDecision(StreamingAudioEnv(beeps), canned="x" * 80)
    env.reset(options={"scenario_seed": TWO_BEEPS})
    env.step(1)
    assert play(env, [], options={"scenario_seed": TWO_BEEPS}).replies == []


def test_log_mel_observations_are_those_of_the_whole_waveform():
    env = LogMelObservation(StreamingAudioEnv(beeps))
    env.action_space.seed(0)
    for seed in (3, 4):
        observation, _ = env.reset(options={"scenario_seed": seed})
        heard, terminated = [], False
        while not terminated:
            assert observation in env.observation_space
            heard.append(observation)
            observation, _, terminated, _, _ = env.step(env.action_space.sample())
        assert np.allclose(np.concatenate(heard), log_mel.log_mel(beeps(seed).audio), atol=1e-6)


def test_gymnasiums_frame_stacking_fits():
    env = FrameStackObservation(LogMelObservation(StreamingAudioEnv(beeps)), stack_size=3)
    assert env.reset(seed=0)[0].shape == (3, 40, 64)


def test_stable_baselines_checks_and_trains():
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env

    env = LogMelObservation(DiscreteDecision(StreamingAudioEnv(beeps)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check_env(DiscreteDecision(StreamingAudioEnv(beeps)))
        check_env(FlattenObservation(env))
    with pytest.warns(UserWarning, match="unconventional shape"):  # [40, 64] is no image; MlpPolicy flattens it
        check_env(env)
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=16, n_epochs=1, device="cpu", seed=0)
    model.learn(64)
    decision, _ = model.predict(env.reset(seed=0)[0])
    assert env.step(decision)[0].shape == (40, 64)


def test_traces_are_recorded_and_read_back(tmp_path):
    def recorded(seed):
        return play(RecordTraces(DiscreteDecision(StreamingAudioEnv(beeps)), tmp_path / "traces"), [0, 0, 1], seed=seed)

    first, second = recorded(1), recorded(2)  # the second wrapper goes on counting
    assert sorted(p.name for p in (tmp_path / "traces").iterdir()) == ["episode-000000.jsonl", "episode-000001.jsonl"]
    assert read_traces(tmp_path / "traces") == [first, second]


def test_a_truncated_episode_is_recorded(tmp_path):
    env = RecordTraces(gym.wrappers.TimeLimit(DiscreteDecision(StreamingAudioEnv(beeps)), 2), tmp_path)
    env.reset(seed=0)
    env.step(0)
    env.step(0)
    assert len(read_traces(tmp_path)[0].steps) == 2


def test_a_broken_line_is_named(tmp_path):
    play(RecordTraces(DiscreteDecision(StreamingAudioEnv(beeps)), tmp_path), [], seed=0)
    path = tmp_path / "episode-000000.jsonl"
    path.write_text(path.read_text() + '{"seed": 1\n')
    with pytest.raises(ScenarioError, match=r"episode-000000\.jsonl:2: not a trace"):
        read_traces(tmp_path)
    with pytest.raises(ScenarioError, match=r"no .*jsonl files"):
        read_traces(tmp_path / "nowhere")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match=r"episode-000000\.jsonl: not UTF-8"):
        read_traces(tmp_path)


def test_a_file_of_another_name_is_not_counted(tmp_path):
    (tmp_path / "episode-old.jsonl").write_text("")
    play(RecordTraces(DiscreteDecision(StreamingAudioEnv(beeps)), tmp_path), [], seed=0)
    assert (tmp_path / "episode-000000.jsonl").exists()


def test_latency_is_drawn_from_the_scenarios_seed():
    def starts(draw, decisions=(1, 1, 1)):
        env = InjectLatency(DiscreteDecision(StreamingAudioEnv(beeps, thinking_s=0.1), canned="x"), draw)
        return [r.start_s for r in play(env, decisions, options={"scenario_seed": TWO_BEEPS}).replies]

    assert starts(lambda rng: 0.2)[0] == pytest.approx(0.4 + 0.1 + 0.2)
    drawn = starts(lambda rng: rng.gamma(4.0, 0.05))
    assert drawn == starts(lambda rng: rng.gamma(4.0, 0.05))
    assert drawn[0] > 0.5


@pytest.mark.parametrize("seconds", [-0.1, float("inf"), float("nan")])
def test_an_impossible_latency_is_named(seconds):
    env = InjectLatency(DiscreteDecision(StreamingAudioEnv(beeps)), lambda rng: seconds)
    env.reset(seed=0)
    with pytest.raises(ScenarioError, match=f"latency drawn is {seconds}"):
        env.step(0)


def test_only_stream_environments_are_wrapped():
    with pytest.raises(ScenarioError, match="is no stream environment"):
        DiscreteDecision(gym.make("CartPole-v1"))
