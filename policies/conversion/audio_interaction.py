"""The released Audio-Interaction checkpoint as a policy folder.

Its language model has LitGPT's names, its audio tower those of `transformers`. Its control tokens stand where Qwen's
vocabulary has rare words and marks of its own: those give up their ids. Its features are cut under the maximum of the
audio heard so far, which is the normalisation "running".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

from envs.errors import PolicyError
from policies.backbones.qwen_omni import CHUNK_EMBEDDINGS
from policies.checkpoint_tensors import check_tensors
from policies.configuration_lalm import LALMConfig
from policies.conversion.assemble import assemble
from policies.modeling_lalm import LALM
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer

CONTROL_IDS = {
    "<user>": 151601,
    "<assistant>": 151602,
    "<silent>": 151605,
    "<pad>": 151608,
    "<online>": 151609,
    "<offline>": 151610,
    "<english>": 151611,
    "<happy>": 151614,
    "<sad>": 151615,
    "<angry>": 151616,
    "<surprise>": 151617,
    "<normal>": 151618,
    "<urgent>": 151619,
    "<end>": 151643,
    "<response>": 151644,
    "<audio>": 151646,  # the released blocks have <pad> there; the embedding of either is replaced by what was heard
    "<audio_begin>": 151647,
}
_NOTE = (
    "Its tensors are those of the released checkpoint, under other names; rows of the vocabulary that no token has are"
    " cut off. The decision's own head is zero, so that the threshold lies where P(response) is 0.5."
)
_SHAPE, _INDEX = "model_config.yaml", "model.safetensors.index.json"
_TOWER, _TOWER_SHAPE = "audiointeraction_ChunkwisedEncoder.pth", "qwen25OmniConfig/config.json"


@dataclass(frozen=True)
class _Shape:
    """What `model_config.yaml` says of the language model, in LitGPT's words."""

    n_layer: int
    n_head: int
    n_query_groups: int
    n_embd: int
    intermediate_size: int
    padded_vocab_size: int
    rope_base: float
    norm_eps: float

    @property
    def qkv_rows(self) -> list[int]:
        """Rows of all queries, of all keys, of all values."""
        head = self.n_embd // self.n_head
        return [self.n_head * head, self.n_query_groups * head, self.n_query_groups * head]

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor."""
        width, stacked, inner = self.n_embd, sum(self.qkv_rows), self.intermediate_size
        layer = {
            "norm_1.weight": (width,),
            "norm_2.weight": (width,),
            "attn.qkv.weight": (stacked, width),
            "attn.qkv.bias": (stacked,),
            "attn.proj.weight": (width, width),
            "mlp.fc_1.weight": (inner, width),
            "mlp.fc_2.weight": (inner, width),
            "mlp.proj.weight": (width, inner),
        }
        named = {f"transformer.h.{n}.{name}": shape for n in range(self.n_layer) for name, shape in layer.items()}
        rows = (self.padded_vocab_size, width)
        return {**named, "transformer.wte.weight": rows, "transformer.ln_f.weight": (width,), "lm_head.weight": rows}


_LAYER_NAMES = {
    "norm_1.weight": "input_layernorm.weight",
    "norm_2.weight": "post_attention_layernorm.weight",
    "attn.proj.weight": "self_attn.o_proj.weight",
    "mlp.fc_1.weight": "mlp.gate_proj.weight",
    "mlp.fc_2.weight": "mlp.up_proj.weight",
    "mlp.proj.weight": "mlp.down_proj.weight",
}


def convert_audio_interaction(source: Path, out: Path) -> None:
    """Read a released checkpoint and write it as the policy folder `out`.

    Raises:
        PolicyError: when it lacks a file, a file cannot be read, tensors do not fit, or `out` is there already.
    """
    if out.exists():
        raise PolicyError(f"{out}: is there already; name a folder that is not")
    model, tokenizer = read_audio_interaction(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_policy(out, model, tokenizer)


def read_audio_interaction(
    source: Path, *, tokens_per_chunk: int = 4, window_chunks: int = 60, max_reply_tokens: int = 64
) -> tuple[LALM, ReplyTokenizer]:
    """Return a released checkpoint as a LALM and its tokenizer.

    Raises:
        PolicyError: when it lacks a file, a file cannot be read, or tensors do not fit: all of them are named.
    """
    missing = [name for name in (_SHAPE, _INDEX, _TOWER, _TOWER_SHAPE) if not (source / name).is_file()]
    if missing:
        raise PolicyError(f"{source}: no Audio-Interaction checkpoint, it has no {', '.join(missing)}")
    try:
        shape = _read_shape(source / _SHAPE)
        document = json.loads((source / _TOWER_SHAPE).read_text(encoding="utf-8"))
        audio_config = Qwen2_5OmniAudioEncoderConfig(**document["thinker_config"]["audio_config"])
        tensors = _read_shards(source)
        tower = _read_tower(source / _TOWER)
        tokenizer = _with_control_ids(AutoTokenizer.from_pretrained(source).backend_tokenizer)
    except PolicyError:
        raise
    except Exception as error:  # pickles, safetensors, YAML and tokenizers have errors of no common kind
        message = f"{source}: cannot be read as an Audio-Interaction checkpoint: {error!r}"
        raise PolicyError(" ".join(message.split())) from error
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in Qwen2_5OmniAudioEncoder(audio_config).state_dict().items()}
    found = {name: tensor.shape for name, tensor in {**tensors, **tower}.items()}
    check_tensors({**shape.tensors(), **expected}, found, source)
    if tokenizer.vocab_size > shape.padded_vocab_size:
        raise PolicyError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} ids, padded_vocab_size is {shape.padded_vocab_size}"
        )
    config = LALMConfig.qwen_omni(
        tokenizer.layout(
            audio_tokens_per_chunk=CHUNK_EMBEDDINGS, tokens_per_chunk=tokens_per_chunk, window_chunks=window_chunks
        ),
        _text_config(shape, tokenizer.vocab_size),
        audio_config,
        normalisation="running",
        max_reply_tokens=max_reply_tokens,
        origin={"checkpoint": source.resolve().name, "note": _NOTE},  # not where it lay: cards are published
    )
    renamed = {**_language_model(shape, tensors, tokenizer.vocab_size), **_audio_tower(tower)}
    return assemble(config, renamed, tensors["lm_head.weight"].dtype, source), tokenizer


def _read_shape(path: Path) -> _Shape:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = [field.name for field in fields(_Shape)]
    missing = [name for name in names if not isinstance(document, dict) or name not in document]
    if missing:
        raise PolicyError(f"{path}: has no {', '.join(missing)}")
    numbers: dict[str, Any] = {name: float(document[name]) for name in names}  # YAML takes 1e-6 for text
    whole = {name: int(value) for name, value in numbers.items() if name not in {"rope_base", "norm_eps"}}
    return _Shape(**{**numbers, **whole})


def _read_shards(source: Path) -> dict[str, Tensor]:
    index = json.loads((source / _INDEX).read_text(encoding="utf-8"))
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(index["weight_map"].values())):
        if Path(name).name != name:
            raise PolicyError(f"{source}/{_INDEX}: {name!r} is no file of the folder")
        tensors.update(load_file(source / name))
    return tensors


def _read_tower(path: Path) -> dict[str, Tensor]:
    tensors = torch.load(path, map_location="cpu", weights_only=True)  # a pickle, of which nothing else is run
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise PolicyError(f"{path}: expected tensors by name")
    return tensors


def _text_config(shape: _Shape, vocab_size: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=shape.n_embd,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.n_layer,
        num_attention_heads=shape.n_head,
        num_key_value_heads=shape.n_query_groups,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings=False,
        use_cache=False,
    )


def _language_model(shape: _Shape, tensors: Mapping[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """Rename the language model's tensors, part queries, keys and values, and cut rows that no token has."""
    renamed = {
        "text_model.embed_tokens.weight": tensors["transformer.wte.weight"][:vocab_size],
        "text_model.norm.weight": tensors["transformer.ln_f.weight"],
        "lm_head.weight": tensors["lm_head.weight"][:vocab_size],
    }
    for n in range(shape.n_layer):
        theirs, ours = f"transformer.h.{n}.", f"text_model.layers.{n}."
        renamed |= {ours + new: tensors[theirs + old] for old, new in _LAYER_NAMES.items()}
        for kind in ("weight", "bias"):
            parts = tensors[f"{theirs}attn.qkv.{kind}"].split(shape.qkv_rows)
            renamed |= {f"{ours}self_attn.{p}_proj.{kind}": part for p, part in zip("qkv", parts, strict=True)}
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def _audio_tower(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tower's tensors; its last layer is the projector."""
    return {
        (f"projector.{name[5:]}" if name.startswith("proj.") else f"encoder.tower.{name}"): tensor
        for name, tensor in tensors.items()
    }


def _with_control_ids(backend: Tokenizer) -> ReplyTokenizer:
    """Give the control tokens their ids; the words that had them can no longer be said."""
    document = json.loads(backend.to_str())
    names = {id: name for name, id in CONTROL_IDS.items()}
    vocabulary = document["model"]["vocab"]
    gone = {word for word, id in vocabulary.items() if id in names}
    document["model"]["vocab"] = {names.get(id, word): id for word, id in vocabulary.items()}
    document["model"]["merges"] = [
        [left, right] for left, right in document["model"]["merges"] if not {left, right, left + right} & gone
    ]
    added = [{**token, "content": names.pop(token["id"], token["content"])} for token in document["added_tokens"]]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    words = set(vocabulary.values())
    document["added_tokens"] = [{"id": i, "content": name, **plain} for i, name in names.items() if i in words] + added
    core = Tokenizer.from_str(json.dumps(document))
    found = {name: core.token_to_id(name) for name in CONTROL_IDS}
    if found != CONTROL_IDS:
        wrong = [f"{name} {found[name]}, not {id}" for name, id in CONTROL_IDS.items() if found[name] != id]
        raise PolicyError(f"the tokenizer is not Qwen2.5's: ids would be {', '.join(wrong)}")
    return ReplyTokenizer(PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>"))
