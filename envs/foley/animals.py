"""Sounds of animals: calls with a voice share `envs.foley.voices.voice`, birds and insects are pure tones."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from envs.clock import SAMPLE_RATE, samples
from envs.foley.synthesis import (
    Signal,
    curve,
    even_starts,
    log_uniform,
    place,
    time_axis,
    tone,
    unit,
    wander,
)
from envs.foley.voices import voice


def _calls(rng: Generator, call: Callable[[], Signal], most: int, gap_s: tuple[float, float]) -> Signal:
    """Return one to `most` calls with pauses of `gap_s` seconds between them, at most 5 s in all."""
    pieces: list[tuple[float, Signal]] = []
    at = 0.0
    for _ in range(int(rng.integers(1, most + 1))):
        sound = call() * rng.uniform(0.6, 1.0)
        if pieces and at + len(sound) / SAMPLE_RATE > 5.0:
            break
        pieces.append((at, sound))
        at += len(sound) / SAMPLE_RATE + rng.uniform(*gap_s)
    return place(samples(pieces[-1][0]) + len(pieces[-1][1]), pieces)


def dog(rng: Generator) -> Signal:
    """Barks of 0.1-0.25 s whose pitch jumps up and falls."""
    pitch, formant = log_uniform(rng, 180.0, 700.0), log_uniform(rng, 450.0, 1100.0)
    mouth = formant * np.array([1.0, 2.1, 3.6])

    def bark() -> Signal:
        n = samples(rng.uniform(0.1, 0.26))
        f0 = pitch * rng.uniform(0.9, 1.1) * curve(n, [0, 0.25, 1], [0.8, 1.4, 0.7])
        sound = voice(rng, f0, (mouth * 0.9, mouth * 0.8), slope=rng.uniform(0.6, 1.3), breath=rng.uniform(0.15, 0.5))
        return sound * curve(n, [0, 0.08, 0.5, 1], [0, 1, 0.6, 0])

    return _calls(rng, bark, 7, (0.08, 0.6))


def cat(rng: Generator) -> Signal:
    """Meows: the mouth opens and closes while the pitch rises and falls."""
    pitch, formant = log_uniform(rng, 380.0, 850.0), rng.uniform(900.0, 1400.0)

    def meow() -> Signal:
        n = samples(log_uniform(rng, 0.35, 1.3))
        f0 = pitch * curve(n, [0, 0.3, 0.7, 1], [0.8, 1.1, 1.0, rng.uniform(0.6, 0.9)])
        closed, opened = formant * np.array([0.6, 2.6, 3.4]), formant * np.array([1.1, 1.6, 3.2])
        sound = voice(rng, f0, (closed, opened), slope=rng.uniform(0.7, 1.5), breath=rng.uniform(0.02, 0.12))
        return sound * curve(n, [0, 0.25, 0.7, 1], [0, 1, 0.7, 0])

    return _calls(rng, meow, 3, (0.3, 1.2))


def sheep(rng: Generator) -> Signal:
    """Bleats: a nasal voice that trembles six to twelve times a second."""
    pitch, formant = log_uniform(rng, 150.0, 480.0), rng.uniform(600.0, 950.0)

    def baa() -> Signal:
        n = samples(log_uniform(rng, 0.45, 1.3))
        tremor = np.sin(2 * np.pi * rng.uniform(6.0, 12.0) * time_axis(n))
        f0 = pitch * (1.0 + rng.uniform(0.03, 0.08) * tremor) * curve(n, [0, 0.15, 1], [0.95, 1.05, 0.9])
        mouth = formant * np.array([1.0, 2.2, 3.3])
        sound = voice(rng, f0, (mouth, mouth * 0.95), slope=rng.uniform(0.3, 0.9), breath=rng.uniform(0.05, 0.2))
        return sound * (1.0 + rng.uniform(0.3, 0.7) * tremor) * curve(n, [0, 0.08, 0.8, 1], [0, 1, 0.7, 0])

    return _calls(rng, baa, 2, (0.3, 0.9))


def cow(rng: Generator) -> Signal:
    """A moo of 1-2.3 s: closed, open, closed."""
    pitch, formant = log_uniform(rng, 85.0, 230.0), rng.uniform(280.0, 480.0)

    def moo() -> Signal:
        n = samples(rng.uniform(1.0, 2.3))
        f0 = pitch * curve(n, [0, 0.3, 0.8, 1], [0.75, 1.0, 1.05, 0.8])
        shut, wide = formant * np.array([0.7, 1.7, 5.5]), formant * np.array([1.6, 3.0, 6.5])
        sound = voice(
            rng,
            f0,
            (shut, wide),
            slope=rng.uniform(0.7, 1.4),
            breath=rng.uniform(0.02, 0.1),
            rough=rng.uniform(0.0, 0.3),
        )
        return sound * curve(n, [0, 0.2, 0.85, 1], [0, 0.8, 1, 0])

    return _calls(rng, moo, 2, (0.4, 1.0))


def lion(rng: Generator) -> Signal:
    """Roars of 0.8-2.2 s: low, rough and breathy."""
    pitch, formant = log_uniform(rng, 55.0, 190.0), rng.uniform(280.0, 520.0)

    def roar() -> Signal:
        n = samples(rng.uniform(0.8, 2.2))
        f0 = pitch * curve(n, [0, 0.35, 1], [0.8, 1.25, 0.7])
        mouth = formant * np.array([1.0, 2.4, 4.5])
        sound = voice(
            rng,
            f0,
            (mouth * 0.9, mouth),
            slope=rng.uniform(0.5, 1.1),
            breath=rng.uniform(0.3, 0.8),
            rough=rng.uniform(0.3, 0.8),
        )
        return sound * curve(n, [0, 0.25, 0.6, 1], [0, 1, 0.8, 0])

    return _calls(rng, roar, 3, (0.2, 0.7))


def donkey(rng: Generator) -> Signal:
    """Hee-haw: a wheezing high breath in and a low loud breath out, in turn."""
    pitch, formant = log_uniform(rng, 180.0, 330.0), rng.uniform(600.0, 900.0)
    high = True

    def bray() -> Signal:
        nonlocal high
        n = samples(rng.uniform(0.3, 0.6))
        f0 = pitch * (rng.uniform(2.0, 3.0) if high else 1.0) * curve(n, [0, 0.5, 1], [0.95, 1.05, 0.9])
        mouth = formant * np.array([1.0, 2.2, 3.5])
        sound = voice(rng, f0, (mouth, mouth), slope=0.9, breath=0.5 if high else 0.15, rough=0.1 if high else 0.5)
        level = rng.uniform(0.3, 0.6) if high else 1.0
        high = not high
        return sound * curve(n, [0, 0.15, 0.8, 1], [0, 1, 0.8, 0]) * level

    return place(samples(4.0), [(float(at), bray()) for at in even_starts(rng, int(rng.integers(3, 8)), 0.55, 0.08)])


def monkey(rng: Generator) -> Signal:
    """Hoots or screeches in quick series."""
    pitch, rate = log_uniform(rng, 380.0, 1500.0), rng.uniform(2.5, 7.0)
    formant = rng.uniform(800.0, 1500.0) * np.array([1.0, 1.9, 2.8])
    rough = rng.uniform(0.0, 0.6)
    pieces: list[tuple[float, Signal]] = []
    for at in even_starts(rng, int(rng.integers(4, 16)), 1.0 / rate, 0.15):
        n = samples(rng.uniform(0.4, 0.75) / rate)
        f0 = pitch * rng.uniform(0.85, 1.15) * curve(n, [0, 0.6, 1], [0.7, 1.2, 0.9])
        pieces.append(
            (
                float(at),
                voice(rng, f0, (formant, formant), slope=1.1, breath=0.15, rough=rough) * np.hanning(n),
            )
        )
    return place(samples(min(pieces[-1][0] + 0.3, 5.0)), pieces)


def frog(rng: Generator) -> Signal:
    """Croaks: a buzz of pulses, 18-60 a second, on one or two resonances."""
    carrier, pulses = log_uniform(rng, 450.0, 2200.0), log_uniform(rng, 18.0, 60.0)

    def croak() -> Signal:
        n = samples(rng.uniform(0.15, 0.6))
        rate = pulses * curve(n, [0, 1], [1.0, rng.uniform(0.8, 1.3)])
        gate = np.exp(-5.0 * np.modf(np.cumsum(rate) / SAMPLE_RATE)[0])
        f0 = carrier * (1.0 + wander(rng, n, 20.0, 0.02)) * curve(n, [0, 1], [0.95, 1.05])
        return unit(tone(f0, [1.0, 0.4, 0.2])) * gate * curve(n, [0, 0.2, 0.8, 1], [0.2, 1, 1, 0])

    return _calls(rng, croak, 6, (0.15, 0.8))


def chicken(rng: Generator) -> Signal:
    """Clucks, and now and then a long one."""
    pitch, formant = log_uniform(rng, 320.0, 750.0), rng.uniform(900.0, 1300.0)
    mouth = formant * np.array([1.0, 2.0, 3.1])

    def cluck() -> Signal:
        n = samples(rng.uniform(0.3, 0.6) if rng.random() < 0.2 else rng.uniform(0.05, 0.12))
        f0 = pitch * rng.uniform(0.9, 1.2) * curve(n, [0, 0.4, 1], [0.8, 1.2, 0.9])
        return voice(rng, f0, (mouth * 0.9, mouth), slope=0.8, breath=0.2, rough=rng.uniform(0.0, 0.4)) * np.hanning(n)

    return _calls(rng, cluck, 10, (0.06, 0.45))


def bird(rng: Generator) -> Signal:
    """Chirps and trills: pure tones of 1.8-6.5 kHz that sweep quickly."""
    base = log_uniform(rng, 1800.0, 5200.0)

    def phrase() -> Signal:
        start, stop = base * rng.uniform(0.75, 1.3, 2)
        n = samples(log_uniform(rng, 0.04, 0.22))
        f0 = curve(n, [0, 0.5, 1], [start, rng.uniform(0.85, 1.2) * base, stop])
        if rng.random() < 0.4:
            f0 = f0 * (1.0 + rng.uniform(0.01, 0.08) * np.sin(2 * np.pi * rng.uniform(15, 45) * time_axis(n)))
        chirp = tone(f0, [1.0, rng.uniform(0.0, 0.15)]) * np.hanning(n)
        repeats = int(rng.integers(1, 7))
        step = n / SAMPLE_RATE * rng.uniform(1.05, 1.8)
        return place(samples(step * (repeats - 1)) + n, [(k * step, chirp) for k in range(repeats)])

    return _calls(rng, phrase, 6, (0.08, 0.7))


def cricket(rng: Generator) -> Signal:
    """Chirps of three to six pulses at 3.5-5.5 kHz, again and again."""
    carrier, pulse = log_uniform(rng, 3500.0, 5500.0), rng.uniform(0.012, 0.022)
    n = samples(rng.uniform(1.5, 5.0))
    per_chirp, period = int(rng.integers(3, 7)), rng.uniform(0.25, 0.7)
    t = time_axis(n)
    in_chirp = np.mod(t, period)
    in_pulse = np.mod(in_chirp, 1.7 * pulse)
    gate = (in_chirp < 1.7 * pulse * per_chirp) * np.sin(np.pi * np.minimum(in_pulse / pulse, 1.0))
    return tone(carrier * (1.0 + wander(rng, n, 5.0, 0.003)), [1.0]) * gate


RENDERERS: dict[str, Callable[[Generator], Signal]] = {
    "bird": bird,
    "cat": cat,
    "chicken": chicken,
    "cow": cow,
    "cricket": cricket,
    "dog": dog,
    "donkey": donkey,
    "frog": frog,
    "lion": lion,
    "monkey": monkey,
    "sheep": sheep,
}
