"""The `compact` backbone: 2-5 M parameters, trained from nothing on a CPU in minutes."""

from torch import Tensor, nn
from transformers.models.qwen2 import Qwen2Config

from policies.backbones.base import Backbone, Encoder
from policies.configuration_lalm import LALMConfig
from policies.features import CHUNK_FRAMES, LogMel


class ChunkEncoder(Encoder):
    """Four strided convolutions over one chunk's log-mel window, then N frames of features.

    A chunk is encoded from its own frames and a fixed context of the past.
    """

    def __init__(self, channels: tuple[int, ...], num_embeddings: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        previous = 1
        for i, width in enumerate(channels):
            stride = (2, 2) if i < 3 else (1, 2)  # (time, mel): 48 x 64 -> 6 x 4
            blocks += [nn.Conv2d(previous, width, 5 if i == 0 else 3, stride, 2 if i == 0 else 1, bias=False)]
            blocks += [nn.BatchNorm2d(width), nn.GELU()]
            previous = width
        self.convolutions = nn.Sequential(*blocks)
        self.frames = (LogMel.context_frames + CHUNK_FRAMES) // 8
        if self.frames % num_embeddings:
            raise ValueError(f"audio_tokens_per_chunk must divide {self.frames}, got {num_embeddings}")
        self.num_embeddings = num_embeddings
        self.output_size = channels[-1] * (LogMel.n_mels // 16) * self.frames // num_embeddings

    def forward(self, features: Tensor) -> Tensor:
        """Encode chunks: float32 [M, 48, 64] -> [M, N, output_size]."""
        x = self.convolutions(features.unsqueeze(1))  # [M, C, 6, 4]
        return x.permute(0, 2, 1, 3).reshape(len(features), self.num_embeddings, -1)


def _features(_: LALMConfig) -> LogMel:
    return LogMel()


def _encoder(config: LALMConfig) -> ChunkEncoder:
    return ChunkEncoder(config.encoder_channels, config.token_layout.audio_tokens_per_chunk)


def _projector(encoder_size: int, text_config: Qwen2Config) -> nn.Module:
    return nn.Sequential(nn.Linear(encoder_size, text_config.hidden_size), nn.LayerNorm(text_config.hidden_size))


COMPACT = Backbone(_features, _encoder, _projector)
