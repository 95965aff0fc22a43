"""Instruments: one note, a plucked guitar, a small band."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from envs.clock import SAMPLE_RATE, samples
from envs.foley.impacts import knock
from envs.foley.synthesis import (
    Signal,
    band,
    bins,
    curve,
    decay,
    harmonics,
    log_uniform,
    noise,
    place,
    ring,
    time_axis,
    tone,
    unit,
)

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))


def _pitch(root_hz: float, scale: tuple[int, ...], degree: int) -> float:
    octave, step = divmod(degree, len(scale))
    return float(root_hz * 2.0 ** (octave + scale[step] / 12.0))


def _pluck(rng: Generator, hz: float, seconds: float, bright: float) -> Signal:
    """Return a plucked or hammered string: slightly stretched partials, the high ones dying first."""
    k = np.arange(1, max(min(14, int(7500 / hz)), 2))
    f = hz * k * np.sqrt(1.0 + 2e-4 * k**2)
    place_on_string = np.abs(np.sin(np.pi * k * rng.uniform(0.12, 0.4))) + 0.05
    return ring(rng, samples(seconds), f, seconds * 0.5 / k**0.7, place_on_string * k**-bright)


def _sustain(rng: Generator, hz: float, seconds: float, bright: float) -> Signal:
    """Return a bowed or blown note with vibrato."""
    n = samples(seconds)
    vibrato = 1.0 + rng.uniform(0.0, 0.012) * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * time_axis(n))
    sound = tone(hz * vibrato, harmonics(20, bright) * rng.uniform(0.3, 1.0, 20))
    return unit(sound) * curve(n, [0, rng.uniform(0.03, 0.2), 0.85, 1], [0, 1, 0.8, 0])


def note(rng: Generator) -> Signal:
    """A single note of some instrument."""
    play = _pluck if rng.random() < 0.7 else _sustain
    return play(rng, log_uniform(rng, 110.0, 1000.0), rng.uniform(0.7, 2.2), rng.uniform(0.8, 2.2))


def guitar(rng: Generator) -> Signal:
    """Plucked strings: an arpeggio or strummed chords."""
    root, scale = log_uniform(rng, 82.0, 165.0), _SCALES[rng.integers(len(_SCALES))]
    beat, bright = rng.uniform(0.16, 0.4), rng.uniform(0.8, 1.6)
    total_s = rng.uniform(1.8, 5.0)
    strum = rng.random() < 0.4
    pieces: list[tuple[float, Signal]] = []
    for step in range(int(total_s / beat)):
        if strum and step % 2 == 0:
            chord = int(rng.integers(0, 5))
            for string, degree in enumerate((chord, chord + 2, chord + 4, chord + 7)):
                string_sound = _pluck(rng, _pitch(root, scale, degree), 1.4, bright)
                pieces.append((step * beat + 0.015 * string, unit(string_sound) * 0.6))
        elif not strum:
            sound = _pluck(rng, _pitch(root, scale, int(rng.integers(0, 12))), 1.2, bright)
            pieces.append((step * beat, unit(sound) * rng.uniform(0.5, 1.0)))
    return place(samples(total_s), pieces)


def _drums(rng: Generator, n: int, beat: float) -> Signal:
    kick = knock(rng, rng.uniform(50, 80), 0.06, 0.2, 3)
    m = samples(0.12)
    snare = unit(noise(rng, m, band(bins(m), 300.0, 8000.0, 1)) * decay(m, 0.04))
    hat = unit(noise(rng, m, band(bins(m), 5000.0, 9000.0)) * decay(m, 0.015))
    pieces: list[tuple[float, Signal]] = []
    for step in range(int(n / SAMPLE_RATE / beat * 2)):
        pieces.append((step * beat / 2, hat * 0.25))
        if step % 4 == 0:
            pieces.append((step * beat / 2, kick))
        elif step % 4 == 2:
            pieces.append((step * beat / 2, snare * 0.6))
    return place(n, pieces)


def music(rng: Generator) -> Signal:
    """A melody over chords, with drums or without."""
    root, scale = log_uniform(rng, 110.0, 260.0), _SCALES[rng.integers(len(_SCALES))]
    beat = 60.0 / rng.uniform(70.0, 160.0)
    n = samples(rng.uniform(2.0, 5.2))
    lead = _pluck if rng.random() < 0.5 else _sustain
    bright = rng.uniform(0.8, 2.0)
    pieces: list[tuple[float, Signal]] = []
    at, degree = 0.0, int(rng.integers(5, 10))
    while at < n / SAMPLE_RATE:
        length = beat * float(rng.choice([0.5, 1.0, 1.0, 2.0]))
        degree = int(np.clip(degree + rng.integers(-2, 3), 3, 14))
        if rng.random() < 0.88:
            pieces.append((at, unit(lead(rng, _pitch(root, scale, degree), max(length, 0.15), bright))))
        at += length
    for bar in range(int(n / SAMPLE_RATE / (4 * beat)) + 1):
        chord = int(rng.integers(0, 5))
        for degree_in_chord in (chord, chord + 2, chord + 4):
            held = _sustain(rng, _pitch(root / 2, scale, degree_in_chord), 4 * beat, bright + 0.4)
            pieces.append((bar * 4 * beat, held * rng.uniform(0.1, 0.4)))
    band_sound = place(n, pieces)
    return band_sound + rng.uniform(0.2, 0.8) * _drums(rng, n, beat) if rng.random() < 0.5 else band_sound


RENDERERS: dict[str, Callable[[Generator], Signal]] = {"guitar": guitar, "music": music, "note": note}
