"""Sounds of people: crying, laughing, coughing, screaming, talking."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from envs.clock import samples
from envs.foley.synthesis import (
    Signal,
    band,
    bins,
    crackles,
    curve,
    decay,
    even_starts,
    glide,
    harmonics,
    log_uniform,
    noise,
    peaks,
    place,
    shape,
    tilt,
    time_axis,
    tone,
    unit,
    wander,
)

_VOWELS = np.array(
    [
        [730, 1090, 2440],
        [270, 2290, 3010],
        [300, 870, 2240],
        [530, 1840, 2480],
        [570, 840, 2410],
        [640, 1190, 2390],
    ]
)  # formants of an adult in Hz (Peterson and Barney, 1952)


def voice(
    rng: Generator,
    f0: Signal,
    formants: tuple[Signal, Signal],
    *,
    slope: float,
    breath: float,
    rough: float = 0.0,
) -> Signal:
    """Return a voiced sound: a pulse train with breath noise through formants that move.

    Args:
        rng: Source of jitter, breath and roughness.
        f0: Pitch in Hz, [n].
        formants: First and last formants in Hz.
        slope: Fall of the source's harmonics; 1 is pressed, 2 is soft.
        breath: RMS of the noise relative to the tone.
        rough: Depth in [0, 1] of the irregular 30-120 Hz modulation heard in screams and growls.
    """
    n = len(f0)
    jittered = f0 * (1.0 + wander(rng, n, 50.0, 0.008 + 0.05 * rough))
    source = unit(tone(jittered, harmonics(40, slope)))
    if rough > 0:
        rate = log_uniform(rng, 30.0, 120.0) * (1.0 + wander(rng, n, 8.0, 0.2))
        source = source * (1.0 - rough * (0.5 + 0.5 * tone(rate, [1.0, 0.5])))
    source = source + breath * noise(rng, n)
    f = bins(n)
    width = rng.uniform(0.08, 0.2)
    return unit(glide(source, peaks(f, formants[0], width), peaks(f, formants[1], width), curve(n, [0, 1], [0, 1])))


def baby_cry(rng: Generator) -> Signal:
    """Wails of 0.5-1.5 s on one falling breath each, with a gasp between them."""
    pitch, formant = log_uniform(rng, 320.0, 560.0), rng.uniform(900.0, 1400.0)
    harsh = rng.random() < 0.5
    pieces: list[tuple[float, Signal]] = []
    at = 0.0
    total_s = rng.uniform(2.2, 5.2)
    while at < total_s - 0.4:
        seconds = log_uniform(rng, 0.5, 1.5)
        wail = _wail(rng, samples(seconds), pitch * rng.uniform(0.9, 1.12), formant, harsh)
        pieces.append((at, wail * rng.uniform(0.7, 1.0)))
        at += seconds + rng.uniform(0.03, 0.12)
        gasp = _breath(rng, rng.uniform(0.1, 0.28), formant * rng.uniform(1.1, 1.5))
        pieces.append((at, gasp * rng.uniform(0.05, 0.3)))
        at += len(gasp) / samples(1.0) + rng.uniform(0.02, 0.2)
    return place(samples(total_s), pieces)


def _wail(rng: Generator, n: int, pitch: float, formant: float, harsh: bool) -> Signal:
    peak_at = rng.uniform(0.15, 0.5)
    contour = curve(
        n,
        [0, peak_at, 0.85, 1],
        [rng.uniform(0.7, 0.95), rng.uniform(1.05, 1.35), rng.uniform(0.8, 1.05), 0.7],
    )
    f0 = pitch * contour * (1.0 + rng.uniform(0, 0.03) * np.sin(2 * np.pi * rng.uniform(5, 9) * time_axis(n)))
    rough = rng.uniform(0.2, 0.7) if harsh and rng.random() < 0.7 else 0.0
    first = formant * np.array([0.9, 2.7, 4.4])
    last = formant * np.array([rng.uniform(0.7, 1.2), rng.uniform(2.2, 2.9), 4.2])
    sound = voice(rng, f0, (first, last), slope=rng.uniform(0.8, 1.7), breath=rng.uniform(0.01, 0.08), rough=rough)
    tremor = 1.0 + wander(rng, n, 12.0, 0.12)
    return sound * tremor * curve(n, [0, 0.08, 0.7, 1], [0, 1, rng.uniform(0.6, 1), 0])


def _breath(rng: Generator, seconds: float, formant: float) -> Signal:
    n = samples(seconds)
    return unit(noise(rng, n, peaks(bins(n), [formant, 2.3 * formant], 0.4, 0.05)) * np.hanning(n))


def _laugh(rng: Generator, pitch: float, formant: float, slope: tuple[float, float]) -> Signal:
    total_s = rng.uniform(1.0, 4.5)
    pieces: list[tuple[float, Signal]] = []
    at = 0.0
    while at < total_s - 0.3:
        rate, count = rng.uniform(3.8, 6.5), int(rng.integers(2, 9))
        phrase_pitch = pitch * rng.uniform(0.85, 1.2)
        for step in range(count):
            n = samples(rng.uniform(0.45, 0.75) / rate)
            f0 = phrase_pitch * (1.0 - 0.025 * step) * curve(n, [0, 0.3, 1], [1.05, rng.uniform(1.1, 1.3), 0.85])
            ha = formant * np.array([1.0, rng.uniform(1.8, 2.4), 3.6])
            burst = voice(rng, f0, (ha, ha * 0.92), slope=rng.uniform(*slope), breath=rng.uniform(0.03, 0.2))
            pieces.append((at, burst * np.hanning(n) ** 0.7 * rng.uniform(0.6, 1.0) * 0.94**step))
            at += 1.0 / rate
        at += rng.uniform(0.15, 0.6)
        gasp = _breath(rng, rng.uniform(0.15, 0.3), formant * 1.4)
        pieces.append((at - 0.15, gasp * rng.uniform(0.05, 0.25)))
    return place(samples(min(at, 5.2)), pieces)


def baby_laugh(rng: Generator) -> Signal:
    """Quick soft "ha" syllables, four to six a second, at a child's pitch."""
    return _laugh(rng, log_uniform(rng, 260.0, 560.0), rng.uniform(750.0, 1150.0), (1.8, 3.0))


def laughter(rng: Generator) -> Signal:
    """An adult's laugh."""
    return _laugh(rng, log_uniform(rng, 120.0, 380.0), rng.uniform(550.0, 800.0), (1.0, 1.8))


def _cough(rng: Generator, size: float, pitch: float) -> Signal:
    """The glottis opens with a burst, air rushes for 0.1-0.25 s, and often the voice closes it."""
    n = samples(rng.uniform(0.2, 0.42))
    t = time_axis(n)
    formants = size * np.array([rng.uniform(450, 750), rng.uniform(1200, 1700), rng.uniform(2500, 3000)])
    f = bins(n)
    mouth = peaks(f, formants, rng.uniform(0.2, 0.5), rng.uniform(0.04, 0.15)) * tilt(f, rng.uniform(-6.0, -1.0))
    rush = noise(rng, n, mouth)
    burst = np.exp(-t / rng.uniform(0.012, 0.03))
    tail = np.exp(-t / rng.uniform(0.05, 0.1))
    sound = rush * (burst + rng.uniform(0.2, 0.5) * tail) * (1.0 - np.exp(-t / 0.0015))
    if rng.random() < 0.7:
        start = rng.uniform(0.02, 0.12)
        m = n - samples(start)
        f0 = pitch * curve(m, [0, 1], [rng.uniform(1.0, 1.3), rng.uniform(0.6, 0.9)])
        close = voice(
            rng,
            f0,
            (formants, formants * 0.9),
            slope=rng.uniform(0.8, 1.6),
            breath=0.3,
            rough=rng.uniform(0.0, 0.5),
        )
        sound[n - m :] += close * np.hanning(2 * m)[m:] * rng.uniform(0.2, 0.9)
    return unit(sound) * curve(n, [0, 0.9, 1], [1, 1, 0])


def cough_single(rng: Generator) -> Signal:
    """One cough, sometimes with the breath before it."""
    size, pitch = rng.uniform(0.9, 1.35), log_uniform(rng, 110.0, 340.0)
    before = rng.uniform(0.0, 0.3)
    pieces = [(before, _cough(rng, size, pitch))]
    if before > 0.2:
        pieces.append((0.0, _breath(rng, 0.18, 900.0) * rng.uniform(0.02, 0.1)))
    return place(samples(before + rng.uniform(0.5, 0.9)), pieces)


def cough_fit(rng: Generator) -> Signal:
    """Three to nine coughs, mostly in runs, sometimes with a wheezing breath between the runs."""
    size, pitch = rng.uniform(0.9, 1.35), log_uniform(rng, 110.0, 340.0)
    pieces: list[tuple[float, Signal]] = []
    at, run_left = rng.uniform(0.0, 0.1), int(rng.integers(2, 5))
    for _ in range(int(rng.integers(4, 10))):
        if at > 4.6:
            break
        pieces.append((at, _cough(rng, size * rng.uniform(0.95, 1.05), pitch) * rng.uniform(0.55, 1.0)))
        at += rng.uniform(0.34, 0.55)
        run_left -= 1
        if run_left == 0:
            pieces.append((at, _breath(rng, 0.3, 1100.0 * size) * rng.uniform(0.03, 0.2)))
            at, run_left = at + rng.uniform(0.35, 0.75), int(rng.integers(2, 5))
    return place(samples(min(at + 0.1, 5.4)), pieces)


def scream(rng: Generator) -> Signal:
    """A pressed, rough, high voice of 0.8-2.4 s; sometimes two."""
    pitch = log_uniform(rng, 650.0, 1500.0)
    pieces: list[tuple[float, Signal]] = []
    at = 0.0
    for _ in range(int(rng.integers(1, 3))):
        n = samples(log_uniform(rng, 0.8, 2.4))
        f0 = pitch * curve(n, [0, 0.12, 0.75, 1], [rng.uniform(0.5, 0.85), 1, rng.uniform(0.85, 1.1), 0.7])
        mouth = np.array([rng.uniform(900, 1300), rng.uniform(1600, 2100), rng.uniform(2800, 3600)])
        sound = voice(
            rng,
            f0,
            (mouth, mouth * rng.uniform(0.9, 1.1)),
            slope=rng.uniform(0.1, 0.7),
            breath=0.12,
            rough=rng.uniform(0.3, 0.8),
        )
        pieces.append((at, sound * curve(n, [0, 0.05, 0.8, 1], [0, 1, 0.8, 0]) * rng.uniform(0.7, 1.0)))
        at += n / samples(1.0) + rng.uniform(0.1, 0.4)
    return place(samples(min(at, 5.2)), pieces)


def _talker(rng: Generator, n: int) -> Signal:
    pitch, tract = log_uniform(rng, 85.0, 260.0), rng.uniform(0.9, 1.25)
    slope = rng.uniform(1.0, 1.8)
    pieces: list[tuple[float, Signal]] = []
    at = rng.uniform(0.0, 0.2)
    while at < n / samples(1.0):
        length = samples(rng.uniform(0.1, 0.28))
        if rng.random() < 0.4:
            m = samples(rng.uniform(0.04, 0.12))
            hiss = noise(rng, m, peaks(bins(m), [rng.uniform(2500, 6500)], 0.5, 0.02)) * np.hanning(m)
            pieces.append((at, hiss * rng.uniform(0.03, 0.12)))
            at += m / samples(1.0)
        first, last = _VOWELS[rng.integers(len(_VOWELS), size=2)] * tract
        f0 = pitch * rng.uniform(0.85, 1.25) * curve(length, [0, 1], [1.05, rng.uniform(0.85, 1.05)])
        syllable = voice(rng, f0, (first, last), slope=slope, breath=0.04) * np.hanning(length) ** 0.6
        pieces.append((at, syllable * rng.uniform(0.4, 1.0)))
        at += length / samples(1.0) + (rng.uniform(0.2, 0.5) if rng.random() < 0.12 else 0.0)
    return place(n, pieces)


def speech_babble(rng: Generator) -> Signal:
    """One to three people talking, syllable by syllable, without words."""
    n = samples(rng.uniform(1.2, 4.5))
    return np.sum([_talker(rng, n) * log_uniform(rng, 0.3, 1.0) for _ in range(int(rng.integers(1, 4)))], axis=0)


def applause(rng: Generator) -> Signal:
    """Hand claps of a few or of very many people."""
    n = samples(rng.uniform(1.5, 5.0))
    many = log_uniform(rng, 12.0, 350.0)
    centre = rng.uniform(900.0, 1900.0)
    claps = crackles(rng, n, many, rng.uniform(0.012, 0.03), 0.6)
    swell = curve(n, [0, 0.15, 0.7, 1], [rng.uniform(0.3, 1), 1, 1, rng.uniform(0.1, 1)])
    return shape(claps, peaks(bins(n), [centre, 2.1 * centre], 0.9, 0.1)) * swell


def whistling(rng: Generator) -> Signal:
    """A person whistles a tune: nearly pure tones of 0.7-2.2 kHz that step and slide, with some breath."""
    base = log_uniform(rng, 700.0, 1400.0)
    steps = base * 2.0 ** (rng.choice([0, 2, 4, 5, 7, 9, 12], size=int(rng.integers(3, 10))) / 12.0)
    lengths = rng.choice([0.15, 0.3, 0.45], size=len(steps)) * rng.uniform(0.8, 1.3)
    ends = np.cumsum(lengths)
    n = samples(float(min(ends[-1], 5.0)))
    note = np.minimum(np.searchsorted(ends, time_axis(n)), len(steps) - 1)
    smooth = band(bins(n), 0.0, 14.0, 1)  # the lips need some 20 ms to move
    f0 = base + shape(steps[note] - base, smooth)
    f0 = f0 * (1.0 + rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(4.5, 7.0) * time_axis(n)))
    since = time_axis(n) - np.concatenate([[0.0], ends[:-1]])[note]
    level = np.minimum(since / 0.03, 1.0) * np.minimum((lengths[note] - since) / 0.05, 1.0).clip(0.1)
    breath = noise(rng, n, peaks(bins(n), [1.6 * base], 0.6, 0.02))
    return (tone(f0, [1.0, rng.uniform(0.0, 0.08)]) + rng.uniform(0.01, 0.1) * breath) * level


def snoring(rng: Generator) -> Signal:
    """A rattling breath in, a pause, a soft breath out."""
    pieces: list[tuple[float, Signal]] = []
    flutter, formant = log_uniform(rng, 28.0, 80.0), rng.uniform(250.0, 600.0)
    for at in even_starts(rng, int(rng.integers(1, 3)), rng.uniform(2.4, 3.2), 0.1):
        n = samples(rng.uniform(0.8, 1.5))
        f0 = flutter * (1.0 + wander(rng, n, 10.0, 0.08))
        mouth = formant * np.array([1.0, 2.4, 4.6])
        rattle = voice(rng, f0, (mouth, mouth * 1.1), slope=rng.uniform(0.2, 0.8), breath=rng.uniform(0.1, 0.4))
        pieces.append((float(at), rattle * np.hanning(n)))
        out = _breath(rng, rng.uniform(0.6, 1.0), 1200.0)
        pieces.append((float(at) + n / samples(1.0) + 0.2, out * rng.uniform(0.03, 0.15)))
    return place(samples(float(pieces[-1][0]) + 1.0), pieces)


def groan(rng: Generator, seconds: float) -> Signal:
    """A short low cry of surprise or pain; a part of other sounds."""
    n = samples(seconds)
    f0 = log_uniform(rng, 130.0, 380.0) * curve(n, [0, 0.2, 1], [0.9, 1.2, 0.7])
    first, last = _VOWELS[[0, 4]] * rng.uniform(0.95, 1.2)
    return voice(rng, f0, (first, last), slope=rng.uniform(0.7, 1.3), breath=0.1, rough=rng.uniform(0.0, 0.4)) * decay(
        n, seconds / 2
    )


RENDERERS: dict[str, Callable[[Generator], Signal]] = {
    "applause": applause,
    "baby_cry": baby_cry,
    "baby_laugh": baby_laugh,
    "cough_fit": cough_fit,
    "cough_single": cough_single,
    "laughter": laughter,
    "scream": scream,
    "snoring": snoring,
    "speech_babble": speech_babble,
    "whistling": whistling,
}
