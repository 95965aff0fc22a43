"""The primitives of which every built-in sound is made: shaped noise, harmonic tones, ringing bodies, grains.

All of them are vectorised; filters are gains over the bins of a real FFT, so that a filter is one product.
Signals are one-dimensional arrays at 16 kHz of no particular level: `envs.foley.recording` sets it.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.clock import SAMPLE_RATE, samples

Signal = NDArray[Any]  # [n] or, for grains, [k, m]
Values = Sequence[float] | Signal

_TABLE_SIZE = 8_192  # one period; looked up without interpolation, the fundamental is exact to -68 dB
_TOP_HZ = 7_600.0
_RING_BLOCK = 128
_SMOOTH = np.unique([2**a * 3**b * 5**c for a in range(12) for b in range(8) for c in range(6)])


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Return a number drawn evenly on a logarithmic scale, as pitches and durations are heard."""
    return float(low * (high / low) ** rng.random())


def time_axis(n: int) -> Signal:
    """Return the times of `n` samples in seconds: [n]."""
    return np.arange(n) / SAMPLE_RATE


def curve(n: int, times: Values, values: Values) -> Signal:
    """Return the straight-line curve through `values` at `times` (fractions of the length, rising): [n]."""
    return np.interp(np.linspace(0.0, 1.0, n), times, values)


def wander(rng: Generator, n: int, rate_hz: float, depth: float) -> Signal:
    """Return a random curve around 0 with `rate_hz` turns a second and standard deviation `depth`: [n]."""
    knots = max(int(n / SAMPLE_RATE * rate_hz) + 2, 3)
    return np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.normal(0.0, depth, knots))


def decay(n: int, tau_s: float) -> Signal:
    """Return an exponential decay from 1 with time constant `tau_s` seconds: [n]."""
    return np.exp(-time_axis(n) / tau_s)


def padded(n: int) -> int:
    """Return a length of at least `n` whose FFT is fast: 512 times a number without factors above 5."""
    blocks = -(-n // 512)
    return 512 * int(_SMOOTH[np.searchsorted(_SMOOTH, blocks)])


@lru_cache(maxsize=512)
def bins(n: int) -> Signal:
    """Return the frequencies in Hz of the FFT bins used for a signal of `n` samples (read-only)."""
    frequencies = np.fft.rfftfreq(padded(n), 1 / SAMPLE_RATE).astype(np.float32)
    frequencies.setflags(write=False)
    return frequencies


def band(f: Signal, low: float, high: float, order: int = 2) -> Signal:
    """Return the gain of a Butterworth-shaped band-pass between `low` and `high` Hz at frequencies `f`."""
    f = np.maximum(f, 1.0)
    return 1.0 / np.sqrt((1.0 + (low / f) ** (2 * order)) * (1.0 + (f / high) ** (2 * order)))


def tilt(f: Signal, db_per_octave: float) -> Signal:
    """Return a gain that rises by `db_per_octave` around 1 kHz; flat below 50 Hz."""
    return (np.maximum(f, 50.0) / 1000.0) ** (db_per_octave / 6.02)


def peaks(f: Signal, centres: Sequence[float] | Signal, width: float, floor: float = 0.02, loss: float = 0.7) -> Signal:
    """Return a gain with resonances at `centres` Hz, each `width` of its frequency wide, on a low floor.

    Every further resonance is `loss` times as strong as the one before it, as formants are.
    """
    gain = np.full(f.shape, floor, dtype=np.float32)
    for index, centre in enumerate(centres):
        half_width = 0.5 * (width * centre + 60.0)
        gain += loss**index / (1.0 + ((f - centre) / half_width) ** 2)
    return gain


def shape(x: Signal, gain: Signal) -> Signal:
    """Filter `x` [n] without delay by `gain`, given at `bins(n)`."""
    return np.fft.irfft(np.fft.rfft(x, padded(len(x))) * gain, padded(len(x)))[: len(x)]


def glide(x: Signal, first: Signal, second: Signal, weight: Signal) -> Signal:
    """Filter `x` [n] by a gain that moves from `first` (`weight` [n] is 0) to `second` (it is 1)."""
    spectrum, m = np.fft.rfft(x, padded(len(x))), padded(len(x))
    start, end = np.fft.irfft(np.stack([spectrum * first, spectrum * second]), m)[:, : len(x)]
    return start + weight * (end - start)


def noise(rng: Generator, n: int, gain: Signal | None = None) -> Signal:
    """Return Gaussian noise of RMS 1 whose spectrum follows `gain` at `bins(n)`, or is white: [n]."""
    if gain is None:
        return rng.standard_normal(n, dtype=np.float32)
    parts = rng.standard_normal((2, len(gain)), dtype=np.float32)
    x = np.fft.irfft((parts[0] + 1j * parts[1]) * gain, padded(n))[:n]
    return x / np.sqrt(np.mean(np.square(x)) + 1e-20)


def tone(f0: Signal, amplitudes: Sequence[float] | Signal, phase: float = 0.0) -> Signal:
    """Return a tone that follows the pitch `f0` [n] in Hz; `amplitudes[k]` belongs to harmonic k + 1.

    Harmonics that would pass 7.6 kHz at the highest pitch are left out, so nothing folds back.
    """
    keep = max(min(len(amplitudes), int(_TOP_HZ / float(np.max(f0)))), 1)
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1)
    spectrum[1 : keep + 1] = amplitudes[:keep]
    table = np.fft.irfft(spectrum, _TABLE_SIZE) * _TABLE_SIZE / 2
    position = (np.cumsum(f0) / SAMPLE_RATE + phase) * _TABLE_SIZE
    return table[position.astype(np.int64) & (_TABLE_SIZE - 1)]


def harmonics(count: int, slope: float) -> Signal:
    """Return `count` harmonic amplitudes that fall as `k ** -slope`."""
    return np.arange(1, count + 1) ** -slope


def ring(rng: Generator, n: int, frequencies: Values, taus_s: Values | float, amplitudes: Values | float) -> Signal:
    """Return a struck body: partials [k] in Hz that start together and die with time constants `taus_s`: [n].

    A geometric sequence is an outer product of two short ones, so the sum is one small matrix product. It is
    done by `einsum` and not by `@`: a threaded matrix library stalls for milliseconds when workers share the
    cores, and may round differently with another number of threads.
    """
    f, tau, a = np.broadcast_arrays(frequencies, taus_s, amplitudes)
    rate = (-1.0 / np.asarray(tau, dtype=float) + 2j * np.pi * np.asarray(f, dtype=float)) / SAMPLE_RATE
    start = a * np.exp(2j * np.pi * rng.random(len(rate)))
    coarse = start * np.exp(np.arange(-(-n // _RING_BLOCK))[:, None] * _RING_BLOCK * rate)
    fine = np.exp(rate[:, None] * np.arange(_RING_BLOCK))
    real_part = np.einsum("bk,kf->bf", coarse.real, fine.real)
    real_part -= np.einsum("bk,kf->bf", coarse.imag, fine.imag)
    return real_part.ravel()[:n]


def scatter(n: int, starts: Signal, grains: Signal) -> Signal:
    """Return `n` samples with row k of `grains` [k, m] added at sample `starts[k]`, cut at the end."""
    index = np.asarray(starts, dtype=np.int64)[:, None] + np.arange(grains.shape[1])
    return np.bincount(index.ravel(), grains.ravel(), minlength=n + grains.shape[1])[:n]


def place(n: int, pieces: Sequence[tuple[float, Signal]]) -> Signal:
    """Return `n` samples with every (start in seconds, signal) added; what passes the end is cut."""
    out = np.zeros(n)
    for start_s, piece in pieces:
        at = samples(start_s)
        if at < n:
            out[at : at + len(piece)] += piece[: n - at]
    return out


def random_starts(rng: Generator, n: int, per_s: float) -> Signal:
    """Return the start samples of a Poisson process with `per_s` events a second, at least one: [k]."""
    return rng.integers(0, n, max(int(rng.poisson(per_s * n / SAMPLE_RATE)), 1))


def crackles(rng: Generator, n: int, per_s: float, length_s: float, spread: float = 1.0) -> Signal:
    """Return random short noise bursts, `per_s` a second, with log-normal levels of width `spread`: [n]."""
    starts = random_starts(rng, n, per_s)
    m = samples(length_s)
    grains = rng.standard_normal((len(starts), m), dtype=np.float32) * decay(m, length_s / 4)
    return scatter(n, starts, grains * rng.lognormal(0.0, spread, (len(starts), 1)))


def even_starts(rng: Generator, count: int, period_s: float, irregularity: float) -> Signal:
    """Return `count` times in seconds, `period_s` apart give or take the share `irregularity`: [count]."""
    gaps = period_s * (1.0 + rng.uniform(-irregularity, irregularity, count))
    return np.cumsum(gaps) - gaps[0]


def unit(x: Signal) -> Signal:
    """Return `x` with peak 1."""
    return x / (np.max(np.abs(x)) + 1e-12)
