"""Baselines, policy folders and the tokenizer, as an evaluation uses them."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.errors import ConfigError, PolicyError
from envs.tokenizer import ByteTokenizer
from policies.backbones import BACKBONES
from policies.baselines import make_baseline
from policies.configuration_lalm import LALMConfig
from policies.lalm_policy import load_policy, save_policy
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer, train_tokenizer
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
    save_policy(tmp_path / "policy", model, tokenizer)
    loaded = load_policy(tmp_path / "policy")
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


def test_a_policy_that_cannot_be_written_leaves_the_one_before(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """A file may grow to 64 kB and no further, as on a disk that fills up."""
    model, folder = tiny_model(tokenizer), tmp_path / "policy"
    save_policy(folder, model, tokenizer)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model.decision_head.bias.data.fill_(7.0)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, unlimited[1]))
    try:
        with pytest.raises(PolicyError, match="policy: the policy cannot be written") as error:
            save_policy(folder, model, tokenizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_a_tokenizer_of_another_policy_is_refused(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """It would load, and every word would be another one."""
    folder, other = tmp_path / "policy", train_tokenizer([*REPLIES, "Something else."], 280)
    save_policy(folder, tiny_model(tokenizer), tokenizer)
    other.hf.save_pretrained(folder)
    with pytest.raises(PolicyError, match="belongs to another policy"):
        load_policy(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(PolicyError, match=r"tokenizer\.json: cannot be read") as error:
        load_policy(folder)
    assert "\n" not in str(error.value)


def test_a_window_holds_what_is_heard_under_the_longest_reply(tokenizer: ReplyTokenizer) -> None:
    """Else a run of chunks would be fed in two pieces, and the training forward knows only one."""
    layout = tokenizer.layout(audio_tokens_per_chunk=2, tokens_per_chunk=4, window_chunks=8)
    with pytest.raises(ConfigError, match="window_chunks is 8, expected at least 9"):
        LALMConfig.compact(layout, tokenizer.vocab_size, max_reply_tokens=32)


def test_what_is_no_policy_folder_is_refused_in_one_line(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such policy folder"):
        load_policy(tmp_path / "nowhere")
    with pytest.raises(PolicyError, match=r"it has no config\.json"):
        load_policy(tmp_path)
    folder = tmp_path / "policy"
    save_policy(folder, tiny_model(tokenizer), tokenizer)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(PolicyError, match="format version 99"):
        load_policy(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(PolicyError, match="cannot be read") as error:
        load_policy(folder)
    assert "\n" not in str(error.value)
