"""An encoder that has nothing to learn: a chunk's log-mel spectrum, for gates without a trained agent."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.features import CHUNK_FRAMES, FeatureStream, LogMel

FRAMES_AT_ONCE = 4  # 40 ms: a gate's first layer has a weight for each number, and hears onsets well enough


class LogMelEncoder(nn.Module):
    """Stands where a `FrozenEncoder` stands; has no weights.

    Attributes:
        embedding_size: How many numbers a chunk becomes: 10 frames of 64 mel bins.
        config: None: there is no LALM behind it.
    """

    config: None = None

    def __init__(self) -> None:
        super().__init__()
        self.features = LogMel()
        self.embedding_size = CHUNK_FRAMES // FRAMES_AT_ONCE * LogMel.n_mels

    @torch.inference_mode()
    def forward(self, windows: Sequence[Tensor], streams: Sequence[FeatureStream]) -> Tensor:
        """Return the log-mel spectra of chunks, averaged over 40 ms.

        Args:
            windows: M chunks as `FeatureStream.take` returns them, each float32 [context_samples + 6400].
            streams: The stream of each.

        Returns:
            float32 [M, 10, 64].
        """
        frames = self.features(torch.stack(list(windows)).to(self.features.window.device), streams)
        own = frames[:, LogMel.context_frames :]
        return own.unflatten(1, (-1, FRAMES_AT_ONCE)).mean(2)
