"""Many streams in one batch are, for Stable-Baselines3, the single environments that a gate's README trains on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.errors import PolicyError
from envs.scenario import Cue, Scenario
from envs.stream_env import StreamingAudioEnv
from envs.vector_env import StreamingAudioVectorEnv
from envs.wrappers import DiscreteDecision
from policies.frozen_encoder import FrozenEncoder
from policies.gate import ChunkEncoder, GateObservation
from policies.gate_vec_env import GateVecEnv
from policies.log_mel_encoder import LogMelEncoder
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import noise, tiny_model

SLOTS = 3
CANNED = "x" * 40  # three chunks


def short(seed: int) -> Scenario:
    """Six to nine chunks with one cue."""
    cue = Cue(0.4, 0.7, 1.7, "noise", ("A loud noise!",), ("noise",), 1.0, "iv", "safety_signal")
    return Scenario(seed, "Proactive", noise(seed, 6 + seed % 4), (), (cue,), ())


def longer(progress: float) -> Callable[[int], Scenario]:
    """Streams that grow by as many chunks as tenths of the training are done."""
    return lambda seed: Scenario(seed, "Proactive", noise(seed, 4 + round(10 * progress)), (), (), ())


def batch(encoder: ChunkEncoder, **more: Any) -> GateVecEnv:
    return GateVecEnv(StreamingAudioVectorEnv(SLOTS, short, autoreset=False), encoder, 4, 10, canned=CANNED, **more)


def encoders(tokenizer: ReplyTokenizer) -> dict[str, ChunkEncoder]:
    """One keeps the loudest value of a stream, one nothing of it, one is no network."""
    own = {name: FrozenEncoder.of(tiny_model(tokenizer, backbone=name)) for name in ("compact", "qwen2.5-omni")}
    return {**own, "log-mel": LogMelEncoder()}


@pytest.fixture(params=["compact", "qwen2.5-omni", "log-mel"])
def encoder(request: pytest.FixtureRequest, tokenizer: ReplyTokenizer) -> ChunkEncoder:
    return encoders(tokenizer)[request.param]


def decisions(step: int) -> NDArray[np.int64]:
    return np.random.default_rng([step, 3]).integers(0, 2, SLOTS)


def test_a_slot_is_a_single_environment(encoder: ChunkEncoder) -> None:
    """Episode n is scenario 10 + n, whichever slot plays it; the next begins in the step that ends the last."""
    env = batch(encoder)
    alone = [
        GateObservation(DiscreteDecision(StreamingAudioEnv(short), canned=CANNED), encoder, 4) for _ in range(SLOTS)
    ]
    seen = env.reset()
    expected = [one.reset(options={"scenario_seed": 10 + i})[0] for i, one in enumerate(alone)]
    begun, ended = SLOTS, 0
    for step in range(24):
        for i, observation in enumerate(expected):
            assert np.allclose(seen["embeddings"][i], observation["embeddings"], atol=1e-5)
            assert np.array_equal(seen["spoke"][i], observation["spoke"])
            assert seen["speaking"][i] == observation["speaking"]
        last, (seen, rewards, over, infos) = expected[:], env.step(decisions(step))
        for i, one in enumerate(alone):
            expected[i], reward, terminated, _, _ = one.step(decisions(step)[i])
            assert (rewards[i], over[i]) == (pytest.approx(reward), terminated)
            if terminated:
                trace = one.unwrapped.trace
                assert infos[i]["episode"] == {"r": pytest.approx(trace.total_reward), "l": len(trace.steps)}
                assert sum(infos[i]["reward"].values()) == pytest.approx(trace.total_reward)
                assert np.allclose(infos[i]["terminal_observation"]["embeddings"], last[i]["embeddings"], atol=1e-5)
                expected[i], _ = one.reset(options={"scenario_seed": 10 + begun})
                begun, ended = begun + 1, ended + 1
            else:
                assert infos[i] == {}
    assert ended > SLOTS


def test_what_all_hear_is_encoded_in_one_call(tokenizer: ReplyTokenizer) -> None:
    """Where episodes end and begin, too."""
    encoder, calls = LogMelEncoder(), list[int]()
    encoder.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    env = batch(encoder)
    env.reset()
    ends = sum(env.step(decisions(step))[2].sum() for step in range(20))
    assert ends
    assert calls == [SLOTS] * 21


@pytest.mark.parametrize("steps", [0, 1, 6, 7, 19])
def test_streams_go_on_where_they_were(encoder: ChunkEncoder, steps: int) -> None:
    """Bit for bit, in the middle of replies and episodes, each at the difficulty at which it began."""
    env, again = batch(encoder, schedule=longer), batch(encoder, schedule=longer)
    env.reset()
    for step in range(steps):
        env.progress = step / 20
        env.step(decisions(step))
    arrays, about = env.state()
    kept = {name: array.copy() for name, array in arrays.items()}
    again.progress = env.progress = 0.5
    restored = again.restore(kept, about)
    assert all(np.array_equal(restored[name], env._seen[name]) for name in restored)
    for step in range(steps, steps + 15):
        one, other = env.step(decisions(step)), again.step(decisions(step))
        assert all(np.array_equal(one[0][name], other[0][name]) for name in one[0])
        assert (one[1].tolist(), one[2].tolist()) == (other[1].tolist(), other[2].tolist())
        assert [info.get("episode") for info in one[3]] == [info.get("episode") for info in other[3]]
    assert env.state()[1] == again.state()[1]


def test_later_episodes_are_of_the_progress_at_which_they_begin() -> None:
    env = batch(LogMelEncoder(), schedule=longer)
    env.reset()
    env.progress, lengths = 0.3, list[int]()
    for _ in range(12):
        lengths += [info["episode"]["l"] for info in env.step(np.zeros(SLOTS))[3] if "episode" in info]
    assert lengths == [4] * SLOTS + [7] * SLOTS


def test_an_environment_that_resets_by_itself_is_refused() -> None:
    with pytest.raises(PolicyError, match="autoreset=False"):
        GateVecEnv(StreamingAudioVectorEnv(2, short), LogMelEncoder())
    env = batch(LogMelEncoder())
    assert env.get_attr("tokens_per_chunk") == [16] * SLOTS
    for refused in (lambda: env.set_attr("reward", None), lambda: env.env_method("reset")):
        with pytest.raises(PolicyError, match=r"on `\.env`"):
            refused()
