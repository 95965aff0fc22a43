"""The `qwen2-audio` and `voxtral` backbones: audio towers of Whisper's kind over windows of one chunk.

Both towers take one window of a fixed length, 30 s as published. Told that it is a chunk long, they take a chunk, with
the first rows of their table of positions. A published tower has to be trained for that: it never heard so little.
"""

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen2_audio.configuration_qwen2_audio import Qwen2AudioEncoderConfig
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder
from transformers.models.voxtral.configuration_voxtral import VoxtralEncoderConfig
from transformers.models.voxtral.modeling_voxtral import VoxtralEncoder

from envs.errors import PolicyError
from policies.backbones.base import Backbone, Encoder
from policies.backbones.qwen_omni import QWEN_OMNI
from policies.configuration_lalm import LALMConfig
from policies.features import CHUNK_FRAMES, WhisperLogMel

_STATES = CHUNK_FRAMES // 2  # of a chunk, after a convolution of stride 2


class WhisperTower(Encoder):
    """A tower that makes `states` vectors a chunk; neighbours are joined until there are `embeddings`."""

    def __init__(self, tower: PreTrainedModel, width: int, states: int, embeddings: int) -> None:
        super().__init__()
        self.tower, self.embeddings = tower, embeddings
        self._no_split_modules = tuple(tower._no_split_modules)
        self.output_size = width * states // embeddings

    def forward(self, features: Tensor) -> Tensor:
        """Encode chunks, each by itself: [M, 40, 128] -> [M, N, output_size]."""
        states = self.tower(features.transpose(1, 2)).last_hidden_state
        return states.reshape(len(features), self.embeddings, self.output_size)


def _chunk_window(config: LALMConfig, embeddings: int) -> dict[str, object]:
    """Return the tower's configuration with a chunk for its window."""
    found = config.audio_config.get("num_mel_bins", WhisperLogMel.n_mels)
    if found != WhisperLogMel.n_mels:
        raise PolicyError(f"audio_config has num_mel_bins {found}, expected {WhisperLogMel.n_mels}")
    per_chunk = config.token_layout.audio_tokens_per_chunk
    if per_chunk != embeddings:
        raise PolicyError(f"audio_tokens_per_chunk is {per_chunk}, the audio tower makes {embeddings}")
    return {**config.audio_config, "max_source_positions": _STATES}


def _qwen2_audio_encoder(config: LALMConfig) -> WhisperTower:
    shape = Qwen2AudioEncoderConfig(**_chunk_window(config, _STATES // 2))  # it averages pairs
    return WhisperTower(Qwen2AudioEncoder(shape), shape.d_model, _STATES // 2, _STATES // 2)


def _voxtral_encoder(config: LALMConfig) -> WhisperTower:
    shape = VoxtralEncoderConfig(**_chunk_window(config, _STATES // 4))  # its projector takes four at once
    return WhisperTower(VoxtralEncoder(shape), shape.hidden_size, _STATES, _STATES // 4)


def _voxtral_projector(encoder_size: int, text_config: Qwen2Config) -> nn.Module:
    hidden = text_config.hidden_size
    return nn.Sequential(nn.Linear(encoder_size, hidden, bias=False), nn.GELU(), nn.Linear(hidden, hidden, bias=False))


QWEN2_AUDIO = Backbone(QWEN_OMNI.features, _qwen2_audio_encoder, QWEN_OMNI.projector)
VOXTRAL = Backbone(QWEN_OMNI.features, _voxtral_encoder, _voxtral_projector)
