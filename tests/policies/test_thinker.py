"""Qwen2.5-Omni's thinker becomes a LALM: against `transformers` itself, at tiny random sizes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2_5OmniThinkerForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2 import Qwen2Config, Qwen2Model
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniTextConfig, Qwen2_5OmniThinkerConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel

from envs.errors import PolicyError
from policies.conversion.thinker import from_thinker
from policies.engine import Engine
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import ExactRotaryEmbedding, SequenceBatch
from policies.policy_folder import write_policy
from policies.sequences import Turn, collate, lay_out
from policies.token_layout import NO_AUDIO, SPECIAL_TOKENS
from tests.policies.conftest import ROPE, TINY_TEXT, TINY_TOWER, noise

VOCABULARY = 300  # rows, some of which no token has
KNOWN = 260  # ids of the tokenizer: bytes, its end of text, and the three below
AUDIO, AUDIO_BEGIN, AUDIO_END = 257, 258, 259
OWN_TOKENS = ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
OMNI_ROPE = {**ROPE, "mrope_section": [1, 1, 2]}


def write_thinker(folder: Path, tied: bool = False, **text: object) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """Write a tiny random checkpoint with `transformers` itself."""
    torch.manual_seed(0)
    config = Qwen2_5OmniThinkerConfig(
        audio_config={**TINY_TOWER, "num_mel_bins": 128},
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": TINY_TEXT["hidden_size"],
            "fullatt_block_indexes": [0],
        },
        text_config={"vocab_size": VOCABULARY, **TINY_TEXT, "rope_parameters": OMNI_ROPE, **text},
        audio_token_index=AUDIO,
        audio_start_token_id=AUDIO_BEGIN,
        audio_end_token_id=AUDIO_END,
        image_token_index=290,
        video_token_index=291,
        vision_start_token_id=292,
        tie_word_embeddings=tied,
    )
    thinker = Qwen2_5OmniThinkerForConditionalGeneration(config).eval()
    for parameter in thinker.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(3.0)
    thinker.save_pretrained(folder)
    tokenizer = Qwen2Tokenizer(vocab={symbol: i for i, symbol in enumerate(sorted(ByteLevel.alphabet()))}, merges=[])
    tokenizer.add_tokens(OWN_TOKENS, special_tokens=True)
    tokenizer.save_pretrained(folder)
    return thinker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("thinker")
    write_thinker(path)
    return path


def causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


def test_equal_positions_on_all_axes_are_plain_rotary_positions() -> None:
    torch.manual_seed(0)
    theirs = Qwen2_5OmniThinkerTextModel(
        Qwen2_5OmniTextConfig(vocab_size=VOCABULARY, **TINY_TEXT, rope_parameters=OMNI_ROPE)
    ).eval()
    config = Qwen2Config(vocab_size=VOCABULARY, **TINY_TEXT, rope_parameters=ROPE)
    ours = Qwen2Model(config).eval()
    ours.load_state_dict(theirs.state_dict())
    ours.rotary_emb = ExactRotaryEmbedding(config)
    ids, positions = torch.randint(0, VOCABULARY, (2, 50)), torch.arange(50).expand(2, -1) * 7
    mask = {"full_attention": causal(50)}
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, position_ids=positions.expand(3, 2, -1)).last_hidden_state
        found = ours(ids, attention_mask=mask, position_ids=positions).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tied", [False, True])
def test_the_lalm_computes_what_the_thinker_computes(tmp_path: Path, tied: bool) -> None:
    """Two clips of one chunk each among text: the same logits for every id that the tokenizer has."""
    thinker = write_thinker(tmp_path, tied)
    model, _ = from_thinker(tmp_path)
    assert (model.lm_head.weight is model.text_model.embed_tokens.weight) == tied
    with torch.no_grad():
        features = model.make_features().whole(torch.from_numpy(noise(4, 2)))  # [2, 40, 128]
        block = [AUDIO_BEGIN, *[AUDIO] * 10, AUDIO_END]
        ids = torch.tensor([[5, 6, *block, 7, *block, 8, 9, 10]])
        expected = thinker(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            input_features=features.transpose(1, 2),
            feature_attention_mask=torch.ones(2, 40, dtype=torch.int64),
        ).logits
        index = torch.full_like(ids, NO_AUDIO)
        index[ids == AUDIO] = torch.arange(20)
        length = ids.shape[1]
        batch = SequenceBatch(ids, index, torch.arange(length)[None], causal(length))
        found = model.lm_head(model.hidden_states(batch, model.encode(features).flatten(0, 1)))
    assert expected.std() > 0.1, "the test must see logits that differ"
    torch.testing.assert_close(found[..., :KNOWN], expected[..., :KNOWN], atol=1e-4, rtol=0)


def test_control_tokens_are_the_mean_of_the_rows_there_are(folder: Path) -> None:
    thinker = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder)
    model, tokenizer = from_thinker(folder)
    ids = tokenizer.hf.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    assert ids == list(range(KNOWN, KNOWN + len(SPECIAL_TOKENS)))
    assert model.text_model.config.vocab_size == tokenizer.vocab_size == KNOWN + len(SPECIAL_TOKENS)
    for ours, theirs in (
        (model.text_model.embed_tokens.weight, thinker.get_input_embeddings().weight),
        (model.lm_head.weight, thinker.lm_head.weight),
    ):
        assert torch.equal(ours[:KNOWN], theirs[:KNOWN])
        torch.testing.assert_close(ours[KNOWN:], theirs[:KNOWN].mean(0).expand(len(ids), -1), atol=1e-6, rtol=0)
    assert tokenizer.decode([*tokenizer.encode("Zürich, 你好!"), AUDIO, tokenizer.end_id]) == "Zürich, 你好!"


def test_it_is_a_policy_like_any_other(folder: Path, tmp_path: Path) -> None:
    """Saved, loaded and played, in float32 and in bfloat16."""
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.15)):
        model, tokenizer = from_thinker(folder, window_chunks=20, dtype=dtype, normalisation="running")
        write_policy(tmp_path / str(dtype), model, tokenizer)
        loaded = LALMPolicy.from_pretrained(tmp_path / str(dtype)).model
        card = (tmp_path / str(dtype) / "README.md").read_text()
        assert f"Made of the checkpoint `{folder.name}`. Its audio tower" in card
        assert "Nothing was measured" in card
        assert str(folder) not in card + (tmp_path / str(dtype) / "config.json").read_text()
        assert (loaded.dtype, loaded.config.normalisation) == (dtype, "running")
        engine = Engine(loaded)
        session = engine.open()
        events = []
        for t in range(8):
            engine.push(session, noise(6, 8)[t * 6400 : (t + 1) * 6400])
            events += engine.step()
        sequence = lay_out(model.layout, [Turn(0, tuple(t for e in events for t in e.token_ids))])
        with torch.no_grad():
            audio = model.encode(model.make_features().whole(torch.from_numpy(noise(6, 8)))).flatten(0, 1)
            hidden = model.hidden_states(collate([sequence], [8], 10), audio)[0]
            log_probs = model.content_log_probs(hidden[[i - 1 for i in sequence.contents]])
        spoken_ids = [t for e in events for t in e.token_ids]
        assert len(spoken_ids) > 4
        found = torch.tensor([p for e in events for p in e.token_log_probs])
        torch.testing.assert_close(log_probs[range(len(spoken_ids)), spoken_ids], found, atol=tolerance, rtol=0)


def test_all_chunks_in_one_call_are_the_towers_own_loop(folder: Path) -> None:
    """Values and gradients, against the attention that `transformers` calls once a chunk."""
    encoder = from_thinker(folder)[0].encoder
    features = torch.randn(5, 40, 128, generator=torch.Generator().manual_seed(0))
    found = []
    for attention in (encoder.tower.config._attn_implementation, "sdpa"):
        encoder.tower.config._attn_implementation = attention
        encoder.zero_grad()
        output = encoder(features)
        output.square().mean().backward()
        found.append((output, *[p.grad for p in encoder.parameters() if p.grad is not None]))
    assert len(found[0]) > 20
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(folder: Path) -> None:
    model, tokenizer = from_thinker(folder)
    features = model.make_features().whole(torch.from_numpy(noise(2, 4)))
    reply = (*tokenizer.encode("Yes."), tokenizer.end_id)
    batch = collate([lay_out(model.layout, [Turn(1, None), Turn(3, reply)])], [4], 10)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train().zero_grad()
        model.hidden_states(batch, model.encode(features).flatten(0, 1)).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert model.text_model.is_gradient_checkpointing
    assert gradients[0].keys() == gradients[1].keys()
    assert {"projector.weight", "encoder.tower.conv1.weight", "text_model.layers.1.mlp.up_proj.weight"} <= gradients[
        0
    ].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_the_thinker_of_a_whole_omni_checkpoint(folder: Path, tmp_path: Path) -> None:
    """As the hub has it: the thinker's configuration inside, its tensors under `thinker.`, a talker beside it."""
    tensors = load_file(folder / "model.safetensors")
    whole = {f"thinker.{name}": tensor for name, tensor in tensors.items()}
    save_file({**whole, "talker.codec_head.weight": torch.zeros(3)}, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    document = {"model_type": "qwen2_5_omni", "thinker_config": config, "tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(document))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    whole_model, part = from_thinker(tmp_path)[0], from_thinker(folder)[0]
    for name, tensor in part.state_dict().items():
        assert torch.equal(whole_model.state_dict()[name], tensor), name


def test_what_is_no_thinker_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="nowhere: cannot be read as a thinker"):
        from_thinker(tmp_path / "nowhere")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    tensors = load_file(folder / "model.safetensors")
    layers = [f"model.layers.{n}.mlp.down_proj.weight" for n in range(2)]
    for name in ("lm_head.weight", "model.norm.weight"):
        del tensors[name]
    tensors |= {name: torch.zeros(3, 4) for name in layers} | {"model.layers.7.mlp.up_proj.weight": torch.zeros(1)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(PolicyError) as error:
        from_thinker(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: tensors do not fit: 2 missing: lm_head.weight, model.language_model.norm.weight;"
        " 1 unexpected: model.language_model.layers.7.mlp.up_proj.weight;"
        " 2 of another shape: model.language_model.layers.{0-1}.mlp.down_proj.weight [3, 4], not [32, 64]"
    )
    (tmp_path / "sliding").mkdir()
    write_thinker(tmp_path / "sliding", use_sliding_window=True, sliding_window=8, max_window_layers=1)
    with pytest.raises(PolicyError, match="expected plain rotary positions and full attention"):
        from_thinker(tmp_path / "sliding")
