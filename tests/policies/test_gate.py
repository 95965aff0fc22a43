"""Gates: what they see is what the engine hears, and Stable-Baselines3 trains them and nothing under them."""

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env

from envs.clock import CHUNK_SAMPLES
from envs.errors import PolicyError
from envs.scenario import Cue, Scenario
from envs.stream_env import StreamingAudioEnv
from envs.tokenizer import ByteTokenizer
from envs.trace import Trace
from envs.wrappers import DiscreteDecision
from policies.backbones import BACKBONES
from policies.engine import Engine, Sampling
from policies.frozen_encoder import FrozenEncoder
from policies.gate import Gate, GateExtractor, GateMemory, GateObservation
from policies.gate_policy import GatePolicy
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import noise, tiny_model
from trainers.evaluation import play

IDS, K = ByteTokenizer(), 16
ALARM = "A loud noise!"  # 14 tokens with its end: one chunk
EXTRACTOR = {"features_extractor_class": GateExtractor}
JUDGED = range(1000, 1032)


def loud(seed: int) -> Scenario:
    """Faint noise, and at times a loud one that deserves a reply within 1.2 s of its beginning."""
    rng = np.random.default_rng([seed, 5])
    audio = 0.05 * noise(seed, 16)
    onsets = [(first + int(rng.integers(3))) * 0.4 for first in (2, 9) if rng.random() < 0.7]
    for onset in onsets:
        begin = round(onset * 16_000)
        audio[begin : begin + 2 * CHUNK_SAMPLES] *= 60
    cues = tuple(Cue(t, t + 0.3, t + 1.3, "noise", (ALARM,), ("noise",), 1.0, "iv", "safety_signal") for t in onsets)
    return Scenario(seed, "Proactive", np.clip(audio, -1, 1), (), cues, ())


def quiet(seed: int) -> Scenario:
    return Scenario(seed, "Proactive", 0.05 * noise(seed, 16), (), (), ())


@pytest.fixture(scope="module")
def encoder(tokenizer: ReplyTokenizer) -> FrozenEncoder:
    return FrozenEncoder.of(tiny_model(tokenizer))


def make_env(encoder: FrozenEncoder, chunks: int = 4) -> GateObservation:
    return GateObservation(DiscreteDecision(StreamingAudioEnv(loud), canned=ALARM), encoder, chunks)


def ppo(encoder: FrozenEncoder, **policy_kwargs: object) -> PPO:
    kwargs = {"features_extractor_class": GateExtractor, **policy_kwargs}
    shape = {"n_steps": 128, "n_epochs": 5, "learning_rate": 3e-3, "gamma": 0.9}
    return PPO("MultiInputPolicy", make_env(encoder), policy_kwargs=kwargs, seed=0, device="cpu", **shape)


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def played(gate: Gate, num_slots: int = 8) -> list[Trace]:
    policy = GatePolicy(gate, num_slots, IDS, K, text=ALARM)
    return play(policy, loud, JUDGED, num_slots=num_slots, tokenizer=IDS, tokens_per_chunk=K)


def mean_reward(traces: list[Trace]) -> float:
    return float(np.mean([sum(step.reward for step in trace.steps) for trace in traces]))


class Trained(NamedTuple):
    gate: Gate
    reward_before: float
    encoder_before: dict[str, torch.Tensor]
    policy_before: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def trained(encoder: FrozenEncoder) -> Trained:
    """A gate after a few seconds of PPO, and what there was before."""
    model = ppo(encoder)
    before = mean_reward(played(Gate(model.policy, encoder))), copied(encoder), copied(model.policy)
    model.learn(1536)
    return Trained(Gate(model.policy, encoder), *before)


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_a_gate_sees_what_the_engine_hears(tokenizer: ReplyTokenizer, backbone: str) -> None:
    """Over an episode and, after a part of another, whatever was heard in that: normalisation may be `running`."""
    model = tiny_model(tokenizer, backbone=backbone)
    env, engine = make_env(FrozenEncoder.of(model), 3), Engine(model)
    for seed, length in ((0, 5), (1, 16)):
        observation, info = env.reset(seed=seed)
        chunks = iter(loud(info["scenario_seed"]).audio.reshape(-1, CHUNK_SAMPLES))
        session, expected = engine.open(Sampling(threshold=1.1)), [np.zeros(0)] * 3
        for _ in range(length):
            engine.push(session, next(chunks))
            (event,) = engine.step()
            expected = [*expected[1:], event.embeddings.flatten().numpy()]
            for seen, wanted in zip(observation["embeddings"].reshape(3, -1), expected, strict=True):
                assert np.allclose(seen, wanted if len(wanted) else 0, atol=1e-5)
            observation, _, over, _, _ = env.step(event.chunk % 4 == 1)
        engine.close(session)
    assert over


def test_a_gate_knows_when_it_spoke(encoder: FrozenEncoder) -> None:
    env = GateObservation(DiscreteDecision(StreamingAudioEnv(quiet), canned="x" * 40), encoder, 4)
    env.reset(seed=0)
    seen = [env.step(action)[0] for action in (0, 1, 1, 0, 0, 0)]  # 41 tokens are three chunks
    assert [int(o["speaking"]) for o in seen] == [0, 1, 1, 0, 0, 0]
    assert [o["spoke"].tolist() for o in seen][3:] == [[0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]
    assert not env.reset(seed=0)[0]["spoke"].any()


def test_the_last_observation_of_an_episode_outlives_it(encoder: FrozenEncoder) -> None:
    """Stable-Baselines3 asks for its value, at a time limit, after the next episode has begun."""
    memory, audio = GateMemory(encoder, 2, 2), noise(0, 2).reshape(2, -1)
    seen = memory.hear(audio, np.ones(2, bool), np.ones(2))
    kept = {name: array.copy() for name, array in seen.items()}
    memory.reset(np.ones(2, bool))
    memory.hear(audio, np.zeros(2, bool), np.zeros(2))
    assert all(np.array_equal(seen[name], kept[name]) for name in kept)


def test_stable_baselines_accepts_it(encoder: FrozenEncoder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check_env(make_env(encoder))


def test_the_encoder_is_frozen(trained: Trained) -> None:
    encoder, policy = trained.gate.encoder, trained.gate.policy
    assert all(torch.equal(tensor, trained.encoder_before[name]) for name, tensor in encoder.state_dict().items())
    assert not any(torch.equal(tensor, trained.policy_before[name]) for name, tensor in policy.state_dict().items())
    assert not any(module.training for module in encoder.train(True).modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert len(policy.optimizer.param_groups) == 1
    learned = {id(parameter) for parameter in policy.optimizer.param_groups[0]["params"]}
    assert not learned & {id(parameter) for parameter in encoder.parameters()}


def test_training_the_model_later_leaves_the_encoder_alone(tokenizer: ReplyTokenizer) -> None:
    model = tiny_model(tokenizer)
    encoder = FrozenEncoder.of(model)
    before = copied(encoder)
    for parameter in model.parameters():
        assert parameter.requires_grad
        parameter.data.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_a_gate_learns_when_to_respond(trained: Trained) -> None:
    traces = played(trained.gate)
    assert mean_reward(traces) > trained.reward_before + 1.5
    replies = [reply for trace in traces for reply in trace.replies]
    answered = sum(reply.cue is not None for reply in replies)
    assert answered > 0.8 * sum(len(trace.cues) for trace in traces)
    assert answered > 0.5 * len(replies)


def test_the_policy_does_what_was_trained(trained: Trained) -> None:
    """Eight streams at a time in `play` and one alone under Stable-Baselines3 are the same episodes."""
    env = make_env(trained.gate.encoder)
    traces = played(trained.gate)
    assert any(len(trace.replies) for trace in traces)
    for seed, trace in list(zip(JUDGED, traces, strict=True))[:12]:
        observation, _ = env.reset(options={"scenario_seed": seed})
        over = False
        while not over:
            decision, _ = trained.gate.policy.predict(observation, deterministic=True)
            observation, _, over, _, _ = env.step(decision)
        assert env.unwrapped.trace.steps == trace.steps
        assert env.unwrapped.trace.replies == trace.replies


def test_probabilities_are_given_where_there_is_a_decision(trained: Trained) -> None:
    policy = GatePolicy(trained.gate, 2, IDS, K, threshold=0.0, text="x" * 40)
    policy.reset(np.ones(2, bool))
    given = []
    for t in range(4):
        policy.act({"audio": noise(t, 2).reshape(2, -1)})
        given.append([p is not None for p in policy.response_probabilities])
        policy.reset(np.array([False, t == 0]))
    assert given == [[True, True], [False, True], [False, False], [True, False]]


def test_a_saved_gate_decides_the_same(trained: Trained, tmp_path: Path) -> None:
    trained.gate.save(tmp_path / "gate")
    loaded = Gate.load(tmp_path / "gate")
    assert {path.name for path in (tmp_path / "gate").iterdir()} == {"gate.json", "gate.safetensors"}
    assert played(loaded) == played(trained.gate)


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_gates_of_other_shapes_are_saved(tokenizer: ReplyTokenizer, tmp_path: Path, backbone: str) -> None:
    encoder = FrozenEncoder.of(tiny_model(tokenizer, backbone=backbone).bfloat16())
    shape = {"share_features_extractor": False, "net_arch": [16], "activation_fn": torch.nn.ReLU}
    gate = Gate(ppo(encoder, features_extractor_kwargs={"width": 4}, **shape).policy, encoder)
    gate.save(tmp_path)
    loaded = Gate.load(tmp_path)
    assert {tensor.dtype for tensor in loaded.encoder.projector.parameters()} == {torch.bfloat16}
    seen = [
        GateMemory(g.encoder, 4, 2).hear(noise(0, 2).reshape(2, -1), np.ones(2, bool), np.ones(2))
        for g in (gate, loaded)
    ]
    assert np.array_equal(seen[0]["embeddings"], seen[1]["embeddings"])
    assert np.array_equal(gate.probabilities(seen[0]), loaded.probabilities(seen[1]))


def test_a_spoilt_gate_is_refused_in_one_line(encoder: FrozenEncoder, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="nowhere: the gate cannot be read"):
        Gate.load(tmp_path / "nowhere")
    Gate(ppo(encoder).policy, encoder).save(tmp_path)
    about = json.loads((tmp_path / "gate.json").read_text())
    for wrong, message in (
        ({"format_version": 99}, "format version 99, this release reads 1"),
        ({"chunks": 5}, "weights do not fit"),
        ({"chunks": 0}, "remembers 0 chunks"),
        ({"policy": {**about["policy"], "activation_fn": "Tan"}}, "cannot be read: AttributeError"),
        ({"policy": {**about["policy"], "net_arch": [8]}}, "weights do not fit"),
        ({"lalm": {**about["lalm"], "backbone": "compcat"}}, "did you mean 'compact'"),
        ({"lalm": {**about["lalm"], "text_config": {"hidden_size": "many"}}}, "cannot be read"),
    ):
        (tmp_path / "gate.json").write_text(json.dumps(about | wrong))
        with pytest.raises(PolicyError, match=message) as error:
            Gate.load(tmp_path)
        assert "\n" not in str(error.value)
    (tmp_path / "gate.json").write_text("[]")
    with pytest.raises(PolicyError, match="cannot be read"):
        Gate.load(tmp_path)
    (tmp_path / "gate.json").write_text(json.dumps(about))
    (tmp_path / "gate.safetensors").write_bytes(b"junk")
    with pytest.raises(PolicyError, match="cannot be read"):
        Gate.load(tmp_path)


def test_a_gate_that_cannot_be_written_is_named(encoder: FrozenEncoder, tmp_path: Path) -> None:
    gate = Gate(ppo(encoder).policy, encoder)
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyError, match="file: the gate cannot be written"):
        gate.save(tmp_path / "file")
    gate.policy.activation_fn = type("Own", (torch.nn.Tanh,), {})
    with pytest.raises(PolicyError, match=r"expected one of torch\.nn"):
        gate.save(tmp_path / "gate")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_no_gate_is_refused(encoder: FrozenEncoder, tokenizer: ReplyTokenizer) -> None:
    env = make_env(encoder)
    with pytest.raises(PolicyError, match="not MultiInputActorCriticPolicy with CombinedExtractor"):
        Gate(PPO("MultiInputPolicy", env, device="cpu").policy, encoder)
    with pytest.raises(PolicyError, match="not MultiInputPolicy with GateExtractor"):
        Gate(DQN("MultiInputPolicy", env, buffer_size=10, policy_kwargs=EXTRACTOR, device="cpu").policy, encoder)
    with pytest.raises(PolicyError, match="the encoder gives 320 numbers a chunk"):
        Gate(ppo(encoder).policy, FrozenEncoder.of(tiny_model(tokenizer, backbone="qwen2.5-omni")))
    with pytest.raises(PolicyError, match="wrap it in DiscreteDecision first"):
        GateObservation(StreamingAudioEnv(loud), encoder)
    with pytest.raises(PolicyError, match="remembers 0 chunks, expected at least 1"):
        make_env(encoder, 0)


def test_a_policy_folder_gives_its_encoder(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    model = tiny_model(tokenizer)
    write_policy(tmp_path / "policy", model, tokenizer)
    loaded, own = FrozenEncoder.from_policy(str(tmp_path / "policy")), FrozenEncoder.of(model)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in own.state_dict().items())
    with pytest.raises(PolicyError, match="no such policy folder"):
        FrozenEncoder.from_policy(tmp_path / "nowhere")
