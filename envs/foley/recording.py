"""What a room and a microphone do to a sound, drawn at random: a listener must not learn one of them."""

import numpy as np
from numpy.random import Generator

from envs.clock import samples
from envs.foley.synthesis import Signal, band, bins, decay, log_uniform, noise, padded, shape, tilt
from envs.scenario import Audio

MIN_S = 0.3
MAX_S = 6.0
_FADE_S = 0.005


def record(rng: Generator, x: Signal) -> Audio:
    """Return `x` as a clip: with a room, a microphone, a noise floor, a level and faded ends.

    Args:
        rng: Source of every random choice.
        x: The dry sound, [n] at any level.

    Returns:
        float32 [m], 0.3 to 6 s, peak in (0.15, 1].
    """
    x = _with_attack(rng, x)[: samples(MAX_S)]
    has_room = rng.random() < 0.7  # or outdoors, or close to the microphone
    rt60_s = log_uniform(rng, 0.08, 1.2) if has_room else 0.0
    tail = samples(min(0.4 * rt60_s, MAX_S - len(x) / samples(1.0)))
    n = max(len(x) + tail, samples(MIN_S))
    heard = _room_and_microphone(rng, x, n, rt60_s)
    heard /= np.max(np.abs(heard)) + 1e-12
    if rng.random() < 0.6:
        floor = noise(rng, n, tilt(bins(n), rng.uniform(-6.0, 0.0)))
        heard += floor * log_uniform(rng, 3e-4, 1.5e-2)
    return _level(rng, heard)


def _with_attack(rng: Generator, x: Signal) -> Signal:
    """Start a struck sound a moment later, or the fade would take its attack; even sounds stay as they are."""
    power = np.square(x)
    if np.mean(power[: samples(0.02)]) < 2.0 * np.mean(power):
        return x
    return np.concatenate([np.zeros(samples(rng.uniform(0.008, 0.04))), x])


def _room_and_microphone(rng: Generator, x: Signal, n: int, rt60_s: float) -> Signal:
    """Convolve with a decaying-noise impulse response and colour the result: [n]."""
    f, m = bins(n), padded(n)
    spectrum = np.fft.rfft(x, m)
    if rt60_s > 0.0:
        length = min(samples(rt60_s), n)
        response = noise(rng, length) * decay(length, rt60_s / 6.9)
        response[: min(samples(0.003), length)] = 0.0  # the first echo comes after the direct sound
        response /= np.sqrt(np.sum(np.square(response))) + 1e-12
        spectrum *= 1.0 + log_uniform(rng, 0.05, 0.8) * np.fft.rfft(response, m) * band(f, 20.0, 5000.0, 1)
    low = log_uniform(rng, 15.0, 180.0)
    high = log_uniform(rng, 3800.0, 16_000.0)
    spectrum *= tilt(f, rng.normal(0.0, 1.5)) * band(f, low, high, int(rng.integers(1, 4)))
    return np.fft.irfft(spectrum, m)[:n]


def _level(rng: Generator, x: Signal) -> Audio:
    """Sometimes overdrive gently, then set the peak and fade both ends."""
    x = x / (np.max(np.abs(x)) + 1e-12)
    if rng.random() < 0.25:
        x = np.tanh(x * rng.uniform(1.0, 4.0))
        x = shape(x, band(bins(len(x)), 20.0, 20_000.0, 1))  # clipping uneven peaks leaves an offset
        x /= np.max(np.abs(x)) + 1e-12
    ramp = np.linspace(0.0, 1.0, samples(_FADE_S))
    x[: len(ramp)] *= ramp
    x[-len(ramp) :] *= ramp[::-1]
    return (x * log_uniform(rng, 0.25, 0.98) / (np.max(np.abs(x)) + 1e-12)).astype(np.float32)
