"""Noise for whole streams: two tracks of coloured, slowly modulated noise, tiled with crossfades (paper, composition).

To draw five seconds of noise takes longer than to compose a stream, so loops are drawn once, kept, and heard from
another place in every stream.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envs.clock import SAMPLE_RATE, samples
from envs.scenario import Audio

SNR_DB = (5.0, 20.0)
AMBIENT_NOISE_DB = -5.0
_TILE_S = 5.0
_CROSSFADE_S = 0.2
_LOOPS = 48  # of each kind: 15 MB
_BURSTS, _STEADY = 0.8, 0.1  # depth of modulation


@dataclass(frozen=True)
class Loop:
    """Noise that can be repeated without a seam."""

    audio: Audio  # [n] at an RMS of 1
    energy: NDArray[np.float64]  # [n + 1], of all samples before each

    def rms(self, start: int, length: int) -> float:
        """Return the RMS of `length` samples from `start` on, around the loop as often as it takes."""
        rounds, end = divmod(start + length, len(self.audio))
        total = rounds * self.energy[-1] + self.energy[end] - self.energy[start]
        return float(np.sqrt(max(total, 0.0) / length))

    def add_to(self, mix: Audio, start: int, gain: float) -> None:
        """Add the loop to a stream, from sample `start` of the loop on, around as often as it takes."""
        scaled = self.audio * np.float32(gain)
        first = scaled[start : start + len(mix)]
        mix[: len(first)] += first
        for at in range(len(first), len(mix), len(scaled)):
            piece = mix[at : at + len(scaled)]
            piece += scaled[: len(piece)]


def add_noise(rng: np.random.Generator, level: float, mix: Audio, snr_db: tuple[float, float] = SNR_DB) -> None:
    """Add two noise tracks to a stream, float32 [n]: event-like at SNR ~ U(*snr_db) dB, ambient 5 dB quieter.

    `level` is the RMS of the foreground.
    """
    gain = level * 10 ** (-rng.uniform(*snr_db) / 20)
    for depth, rms in ((_BURSTS, gain), (_STEADY, gain * 10 ** (AMBIENT_NOISE_DB / 20))):
        loop = _loop(int(rng.integers(_LOOPS)), depth)
        start = int(rng.integers(len(loop.audio)))
        loop.add_to(mix, start, rms / loop.rms(start, len(mix)))


@lru_cache(maxsize=2 * _LOOPS)
def _loop(index: int, depth: float) -> Loop:
    """Return loop number `index` of a kind."""
    return make_loop(_modulated_noise(np.random.default_rng([0x105E, index, round(100 * depth)]), depth))


def make_loop(tile: Audio) -> Loop:
    """Return a tile as a loop: its end is crossfaded into its beginning, at equal power, over 200 ms at most.

    A silent tile gives a silent loop.
    """
    fade = min(samples(_CROSSFADE_S), len(tile) // 2)
    ramp = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
    audio = tile[: len(tile) - fade].copy()
    audio[:fade] = audio[:fade] * ramp + tile[len(tile) - fade :] * ramp[::-1]
    audio /= np.sqrt(np.square(audio, dtype=np.float64).mean()) or 1.0
    audio.setflags(write=False)
    return Loop(audio, np.concatenate(([0.0], np.cumsum(np.square(audio, dtype=np.float64)))))


def _modulated_noise(rng: np.random.Generator, depth: float) -> Audio:
    """Return one tile of coloured noise: a slope of 0 to -9 dB an octave, a broad peak, slowly modulated."""
    length = samples(_TILE_S)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 40.0)
    slope = rng.uniform(0.0, 1.5)
    centre, width = np.exp(rng.uniform(np.log(150), np.log(4000))), rng.uniform(0.3, 1.5)
    bump = 1.0 + rng.uniform(0, 3) * np.exp(-0.5 * (np.log(frequency / centre) / width) ** 2)
    noise = np.fft.irfft(spectrum * (frequency / 100.0) ** (-slope) * bump, length)
    knots = np.interp(np.linspace(0, 12, length), np.arange(13), rng.random(13))
    return (noise * (1.0 - depth + depth * knots)).astype(np.float32)
