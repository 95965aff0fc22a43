"""Log-mel spectra in numpy, for pictures and for observations of agents without a network of their own.

25 ms Hann windows every 10 ms, 64 triangular filters on the mel scale (O'Shaughnessy 1987). Every frame ends
inside the chunk it belongs to, so a chunk needs only itself and the 240 samples before it. Normalisation is
fixed (a maximum over the clip is not streamable): -100 dB of full scale and below is -1, 0 dB is 1.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.scenario import Audio

HOP = 160  # 10 ms
WINDOW = 400  # 25 ms
N_FFT = 512
N_MELS = 64
CHUNK_FRAMES = CHUNK_SAMPLES // HOP  # 40
CONTEXT_SAMPLES = WINDOW - HOP  # of the past, that a chunk's first frames reach into
_RANGE_HZ = (40.0, SAMPLE_RATE / 2)

LogMel = NDArray[np.float32]


def log_mel(audio: Audio, context: Audio | None = None) -> LogMel:
    """Return the log-mel frames of audio.

    >>> log_mel(np.zeros(CHUNK_SAMPLES, np.float32)).shape
    (40, 64)

    Args:
        audio: float32 [frames * 160] in [-1, 1].
        context: float32 [240], the samples before it; default: silence.

    Returns:
        float32 [frames, 64] in [-1, 1].
    """
    past = np.zeros(CONTEXT_SAMPLES, np.float32) if context is None else context
    frames = np.lib.stride_tricks.sliding_window_view(np.concatenate([past, audio]), WINDOW)[::HOP]
    window, filters = _window(), mel_filters()
    power = np.abs(np.fft.rfft(frames * window, N_FFT)) ** 2 / window.sum() ** 2
    decibels = 10.0 * np.log10(np.maximum(power @ filters, 1e-10))
    return np.clip(decibels / 50.0 + 1.0, -1.0, 1.0).astype(np.float32)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return frequencies in Hz of points on the mel scale."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points on the mel scale of frequencies in Hz."""
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def mel_bin_of(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (fractional) index of the filter whose centre each frequency is."""
    low, high = hz_to_mel(np.array(_RANGE_HZ))
    return (hz_to_mel(hz) - low) / (high - low) * (N_MELS + 1) - 1


@cache
def _window() -> NDArray[np.float64]:
    return np.hanning(WINDOW + 1)[:-1]


@cache
def mel_filters() -> NDArray[np.float64]:
    """Return triangular filters of height 1 from 40 Hz to 8 kHz: float64 [257, 64]."""
    low, high = hz_to_mel(np.array(_RANGE_HZ))
    edges = mel_to_hz(np.linspace(low, high, N_MELS + 2))
    bins = np.arange(N_FFT // 2 + 1)[:, None] * SAMPLE_RATE / N_FFT  # [257, 1] Hz
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0.0)
