"""A tiny LALM with random weights: everything the big ones do, in milliseconds."""

import numpy as np
import pytest
import torch

from policies.configuration_lalm import LALMConfig
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer, train_tokenizer

REPLIES = ["I hear glass breaking. Watch out for the shards.", "A smoke alarm is beeping. Look for smoke."]


@pytest.fixture(scope="session")
def tokenizer() -> ReplyTokenizer:
    return train_tokenizer(REPLIES, 300)


def tiny_model(tokenizer: ReplyTokenizer, window_chunks: int = 64, seed: int = 0) -> LALM:
    torch.manual_seed(seed)
    layout = tokenizer.layout(audio_tokens_per_chunk=2, tokens_per_chunk=3, window_chunks=window_chunks)
    config = LALMConfig.compact(
        layout,
        tokenizer.vocab_size,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        encoder_channels=(8, 8, 16, 16),
        max_reply_tokens=8,
    )
    model = LALM(config)
    for parameter in model.parameters():  # sharper than at birth, so that decisions and tokens vary
        if parameter.dim() > 1:
            parameter.data.mul_(3.0)
    return model.eval()


def noise(seed: int, chunks: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(chunks * 6400)).astype(np.float32)
