"""Qwen2.5-Omni's twin does all that a policy does; and the exactness rules hold after training, for every backbone."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import (
    Qwen2_5OmniAudioEncoderConfig,
    Qwen2_5OmniTextConfig,
)
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder, Qwen2_5OmniThinkerTextModel

from envs.audio import write_wav
from envs.errors import ConfigError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from envs.trace import Trace
from policies.backbones import BACKBONES
from policies.configuration_lalm import LALMConfig
from policies.lalm_policy import LALMPolicy
from policies.lora import add_lora, merge_lora
from policies.modeling_lalm import LALM
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import noise, tiny_model
from tests.policies.exactness import (
    check_batched_is_alone,
    check_engine_is_the_training_forward,
    check_streaming_is_offline,
)
from tests.trainers.stored import store
from trainers.config import ReinforcementConfig, SupervisedConfig
from trainers.critic import Critic
from trainers.evaluation import play
from trainers.listen import listen
from trainers.ppo import train_ppo
from trainers.samples import SampleMaker, StreamSample
from trainers.scenes import Steady
from trainers.stage_data import StageData
from trainers.stage_trainer import Place, fit_stage
from trainers.supervised import STAGES

BRIEF = ProactiveScenarios(Foley(), 0.8, (12, 12))
BRIEFER = ProactiveScenarios(Foley(), 0.8, (7, 7))
SEEDS = (1, 7)  # whose streams have a sound that deserves a reply
every_backbone = pytest.mark.parametrize("backbone", list(BACKBONES))
two_backbones = pytest.mark.parametrize("backbone", ["compact", "qwen2.5-omni"])


@pytest.fixture(autouse=True)
def _hasty_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of fitting: what the critic makes of two streams is not the point."""
    fit = Critic.fit
    monkeypatch.setattr(Critic, "fit", lambda self, known, taken, returns, _: fit(self, known, taken, returns, 2))


@pytest.fixture(scope="module")
def samples(tokenizer: ReplyTokenizer) -> Callable[[LALM], dict[str, list[StreamSample]]]:
    """Return what makes the samples of two streams for a model."""
    scenarios = [BRIEF(seed) for seed in SEEDS]

    def make(model: LALM) -> dict[str, list[StreamSample]]:
        maker = SampleMaker(tokenizer, model.layout, model.make_features().cpu())
        streams = [maker.stream(scenario) for scenario in scenarios]
        sounds = [sound for s, own in zip(scenarios, streams, strict=True) for sound in maker.sounds(s, own)]
        return {"streams": streams, "sounds": sounds}

    return make


def supervise(
    model: LALM,
    tokenizer: ReplyTokenizer,
    samples: dict[str, list[StreamSample]],
    out: Path,
    stages: Sequence[str],
    steps: int,
    rate: float,
) -> list[float]:
    """Train some stages; return all losses."""
    losses = []
    for name in stages:
        stage = replace(getattr(SupervisedConfig(), name), steps=steps, learning_rate=rate)
        data = StageData(store(samples[stage.learns_from], out / name / "samples"))
        budget = 2 * max(data.train.lengths)
        place = Place(out / name, out / name / "logs", {})
        log = fit_stage(name, replace(stage, max_tokens_per_batch=budget), model, tokenizer, data, place, seed=0)
        losses += [entry["loss"] for entry in log if "loss" in entry]
    return losses


def reinforce(
    model: LALM, tokenizer: ReplyTokenizer, out: Path, iterations: int = 1, scenarios: ProactiveScenarios = BRIEF
) -> list[float]:
    config = ReinforcementConfig(
        iterations=iterations, episodes_per_iteration=2, epochs=1, minibatches=1, learning_rate=1e-3
    )
    done = train_ppo(model, tokenizer, Steady(scenarios), SEEDS, Reward.default(), config, out, 0)
    return [value for _, value in done.curve]


def evaluate(policy: LALMPolicy, scenarios: ProactiveScenarios = BRIEF) -> Trace:
    k, tokenizer = policy.tokens_per_chunk, policy.tokenizer
    return play(policy, scenarios, SEEDS[:1], num_slots=1, tokenizer=tokenizer, tokens_per_chunk=k)[0]


@every_backbone
def test_the_exactness_rules_hold_after_training(tokenizer, samples, backbone: str, tmp_path: Path) -> None:
    """All stages and PPO change the weights; the window evicts."""
    model = tiny_model(tokenizer, 6, backbone=backbone)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    supervise(model, tokenizer, samples(model), tmp_path, STAGES, 3, 1e-3)
    reinforce(model, tokenizer, tmp_path, 2)
    changed = {name.partition(".")[0] for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {name for name, _ in model.named_children()}
    check_streaming_is_offline(model.make_features(), noise(5, 6), 6400, 777)
    check_engine_is_the_training_forward(model, (1, 2), 20)
    check_batched_is_alone(model, 12)


@two_backbones
def test_bfloat16_trains_and_plays(tokenizer, samples, backbone: str, tmp_path: Path) -> None:
    model = tiny_model(tokenizer, backbone=backbone).to(torch.bfloat16)
    curve = supervise(model, tokenizer, samples(model), tmp_path, STAGES, 1, 1e-3)
    curve += reinforce(model, tokenizer, tmp_path)
    assert len(curve) == len(STAGES) + 1
    assert np.isfinite(curve).all()
    assert all(p.dtype == torch.bfloat16 and p.isfinite().all() for p in model.parameters())
    policy = LALMPolicy(model, tokenizer)
    probabilities = [p for p in evaluate(policy).probabilities if p is not None]
    assert probabilities
    assert all(0.0 <= p <= 1.0 for p in probabilities)


@pytest.mark.parametrize(("backbone", "dtype"), [("compact", torch.float32), ("qwen2.5-omni", torch.bfloat16)], ids=str)
def test_only_adapters_are_trained(tokenizer, samples, backbone: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """By a supervised stage and by PPO; before, between and after them the base weights of the layers are frozen."""
    model = add_lora(tiny_model(tokenizer, backbone=backbone).to(dtype), 2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    frozen = [name for name in before if name.startswith("text_model.") and ".lora_" not in name]
    for train in (
        lambda: supervise(model, tokenizer, samples(model), tmp_path, ["streams"], 2, 1e-2),
        lambda: reinforce(model, tokenizer, tmp_path, 2),
    ):
        assert np.isfinite(train()).all()
        own = dict(model.named_parameters())
        assert not any(own[name].requires_grad for name in frozen)
        assert all(own[name].equal(before[name]) for name in frozen)
        assert not any(own[name].equal(before[name]) for name in before if ".lora_B" in name)
        assert all(p.requires_grad for name, p in own.items() if ".lora_" in name)
        before = {name: value.clone() for name, value in own.items()}


def test_the_twin_does_everything_on_a_cpu(tokenizer, samples, tmp_path: Path) -> None:
    """At 1/64 of the size: all stages, checkpointed, the last by adapters; PPO, evaluation, a folder, `listen`."""
    layout = tokenizer.layout(audio_tokens_per_chunk=10, tokens_per_chunk=2, window_chunks=12)
    torch.manual_seed(0)
    model = LALM(LALMConfig.qwen_omni_twin(layout, tokenizer.vocab_size, max_reply_tokens=2))
    model.gradient_checkpointing_enable()
    own = {kind: made[:1] for kind, made in samples(model).items()}
    losses = supervise(model, tokenizer, own, tmp_path, ["hearing", "format"], 1, 1e-3)
    add_lora(model, 4)
    losses += supervise(model, tokenizer, own, tmp_path, ["streams"], 1, 1e-3)
    rewards = reinforce(model, tokenizer, tmp_path, 1, BRIEFER)
    assert len(losses) == 3
    assert np.isfinite([*losses, *rewards]).all()
    write_policy(tmp_path / "policy", merge_lora(model), tokenizer)
    assert evaluate(LALMPolicy.from_pretrained(tmp_path / "policy"), BRIEFER).probabilities[0] is not None
    write_wav(tmp_path / "sound.wav", noise(0, 2))
    lines = io.StringIO()
    listen(tmp_path / "sound.wav", tmp_path / "policy", lines, as_json=True)
    assert [json.loads(line)["chunk"] for line in lines.getvalue().splitlines()][:2] == [0, 1]


def on_meta(tokenizer: ReplyTokenizer, vocab_size: int, shrink: int) -> LALM:
    layout = tokenizer.layout(audio_tokens_per_chunk=10, tokens_per_chunk=4, window_chunks=60)
    with torch.device("meta"):
        return LALM(LALMConfig.qwen_omni_twin(layout, vocab_size, shrink=shrink))


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_full_size_is_qwens(tokenizer) -> None:
    """Without memory: as many parameters as the modules of `transformers` at the published 3B shape."""
    model = on_meta(tokenizer, 151_936, 1)
    text = Qwen2_5OmniTextConfig(
        vocab_size=151_936,
        hidden_size=2048,
        intermediate_size=11_008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
    )
    with torch.device("meta"):
        language_model = Qwen2_5OmniThinkerTextModel(text)
        tower = Qwen2_5OmniAudioEncoder(Qwen2_5OmniAudioEncoderConfig(output_dim=2048))
    head, decision = 151_936 * 2048, 2048 + 1
    assert size(model) == size(language_model) + size(tower) + head + decision == 4_034_782_209


def test_the_twin_is_a_sixty_fourth(tokenizer) -> None:
    """Of the layers, where all but a few of the parameters are: widths are an eighth, depth and heads stay."""
    full, twin = on_meta(tokenizer, 151_936, 1), on_meta(tokenizer, tokenizer.vocab_size, 8)
    for layers in ("text_model.layers", "encoder.tower.layers"):
        ratio = size(full.get_submodule(layers)) / size(twin.get_submodule(layers))
        assert ratio == pytest.approx(64, rel=0.01)
        assert len(full.get_submodule(layers)) == len(twin.get_submodule(layers))
    assert 53e6 < size(twin) < 54e6
    with pytest.raises(ConfigError, match="shrink is 3, expected one of 1, 2, 4"):
        on_meta(tokenizer, 300, 3)
