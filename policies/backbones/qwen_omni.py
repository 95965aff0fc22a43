"""The `qwen2.5-omni` backbone: the audio tower and the language model of Qwen2.5-Omni's thinker."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

from envs.errors import PolicyError
from policies.backbones.base import Backbone, Encoder
from policies.configuration_lalm import LALMConfig
from policies.features import CHUNK_FRAMES, WhisperLogMel

CHUNK_EMBEDDINGS = CHUNK_FRAMES // 4  # 10: a convolution of stride 2, then pairs are averaged
_STATES = CHUNK_FRAMES // 2  # 20 of a chunk, between that convolution and that average
_BATCHED = "soundflow_chunks"  # name of `_attend_in_chunks` among the attentions of `transformers`


def _attend_in_chunks(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **how: Any
) -> tuple[Tensor, None]:
    """Attend within each chunk, all chunks in one call: [1, heads, M * 20, D] -> [1, M * 20, heads, D].

    The tower's own way is a loop in Python with one call a chunk and layer. The numbers are the same.
    """
    q, k, v = (states[0].unflatten(1, (-1, _STATES)).transpose(0, 1) for states in (query, key, value))
    output = F.scaled_dot_product_attention(q, k, v, dropout_p=how["dropout"], scale=how["scaling"])
    return output.transpose(1, 2).flatten(0, 1).unsqueeze(0), None


AttentionInterface.register(_BATCHED, _attend_in_chunks)


class AudioTower(Encoder):
    """Qwen2.5-Omni's audio tower over windows of one chunk, up to its last normalisation.

    The tower's last layer, `proj`, is the LALM's projector: it is trained where the rest stays frozen.
    """

    _no_split_modules = tuple(Qwen2_5OmniAudioEncoder._no_split_modules)

    def __init__(self, config: Qwen2_5OmniAudioEncoderConfig) -> None:
        super().__init__()
        config._attn_implementation = _BATCHED
        self.tower = Qwen2_5OmniAudioEncoder(config)
        self.tower.proj = nn.Identity()
        self.output_size = config.d_model

    def forward(self, features: Tensor) -> Tensor:
        """Encode chunks, each by itself: [M, 40, 128] -> [M, 10, output_size]."""
        count = len(features)
        lengths = features.new_full((count,), CHUNK_FRAMES).long()
        how = {}
        if self.tower.config._attn_implementation == _BATCHED:  # until a user asks for another, flash attention say
            how["cu_seqlens"] = torch.tensor([0, count * _STATES])  # one call; on the CPU, where its sizes are read
        output = self.tower(features.flatten(0, 1).T, feature_lens=lengths, **how)
        return output.last_hidden_state.view(count, CHUNK_EMBEDDINGS, -1)


def _features(config: LALMConfig) -> WhisperLogMel:
    return WhisperLogMel(config.normalisation)


def _encoder(config: LALMConfig) -> AudioTower:
    expected = {"num_mel_bins": WhisperLogMel.n_mels, "n_window": CHUNK_FRAMES // 2}  # a window is two of its n_window
    found = {name: config.audio_config.get(name) for name in expected}
    if found != expected:
        raise PolicyError(f"audio_config has {found}, expected {expected}: a window is a chunk")
    per_chunk = config.token_layout.audio_tokens_per_chunk
    if per_chunk != CHUNK_EMBEDDINGS:
        raise PolicyError(f"audio_tokens_per_chunk is {per_chunk}, the audio tower makes {CHUNK_EMBEDDINGS}")
    return AudioTower(Qwen2_5OmniAudioEncoderConfig(**config.audio_config))


def _projector(encoder_size: int, text_config: Qwen2Config) -> nn.Module:
    return nn.Linear(encoder_size, text_config.hidden_size)


QWEN_OMNI = Backbone(_features, _encoder, _projector)
