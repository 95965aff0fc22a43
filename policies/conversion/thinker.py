"""Qwen2.5-Omni's thinker as a LALM that has still to be trained for streams.

The audio tower keeps its weights, and so does the language model: with equal positions on all three axes, its
multi-axis rotary embedding is the plain one. Rows of the vocabulary that no token has are cut off; the control tokens
come after the tokenizer's own, each with the mean of the rows there are.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2_5OmniThinkerForConditionalGeneration,
)
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder, Qwen2_5OmniThinkerTextModel

from envs.errors import PolicyError, first_line
from policies.backbones.qwen_omni import CHUNK_EMBEDDINGS
from policies.checkpoint_tensors import refuse_tensors
from policies.configuration_lalm import LALMConfig
from policies.conversion.assemble import assemble
from policies.features import Normalisation
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer, with_control_tokens

_NOTE = (
    "Its audio tower and its language model keep their weights. The control tokens begin as the mean of the rows there"
    " are: until it is trained on streams, it cannot know when to speak."
)
_Part = TypeVar("_Part", bound=nn.Module)
_KEPT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "attention_dropout",
)


def from_thinker(
    source: str | Path,
    *,
    tokens_per_chunk: int = 4,
    window_chunks: int = 60,
    max_reply_tokens: int = 64,
    dtype: torch.dtype = torch.float32,
    normalisation: Normalisation = "fixed",
) -> tuple[LALM, ReplyTokenizer]:
    """Make a LALM and its tokenizer of a Qwen2.5-Omni checkpoint.

    Args:
        source: A local folder, or an id of the hub, of a `Qwen2_5OmniThinkerForConditionalGeneration`.
        tokens_per_chunk: K, the speaking rate.
        window_chunks: W, how many chunks the language model looks back.
        max_reply_tokens: A reply is ended after this many tokens.
        dtype: float32 or bfloat16.
        normalisation: Of the features.

    Raises:
        PolicyError: when it cannot be read, lacks tensors, has some too many or of other shapes (all of them are
            named), or is of a shape that the LALM cannot have.
        ConfigError: when the window is shorter than the longest reply.
    """
    thinker, tokenizer = _load(source, dtype)
    tower = _only(thinker, Qwen2_5OmniAudioEncoder)
    language_model = _only(thinker, Qwen2_5OmniThinkerTextModel)
    known, control = len(tokenizer), with_control_tokens(tokenizer)
    rows = language_model.embed_tokens.weight
    if known > len(rows):
        raise PolicyError(f"{source}: the tokenizer has {known} ids, the model {len(rows)} embeddings")
    layout = control.layout(
        audio_tokens_per_chunk=CHUNK_EMBEDDINGS, tokens_per_chunk=tokens_per_chunk, window_chunks=window_chunks
    )
    tied = thinker.lm_head.weight is rows
    text_config = _text_config(language_model.config, control.vocab_size, tied, source)
    local = Path(source).is_dir()
    config = LALMConfig.qwen_omni(
        layout,
        text_config,
        tower.config,
        normalisation=normalisation,
        max_reply_tokens=max_reply_tokens,
        # not where a folder lies: cards are published
        origin={"checkpoint": Path(source).resolve().name if local else str(source), "note": _NOTE},
    )
    tensors = {f"text_model.{name}": tensor for name, tensor in language_model.state_dict().items()}
    tensors |= {f"encoder.tower.{name}": tensor for name, tensor in tower.state_dict().items()}
    for kind in ("weight", "bias"):
        tensors[f"projector.{kind}"] = tensors.pop(f"encoder.tower.proj.{kind}")
    embeddings = with_mean_rows(rows, known, control.vocab_size)
    tensors["text_model.embed_tokens.weight"] = embeddings
    head = embeddings if tied else with_mean_rows(thinker.lm_head.weight, known, control.vocab_size)
    tensors["lm_head.weight"] = head
    return assemble(config, tensors, dtype, source), control


def with_mean_rows(rows: Tensor, known: int, size: int) -> Tensor:
    """Return the first `known` rows, and their mean in each row from there up to `size`."""
    kept = rows.detach()[:known]
    mean = kept.float().mean(dim=0, keepdim=True).to(kept.dtype)
    return torch.cat((kept, mean.expand(size - known, -1)))


def _load(source: str | Path, dtype: torch.dtype) -> tuple[Any, PreTrainedTokenizerBase]:
    """Return the thinker and its tokenizer."""
    try:
        thinker, loading = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
            source,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, with all the others
            use_safetensors=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # hub, safetensors and tokenizers have errors of their own, of no common kind
        raise PolicyError(first_line(f"{source}: cannot be read as a thinker: {error}")) from error
    misshapen = {name: (found, expected) for name, found, expected in loading["mismatched_keys"]}
    refuse_tensors(source, loading["missing_keys"], loading["unexpected_keys"], misshapen)
    return thinker, tokenizer


def _only(model: nn.Module, kind: type[_Part]) -> _Part:
    """Return the part of a kind, whatever path the installed `transformers` gives it."""
    return next(module for module in model.modules() if isinstance(module, kind))


def _text_config(found: PretrainedConfig, vocab_size: int, tied: bool, source: object) -> Qwen2Config:
    """Return the `Qwen2Config` that computes what the thinker's language model does.

    Raises:
        PolicyError: when there is none: sliding windows, or positions that are stretched.
    """
    rope = found.rope_parameters
    if rope["rope_type"] not in {"default", "mrope"} or "sliding_attention" in found.layer_types:
        raise PolicyError(
            f"{source}: rope_type {rope['rope_type']!r}, attention of layers {sorted(set(found.layer_types))};"
            " expected plain rotary positions and full attention"
        )
    return Qwen2Config(
        **{name: getattr(found, name) for name in _KEPT},
        vocab_size=vocab_size,
        rope_parameters={"rope_type": "default", "rope_theta": rope["rope_theta"]},
        tie_word_embeddings=tied,
        use_cache=False,
    )
