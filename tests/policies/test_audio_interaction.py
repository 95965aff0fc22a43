"""The released layout becomes a policy folder: against a plain implementation of LitGPT's forward."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

from envs.errors import PolicyError
from policies.conversion.audio_interaction import CONTROL_IDS, read_audio_interaction
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import SequenceBatch
from policies.token_layout import NO_AUDIO
from tests.policies.conftest import TINY_TOWER, noise
from trainers.cli import main

WORDS, ROWS = 151_643, 151_680  # of Qwen2.5; rows are padded
WIDTH, HEADS, GROUPS, INNER, LAYERS = 16, 4, 2, 24, 2
HEAD = WIDTH // HEADS
EPS, BASE = 1e-6, 1e6
MARKS = ["<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]


def language_model() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.empty(shape).normal_(0, 0.3, generator=generator)

    tensors = {"lm_head.weight": draw(ROWS, WIDTH), "transformer.wte.weight": draw(ROWS, WIDTH)}
    tensors["transformer.ln_f.weight"] = 1 + draw(WIDTH)
    stacked = (HEADS + 2 * GROUPS) * HEAD
    for n in range(LAYERS):
        layer = {"norm_1.weight": 1 + draw(WIDTH), "norm_2.weight": 1 + draw(WIDTH)}
        layer |= {"attn.qkv.weight": draw(stacked, WIDTH), "attn.qkv.bias": draw(stacked)}
        layer |= {"attn.proj.weight": draw(WIDTH, WIDTH), "mlp.proj.weight": draw(WIDTH, INNER)}
        layer |= {"mlp.fc_1.weight": draw(INNER, WIDTH), "mlp.fc_2.weight": draw(INNER, WIDTH)}
        tensors |= {f"transformer.h.{n}.{name}": tensor for name, tensor in layer.items()}
    return tensors


def write_checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], Qwen2_5OmniAudioEncoder]:
    """Write a tiny random checkpoint in the released layout."""
    tensors = language_model()
    shards = {f"model-0000{i + 1}-of-00002.safetensors": sorted(tensors)[i::2] for i in range(2)}
    for file, names in shards.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, names in shards.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model_config.yaml").write_text(
        f"name: tiny\nn_layer: {LAYERS}\nn_head: {HEADS}\nn_query_groups: {GROUPS}\nn_embd: {WIDTH}\n"
        f"intermediate_size: {INNER}\npadded_vocab_size: {ROWS}\nrope_base: {BASE:.0f}\nnorm_eps: 1e-06\n"
    )
    torch.manual_seed(1)
    audio_config = Qwen2_5OmniAudioEncoderConfig(**{**TINY_TOWER, "output_dim": WIDTH})
    tower = Qwen2_5OmniAudioEncoder(audio_config).eval()
    torch.save(tower.state_dict(), folder / "audiointeraction_ChunkwisedEncoder.pth")
    (folder / "qwen25OmniConfig").mkdir()
    document = {"thinker_config": {"audio_config": audio_config.to_dict()}}
    (folder / "qwen25OmniConfig" / "config.json").write_text(json.dumps(document))
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary |= {f"\u0120w{i}": i for i in range(len(vocabulary), WORDS)}
    words = {"th": 300, "the": CONTROL_IDS["<silent>"], "them": 301}
    vocabulary = {word: i for word, i in vocabulary.items() if i not in words.values()} | words
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[("t", "h"), ("th", "e"), ("the", "m")])
    tokenizer.add_tokens(MARKS, special_tokens=True)
    assert tokenizer.convert_tokens_to_ids("<|audio_bos|>") == CONTROL_IDS["<audio_begin>"]
    tokenizer.save_pretrained(folder)
    return tensors, tower


def litgpt_logits(tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Run LitGPT's forward, written down plainly, over embeddings [L, WIDTH]."""

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight

    length = len(x)
    angles = torch.arange(length)[:, None] / BASE ** (torch.arange(0, HEAD, 2) / HEAD)

    def turn(x: torch.Tensor) -> torch.Tensor:
        first, second = x[..., : HEAD // 2], x[..., HEAD // 2 :]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    for n in range(LAYERS):
        w = {name.removeprefix(f"transformer.h.{n}."): tensor for name, tensor in tensors.items()}
        stacked = norm(x, w["norm_1.weight"]) @ w["attn.qkv.weight"].T + w["attn.qkv.bias"]
        heads = stacked.view(length, HEADS + 2 * GROUPS, HEAD).transpose(0, 1)
        said = []
        for head in range(HEADS):
            group = head // (HEADS // GROUPS)
            query, key, value = turn(heads[head]), turn(heads[HEADS + group]), heads[HEADS + GROUPS + group]
            scores = (query @ key.T / HEAD**0.5).masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
            said.append(scores.softmax(-1) @ value)
        x = x + torch.cat(said, -1) @ w["attn.proj.weight"].T
        inner = norm(x, w["norm_2.weight"])
        inner = F.silu(inner @ w["mlp.fc_1.weight"].T) * (inner @ w["mlp.fc_2.weight"].T)
        x = x + inner @ w["mlp.proj.weight"].T
    return norm(x, tensors["transformer.ln_f.weight"]) @ tensors["lm_head.weight"].T


def test_a_released_checkpoint_becomes_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "released"
    source.mkdir()
    tensors, tower = write_checkpoint(source)
    assert main(["convert", "audio-interaction", str(source), str(tmp_path / "made" / "policy")]) == 0
    policy = LALMPolicy.from_pretrained(tmp_path / "made" / "policy", device="cpu")
    assert policy.card is not None
    assert "Made of the checkpoint `released`. Its tensors are those of the released checkpoint" in policy.card
    assert "Nothing was measured" in policy.card
    model, layout, tokenizer = policy.model, policy.model.layout, policy.tokenizer
    for name in ("silent", "response", "end", "online", "english", "assistant", "audio_begin", "pad"):
        assert getattr(layout, name) == CONTROL_IDS[f"<{name}>"]
    assert tokenizer.vocab_size == model.text_model.config.vocab_size == WORDS + 1 + len(MARKS)
    assert tokenizer.decode([*tokenizer.encode("them, the Zürich"), CONTROL_IDS["<happy>"]]) == "them, the Zürich"
    assert not set(tokenizer.encode("them, the Zürich")) & set(CONTROL_IDS.values())
    with torch.no_grad():
        features = model.make_features().whole(torch.from_numpy(noise(4, 2)))
        heard = tower(features.flatten(0, 1).T, feature_lens=torch.tensor([40, 40])).last_hidden_state  # [20, WIDTH]
        block = [layout.audio_begin, *[layout.pad] * 10, layout.assistant]
        ids = torch.tensor([[*layout.prefix, *block, layout.silent, *block, layout.response, 5, 6, layout.end]])
        audio = ids[0] == layout.pad
        embeddings = tensors["transformer.wte.weight"][ids[0]].clone()
        embeddings[audio] = heard
        expected = litgpt_logits(tensors, embeddings)[:, : tokenizer.vocab_size]
        index = torch.full_like(ids, NO_AUDIO)
        index[0, audio] = torch.arange(20)
        length = ids.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
        batch = SequenceBatch(ids, index, torch.arange(length)[None], mask)
        found = model.lm_head(model.hidden_states(batch, model.encode(features).flatten(0, 1)))[0]
    assert expected.std() > 0.1, "the test must see logits that differ"
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert main(["convert", "audio-interaction", str(source), str(tmp_path / "made" / "policy")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_all_tensors_that_do_not_fit_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"it has no model_config\.yaml, model\.safetensors"):
        read_audio_interaction(tmp_path)
    tensors, tower = write_checkpoint(tmp_path)
    del tensors["transformer.h.1.attn.qkv.bias"]
    tensors["transformer.h.0.mlp.proj.weight"] = torch.zeros(3, 4)
    save_file({**tensors, "transformer.h.9.extra": torch.zeros(1)}, tmp_path / "all.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "all.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    state = {name: tensor for name, tensor in tower.state_dict().items() if name != "conv2.bias"}
    torch.save(state, tmp_path / "audiointeraction_ChunkwisedEncoder.pth")
    with pytest.raises(PolicyError) as error:
        read_audio_interaction(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: tensors do not fit: 2 missing: conv2.bias, transformer.h.1.attn.qkv.bias;"
        " 1 unexpected: transformer.h.9.extra;"
        f" 1 of another shape: transformer.h.0.mlp.proj.weight [3, 4], not [{WIDTH}, {INNER}]"
    )
    torch.save([1, 2], tmp_path / "audiointeraction_ChunkwisedEncoder.pth")
    with pytest.raises(PolicyError, match="expected tensors by name"):
        read_audio_interaction(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(PolicyError, match="cannot be read as an Audio-Interaction checkpoint") as error:
        read_audio_interaction(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "model_config.yaml").write_text("n_layer: 2\n")
    with pytest.raises(PolicyError, match=r"model_config\.yaml: has no n_head"):
        read_audio_interaction(tmp_path)
