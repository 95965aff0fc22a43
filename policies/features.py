"""Streaming log-mel features: one chunk in, one window of frames out, equal to the features of the whole clip.

Every frame ends inside the chunk that it belongs to (no look-ahead), so a chunk's features need only the chunk and
the last samples before it, which the session carries. Values are normalised by fixed statistics: a maximum over
the clip, as in Whisper, is not streamable.
"""

import torch
import torchaudio
from torch import Tensor

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE

HOP = 160  # 10 ms
WINDOW = 400  # 25 ms
N_FFT = 512
N_MELS = 64
CHUNK_FRAMES = CHUNK_SAMPLES // HOP  # 40
CONTEXT_FRAMES = 8  # frames of the past that the encoder sees beside a chunk's own
CONTEXT_SAMPLES = (CONTEXT_FRAMES - 1) * HOP + WINDOW - HOP + HOP  # samples of the past a chunk's features need
_LOG_FLOOR = 1e-6
_LOG_MEAN, _LOG_STD = -6.0, 4.0  # of foley streams at the levels that scenarios have; fixed for ever


class LogMel(torch.nn.Module):
    """Log-mel windows of chunks; holds no parameters."""

    filters: Tensor  # [257, 64]
    window: Tensor  # [400]

    def __init__(self) -> None:
        super().__init__()
        filters = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, 40.0, SAMPLE_RATE / 2, N_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters * SAMPLE_RATE / N_FFT / 8, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=True), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the features of chunks.

        Args:
            samples: float32 [M, CONTEXT_SAMPLES + 6400]; each row a chunk after the samples that precede it (zeros
                before the stream's beginning).

        Returns:
            float32 [M, CONTEXT_FRAMES + 40, 64].
        """
        frames = samples.unfold(-1, WINDOW, HOP) * self.window  # [M, 48, 400]
        power = torch.fft.rfft(frames, n=N_FFT).abs().square()
        mel = torch.log(power @ self.filters + _LOG_FLOOR)
        return (mel - _LOG_MEAN) / _LOG_STD


def chunk_windows(audio: Tensor) -> Tensor:
    """Cut a whole stream into what `LogMel` takes.

    Args:
        audio: float32 [T * 6400].

    Returns:
        float32 [T, CONTEXT_SAMPLES + 6400].
    """
    padded = torch.nn.functional.pad(audio, (CONTEXT_SAMPLES, 0))
    return padded.unfold(-1, CONTEXT_SAMPLES + CHUNK_SAMPLES, CHUNK_SAMPLES)
