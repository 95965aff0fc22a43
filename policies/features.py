"""Streaming log-mel features: one chunk in, one window of frames out, equal to the features of the whole stream.

Every frame ends inside the chunk that it belongs to (no look-ahead), so a chunk's features need only the chunk and
the last samples before it, which `FeatureStream` carries. Values are normalised by fixed statistics: the maximum over
the clip, as in Whisper, looks into the future. `WhisperLogMel` offers the maximum over what was heard so far instead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
import torchaudio
from torch import Tensor

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.scenario import Audio

HOP = 160  # 10 ms
WINDOW = 400  # 25 ms
CHUNK_FRAMES = CHUNK_SAMPLES // HOP  # 40
_CACHED_ROWS = 16  # chunks whose spectra a processor keeps at hand: in such blocks it takes half the time
Normalisation = Literal["fixed", "running"]


@dataclass
class FeatureStream:
    """One stream on its way into features: what is not yet a chunk, the overlap, the loudest value so far."""

    context_samples: int
    chunk_samples: int = CHUNK_SAMPLES
    waiting: Audio = field(default_factory=lambda: np.zeros(0, np.float32))
    overlap: Audio = field(init=False)
    maximum: float = -math.inf  # of the log-mel values heard; only `WhisperLogMel` keeps it

    def __post_init__(self) -> None:
        self.overlap = np.zeros(self.context_samples, np.float32)

    def push(self, samples: Audio) -> None:
        """Take samples in: float32 [n] in [-1, 1], any n."""
        fresh = np.array(samples, np.float32)  # whose owner may go on to write into it
        self.waiting = np.concatenate((self.waiting, fresh)) if len(self.waiting) else fresh

    @property
    def num_complete(self) -> int:
        """Chunks that are complete."""
        return len(self.waiting) // self.chunk_samples

    def take(self, most: int | None = None) -> list[Tensor]:
        """Take complete chunks out, in order and at most so many: each float32 [context_samples + chunk_samples]."""
        windows: list[Tensor] = []
        while self.num_complete and (most is None or len(windows) < most):
            window = np.concatenate((self.overlap, self.waiting[: self.chunk_samples]))
            self.waiting = self.waiting[self.chunk_samples :]
            self.overlap = window[-self.context_samples :]
            windows.append(torch.from_numpy(window))
        return windows


class ChunkFeatures(torch.nn.Module):
    """Features of chunks; what every kind shares. Holds no parameters.

    Attributes:
        context_frames: Frames of the past that stand before a chunk's own.
        context_samples: Samples of the past that a chunk's features need.
    """

    filters: Tensor  # [n_fft / 2 + 1, n_mels]
    window: Tensor  # [400]

    context_frames: ClassVar[int]
    n_mels: ClassVar[int]

    def __init__(self, filters: Tensor) -> None:
        super().__init__()
        self.n_fft = 2 * (len(filters) - 1)
        self.context_samples = self.context_frames * HOP + WINDOW - HOP
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=True), persistent=False)

    def mel(self, samples: Tensor) -> Tensor:
        """Return mel powers: float32 [M, context_samples + chunk] -> [M, context_frames + chunk / 160, n_mels]."""
        rows = max(1, len(samples)) if samples.is_cuda else _CACHED_ROWS
        return torch.cat([self._powers(block) for block in samples.split(rows)])

    def _powers(self, samples: Tensor) -> Tensor:
        frames = samples.unfold(-1, WINDOW, HOP) * self.window
        spectrum = torch.fft.rfft(frames, n=self.n_fft)
        return (spectrum.real.square() + spectrum.imag.square()) @ self.filters

    def forward(self, samples: Tensor, streams: Sequence[FeatureStream] | None = None) -> Tensor:
        """Return the features of chunks.

        Args:
            samples: float32 [M, context_samples + chunk]; each row a chunk after the samples that precede it (zeros
                before the stream's beginning).
            streams: The stream of each row; rows of one stream are in order. None: they are all one new stream.

        Returns:
            float32 [M, context_frames + chunk / 160, n_mels].
        """
        raise NotImplementedError

    def whole(self, audio: Tensor, chunk_samples: int = CHUNK_SAMPLES) -> Tensor:
        """Return the features of a whole stream at once: float32 [T * chunk_samples] -> [T, frames, n_mels]."""
        return self(chunk_windows(audio, self.context_samples, chunk_samples))


class LogMel(ChunkFeatures):
    """Log-mel windows of the `compact` backbone: 64 bins, 8 frames of the past beside a chunk's own 40."""

    context_frames, n_mels = 8, 64
    _FLOOR = 1e-6
    _MEAN, _STD = -6.0, 4.0  # of foley streams at the levels that scenarios have; fixed for ever

    def __init__(self) -> None:
        n_fft = 512
        filters = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, 40.0, SAMPLE_RATE / 2, self.n_mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        super().__init__(filters * SAMPLE_RATE / n_fft / 8)

    def forward(self, samples: Tensor, streams: Sequence[FeatureStream] | None = None) -> Tensor:
        """Return the features of chunks, whatever their streams: [M, 8 + chunk / 160, 64]."""
        return (torch.log(self.mel(samples) + self._FLOOR) - self._MEAN) / self._STD


class WhisperLogMel(ChunkFeatures):
    """Whisper's 128-bin log-mel of chunks, each by itself, every frame moved back by 2.5 ms so that it ends inside.

    Whisper cuts what lies more than 8 (in log10 of power) under the maximum of the clip. Its maximum is that of the
    whole clip: a loud sound changes the features of what came before it, so they are no stream's. Here it is:

    - "fixed": a constant. The features of a chunk depend on no other chunk.
    - "running": the maximum of the stream up to the end of the chunk. Equal to Whisper's from the loudest chunk on;
      before it, quiet details are kept that Whisper, who has heard the end, cuts.
    """

    context_frames, n_mels = 0, 128
    _FLOOR = 1e-10
    _RANGE = 8.0
    _LOUDEST = 1.0  # the median, over streams at the levels that scenarios have, of a stream's maximum

    def __init__(self, normalisation: Normalisation = "fixed") -> None:
        filters = torchaudio.functional.melscale_fbanks(
            WINDOW // 2 + 1, 0.0, SAMPLE_RATE / 2, self.n_mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        super().__init__(filters)
        self.normalisation = normalisation

    def forward(self, samples: Tensor, streams: Sequence[FeatureStream] | None = None) -> Tensor:
        """Return the features of chunks: [M, chunk / 160, 128]; "running" raises the maximum of their streams."""
        log_mel = self.mel(samples).clamp(min=self._FLOOR).log10()
        maxima = [self._LOUDEST] * len(samples)
        if self.normalisation == "running":
            own = streams if streams is not None else [FeatureStream(self.context_samples)] * len(samples)
            maxima = _raise_maxima(own, log_mel.amax(dim=(1, 2)).tolist())
        floor = log_mel.new_tensor(maxima)[:, None, None] - self._RANGE
        return (torch.maximum(log_mel, floor) + 4.0) / 4.0


def _raise_maxima(streams: Sequence[FeatureStream], loudest: Sequence[float]) -> list[float]:
    """Let streams hear chunks whose loudest values are given; return each stream's maximum after each chunk."""
    maxima = []
    for stream, value in zip(streams, loudest, strict=True):
        stream.maximum = max(stream.maximum, value)
        maxima.append(stream.maximum)
    return maxima


def chunk_windows(audio: Tensor, context_samples: int, chunk_samples: int = CHUNK_SAMPLES) -> Tensor:
    """Cut a whole stream into what `ChunkFeatures` takes.

    Args:
        audio: float32 [T * chunk_samples].
        context_samples: Samples of the past that stand before each chunk.
        chunk_samples: A chunk's length.

    Returns:
        float32 [T, context_samples + chunk_samples].
    """
    padded = torch.nn.functional.pad(audio, (context_samples, 0))
    return padded.unfold(-1, context_samples + chunk_samples, chunk_samples)
