"""The `qwen2.5-omni` backbone: the audio tower and the language model of Qwen2.5-Omni's thinker."""

from torch import Tensor, nn
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

from envs.errors import PolicyError
from policies.backbones.base import Backbone, Encoder
from policies.configuration_lalm import LALMConfig
from policies.features import CHUNK_FRAMES, WhisperLogMel

CHUNK_EMBEDDINGS = CHUNK_FRAMES // 4  # 10: a convolution of stride 2, then pairs are averaged


class AudioTower(Encoder):
    """Qwen2.5-Omni's audio tower over windows of one chunk, up to its last normalisation.

    The tower's last layer, `proj`, is the LALM's projector: it is trained where the rest stays frozen.
    """

    def __init__(self, config: Qwen2_5OmniAudioEncoderConfig) -> None:
        super().__init__()
        self.tower = Qwen2_5OmniAudioEncoder(config)
        self.tower.proj = nn.Identity()
        self.output_size = config.d_model

    def forward(self, features: Tensor) -> Tensor:
        """Encode chunks, each by itself: [M, 40, 128] -> [M, 10, output_size]."""
        count = len(features)
        lengths = features.new_full((count,), CHUNK_FRAMES).long()
        output = self.tower(features.flatten(0, 1).T, feature_lens=lengths)
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
