"""A tiny LALM with random weights: everything the big ones do, in milliseconds."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig

from policies.configuration_lalm import LALMConfig
from policies.modeling_lalm import LALM
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer, train_tokenizer

REPLIES = ["I hear glass breaking. Watch out for the shards.", "A smoke alarm is beeping. Look for smoke."]

TINY_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
TINY_TOWER = {
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "output_dim": TINY_TEXT["hidden_size"],
}
ROPE = {"rope_type": "default", "rope_theta": 1_000_000.0}


@pytest.fixture(scope="session")
def tokenizer() -> ReplyTokenizer:
    return train_tokenizer(REPLIES, 300)


def tiny_compact(tokenizer: ReplyTokenizer, window_chunks: int, sink_chunks: int = 0) -> LALMConfig:
    layout = tokenizer.layout(
        audio_tokens_per_chunk=2, tokens_per_chunk=3, window_chunks=window_chunks, sink_chunks=sink_chunks
    )
    return LALMConfig.compact(
        layout,
        tokenizer.vocab_size,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        encoder_channels=(8, 8, 16, 16),
        max_reply_tokens=8,
    )


def tiny_omni(tokenizer: ReplyTokenizer, window_chunks: int) -> LALMConfig:
    layout = tokenizer.layout(audio_tokens_per_chunk=10, tokens_per_chunk=3, window_chunks=window_chunks)
    text_config = Qwen2Config(vocab_size=tokenizer.vocab_size, **TINY_TEXT, rope_parameters=ROPE)
    audio_config = Qwen2_5OmniAudioEncoderConfig(**TINY_TOWER)
    return LALMConfig.qwen_omni(layout, text_config, audio_config, normalisation="running", max_reply_tokens=8)


def tiny_tower(tokenizer: ReplyTokenizer, window_chunks: int, backbone: str, audio: dict[str, int]) -> LALMConfig:
    per_chunk = 5 if backbone == "voxtral" else 10
    layout = tokenizer.layout(audio_tokens_per_chunk=per_chunk, tokens_per_chunk=3, window_chunks=window_chunks)
    text_config = Qwen2Config(vocab_size=tokenizer.vocab_size, **TINY_TEXT, rope_parameters=ROPE)
    return LALMConfig.with_tower(backbone, layout, text_config, audio, normalisation="running", max_reply_tokens=8)


VOXTRAL_TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TINY = {
    "compact": tiny_compact,
    "qwen2.5-omni": tiny_omni,
    "qwen2-audio": partial(tiny_tower, backbone="qwen2-audio", audio=TINY_TOWER),
    "voxtral": partial(tiny_tower, backbone="voxtral", audio=VOXTRAL_TOWER),
}


def tiny_model(tokenizer: ReplyTokenizer, window_chunks: int = 64, seed: int = 0, backbone: str = "compact") -> LALM:
    torch.manual_seed(seed)
    return sharpened(LALM(TINY[backbone](tokenizer, window_chunks)))


def write_tiny_policy(folder: Path) -> Path:
    """Write a policy with random weights that answers some sounds and not others; return its folder."""
    tokenizer = train_tokenizer(REPLIES, 300)
    write_policy(folder, tiny_model(tokenizer, seed=2), tokenizer)
    return folder


def sharpened(model: LALM) -> LALM:
    for parameter in model.parameters():  # sharper than at birth, so that decisions and tokens vary
        if parameter.dim() > 1:
            parameter.data.mul_(3.0)
    return model.eval()


def noise(seed: int, chunks: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(chunks * 6400)).astype(np.float32)
