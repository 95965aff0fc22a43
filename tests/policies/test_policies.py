"""Baselines, models that were saved, and the tokenizer, as an evaluation uses them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from envs.errors import AudioError, ConfigError, PolicyError
from envs.tokenizer import ByteTokenizer
from policies.backbones import BACKBONES
from policies.baselines import make_baseline
from policies.configuration_lalm import LALMConfig
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import LALM
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import REPLIES, noise, tiny_model


def observations(audio: np.ndarray) -> dict[str, np.ndarray]:
    return {"audio": audio, "speaking": np.zeros(len(audio), np.int64), "elapsed": np.zeros((len(audio), 1))}


def test_tokenizer_round_trips_any_text(tokenizer: ReplyTokenizer) -> None:
    for text in [*REPLIES, "Zürich, 你好!"]:
        assert tokenizer.decode([*tokenizer.encode(text), tokenizer.end_id]) == text


@pytest.mark.parametrize(("name", "speaks"), [("silent", False), ("always", True)])
def test_baselines_do_what_their_names_say(name: str, speaks: bool) -> None:
    policy = make_baseline(name, 2, ByteTokenizer(), 16)
    policy.reset(np.ones(2, bool))
    actions = policy.act(observations(np.zeros((2, 6400), np.float32)))
    assert (actions["kind"] == (1 if speaks else 0)).all()


def test_energy_speaks_at_a_rise_in_level_and_not_at_steady_noise() -> None:
    policy = make_baseline("energy", 1, ByteTokenizer(), 64)
    policy.reset(np.ones(1, bool))
    quiet, loud = noise(0, 1)[None] * 0.01, noise(0, 1)[None]
    kinds = [int(policy.act(observations(x))["kind"][0]) for x in (quiet, quiet, loud)]
    assert kinds == [0, 0, 1]


def test_unknown_baseline_is_named() -> None:
    with pytest.raises(PolicyError, match="did you mean 'silent'"):
        make_baseline("silnt", 1, ByteTokenizer(), 16)


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_a_saved_policy_does_what_it_did(tokenizer: ReplyTokenizer, tmp_path: Path, backbone: str) -> None:
    """Buffers that are not in the file as well: `from_pretrained` left them uninitialised, and words were noise."""
    model = tiny_model(tokenizer, backbone=backbone)
    write_policy(tmp_path / "policy", model, tokenizer)
    loaded = LALMPolicy.from_pretrained(tmp_path / "policy", device="cpu")
    tensors = [*model.state_dict().items(), *model.named_buffers()]
    held = {**loaded.model.state_dict(), **dict(loaded.model.named_buffers())}
    for name, tensor in tensors:
        assert torch.equal(held[name], tensor), name
    assert len(held) == len(dict(tensors))
    assert loaded.tokenizer.encode(REPLIES[0]) == tokenizer.encode(REPLIES[0])


def test_compact_policies_keep_their_names(tokenizer: ReplyTokenizer) -> None:
    """A policy saved by an earlier release of this format loads."""
    layer = [f"self_attn.{p}_proj.{kind}" for p in "qkv" for kind in ("weight", "bias")]
    layer += ["self_attn.o_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight"]
    layer += [f"mlp.{p}_proj.weight" for p in ("gate", "up", "down")]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"text_model.layers.{i}.{name}" for i in range(2) for name in layer}
    expected |= {f"encoder.convolutions.{i}.{name}" for i in (1, 4, 7, 10) for name in norm}
    expected |= {f"encoder.convolutions.{i}.weight" for i in (0, 3, 6, 9)}
    expected |= {f"{name}.{kind}" for name in ("projector.0", "projector.1", "decision_head") for kind in norm[:2]}
    expected |= {"text_model.embed_tokens.weight", "text_model.norm.weight", "lm_head.weight"}
    assert set(tiny_model(tokenizer).state_dict()) == expected


def test_an_unknown_backbone_is_named(tokenizer: ReplyTokenizer) -> None:
    config = tiny_model(tokenizer).config
    config.backbone = "qwen2.5-omi"
    with pytest.raises(PolicyError, match=r"did you mean 'qwen2\.5-omni'"):
        LALM(config)


def test_a_window_holds_what_is_heard_under_the_longest_reply(tokenizer: ReplyTokenizer) -> None:
    """Else a run of chunks would be fed in two pieces, and the training forward knows only one."""
    layout = tokenizer.layout(audio_tokens_per_chunk=2, tokens_per_chunk=4, window_chunks=8)
    with pytest.raises(ConfigError, match="window_chunks is 8, expected at least 9"):
        LALMConfig.compact(layout, tokenizer.vocab_size, max_reply_tokens=32)


def test_a_chunk_that_cannot_be_used_stops_the_batch_before_anybody_hears(tokenizer: ReplyTokenizer) -> None:
    """Slot 1 is spoilt: slot 0 must not have heard its chunk when the same step is tried again."""
    policy = LALMPolicy(tiny_model(tokenizer), tokenizer, 2)
    policy.reset(np.ones(2, bool))
    good = np.stack([noise(0, 1), noise(1, 1)])
    bad = np.stack([noise(0, 1), np.full(6400, np.inf, np.float32)])
    with pytest.raises(AudioError, match=r"observations\['audio'\]\[1\]: sample 0 is inf"):
        policy.act(observations(bad))
    for shape in ((2, 3200), (1, 6400), (6400,)):
        with pytest.raises(AudioError, match=r"expected \[2, 6400\]: one chunk a slot"):
            policy.act(observations(np.zeros(shape, np.float32)))
    with pytest.raises(AudioError, match="hold 'sound', expected 'audio'"):
        policy.act({"sound": good})
    policy.act(observations(good))
    assert [event.chunk for event in policy.events if event] == [0, 0]
    policy.retire(1)
    policy.act(observations(bad))  # nobody listens in slot 1
