"""A new `compact` model of a configured shape, before it has learned anything."""

from collections.abc import Sequence

from policies.configuration_lalm import LALMConfig
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from trainers.config import ModelConfig

REPLY_TOKENS = 32  # a reply is ended after so many tokens, or as many as the longest reply taught has


def new_compact(shape: ModelConfig, tokenizer: ReplyTokenizer, replies: Sequence[str]) -> LALM:
    """Return the model with random weights; none of the `replies` is too long for it.

    Raises:
        PolicyError: when the shape makes no model.
    """
    layout = tokenizer.layout(
        audio_tokens_per_chunk=shape.audio_tokens_per_chunk,
        tokens_per_chunk=shape.tokens_per_chunk,
        window_chunks=shape.window_chunks,
        sink_chunks=shape.sink_chunks,
    )
    return LALM(
        LALMConfig.compact(
            layout,
            tokenizer.vocab_size,
            hidden_size=shape.hidden_size,
            num_layers=shape.num_layers,
            num_heads=shape.num_heads,
            intermediate_size=shape.intermediate_size,
            encoder_channels=shape.encoder_channels,
            max_reply_tokens=max(REPLY_TOKENS, *(len(tokenizer.encode(reply)) + 1 for reply in replies)),
        )
    )
