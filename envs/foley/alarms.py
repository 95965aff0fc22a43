"""Signals made to be noticed, and the small beeps that are not."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from envs.clock import SAMPLE_RATE, samples
from envs.foley.synthesis import (
    Signal,
    bins,
    curve,
    even_starts,
    glide,
    harmonics,
    log_uniform,
    noise,
    peaks,
    place,
    ring,
    shape,
    time_axis,
    tone,
    unit,
    wander,
)


def _gate(n: int, spans_s: list[tuple[float, float]]) -> Signal:
    """Return 1 inside the spans and 0 outside, with edges of 4 ms: [n]."""
    t = time_axis(n)
    return np.max([np.clip(np.minimum(t - start, end - t) / 0.004, 0.0, 1.0) for start, end in spans_s], axis=0)


def smoke_alarm(rng: Generator) -> Signal:
    """A piezo tone of 2.8-3.6 kHz: three slow beeps and a pause (temporal three, ISO 8201), or quick ones."""
    slow = rng.random() < 0.6
    beep_s, beeps = (rng.uniform(0.4, 0.55), 3) if slow else (rng.uniform(0.06, 0.2), int(rng.integers(3, 20)))
    step_s = beep_s * (2.0 if slow else rng.uniform(1.4, 2.0))
    pause_s = 1.0 if slow else rng.uniform(0.2, 0.6)
    total_s = rng.uniform(2.0, 5.0)
    spans: list[tuple[float, float]] = []
    at, beep = 0.0, int(rng.integers(0, 2))
    while at < total_s:
        spans.append((at, min(at + beep_s, total_s)))
        beep += 1
        at += step_s + (pause_s if beep % beeps == 0 else 0.0)
    n = samples(spans[-1][1] + 0.1)
    f0 = log_uniform(rng, 2800.0, 3600.0) * (1.0 + wander(rng, n, 3.0, 0.001))
    if rng.random() < 0.3:  # some models sweep within a beep
        f0 = f0 * (1.0 + rng.uniform(0.01, 0.05) * np.sin(2 * np.pi * rng.uniform(4, 30) * time_axis(n)))
    return tone(f0, [1.0, rng.uniform(0.05, 0.6)]) * _gate(n, spans)


def siren(rng: Generator) -> Signal:
    """An emergency siren: wail, yelp or two-tone, with the rich spectrum of a horn."""
    n = samples(rng.uniform(2.2, 5.2))
    t = time_axis(n)
    low, high = log_uniform(rng, 450.0, 750.0), log_uniform(rng, 1000.0, 1700.0)
    kind = rng.choice(["wail", "yelp", "hi-lo"], p=[0.45, 0.3, 0.25])
    if kind == "hi-lo":
        low, high = log_uniform(rng, 380.0, 560.0), log_uniform(rng, 590.0, 900.0)
        sweep = (np.mod(t / rng.uniform(0.8, 1.3) + rng.random(), 1.0) < 0.5).astype(float)
        sweep = shape(sweep, 1.0 / (1.0 + (bins(n) / 40.0) ** 2))
    else:
        rate = rng.uniform(0.2, 0.5) if kind == "wail" else rng.uniform(2.2, 4.2)
        cycle, rise = np.mod(t * rate + rng.random(), 1.0), rng.uniform(0.3, 0.65)
        sweep = np.where(cycle < rise, cycle / rise, (1.0 - cycle) / (1.0 - rise))
    doppler = curve(n, [0, 1], [1.0 + rng.uniform(0, 0.04), 1.0 - rng.uniform(0, 0.04)])
    sound = tone(low * (high / low) ** sweep * doppler, harmonics(14, rng.uniform(0.5, 1.8)))
    horn = peaks(bins(n), [rng.uniform(900, 1400), rng.uniform(2200, 3200)], 0.7, 0.15)
    passing = curve(n, [0, rng.uniform(0.3, 0.7), 1], [rng.uniform(0.4, 1), 1, rng.uniform(0.4, 1)])
    return shape(sound, horn) * passing


def car_horn(rng: Generator) -> Signal:
    """Two reeds a third or so apart, pressed once or several times."""
    base = log_uniform(rng, 300.0, 460.0)
    ratio = float(rng.choice([1.19, 1.25, 1.26, 1.33]))
    spans: list[tuple[float, float]] = []
    at = 0.0
    for _ in range(int(rng.choice([1, 1, 2, 2, 3, 4]))):
        length = log_uniform(rng, 0.12, 1.6)
        spans.append((at, at + length))
        at += length + rng.uniform(0.08, 0.35)
    n = samples(min(max(spans[-1][1], 0.5) + 0.05, 4.5))
    bend = 1.0 + wander(rng, n, 4.0, 0.002)
    slope = rng.uniform(0.3, 1.0)
    low = tone(base * bend, harmonics(18, slope))
    high = tone(base * ratio * bend, harmonics(18, slope), rng.random()) * rng.uniform(0.0, 1.0)
    horn = peaks(bins(n), [rng.uniform(450, 800), rng.uniform(1600, 2600)], 0.8, 0.12)
    return shape(low + high, horn) * _gate(n, spans)


def backup_beep(rng: Generator) -> Signal:
    """The even beeping of a reversing lorry, often over its engine."""
    n = samples(rng.uniform(2.0, 5.0))
    period, on = rng.uniform(0.7, 1.15), rng.uniform(0.42, 0.58)
    starts = even_starts(rng, int(n / SAMPLE_RATE / period) + 1, period, 0.0)
    spans = [(float(s), float(s) + on * period) for s in starts]
    f0 = np.full(n, log_uniform(rng, 950.0, 1500.0))
    beeps = unit(tone(f0, [1.0, 0.1, rng.uniform(0.1, 0.5), 0.05, 0.1])) * _gate(n, spans)
    motor = tone(log_uniform(rng, 28.0, 60.0) * (1.0 + wander(rng, n, 6.0, 0.02)), harmonics(30, 0.8))
    return beeps + rng.uniform(0.0, 0.25) * unit(motor)


def doorbell(rng: Generator) -> Signal:
    """Ding-dong on two bars, an electric bell, or a buzzer."""
    kind = rng.choice(["chime", "bell", "buzzer"], p=[0.65, 0.2, 0.15])
    if kind == "chime":
        high = log_uniform(rng, 520.0, 1100.0)
        notes = [high, high / float(rng.choice([1.26, 1.19, 1.33]))]
        pieces = []
        for index in range(int(rng.choice([2, 2, 2, 4]))):
            partials = notes[index % 2] * np.array([1.0, 2.0, 2.76, 4.1, 5.4])
            taus = rng.uniform(0.35, 0.8) / np.array([1.0, 1.5, 2.5, 4.0, 6.0])
            levels = np.array([1.0, 0.25, 0.3, 0.12, 0.1]) * rng.uniform(0.5, 1.5, 5)
            pieces.append((index * rng.uniform(0.4, 0.65), ring(rng, samples(1.5), partials, taus, levels)))
        return place(samples(pieces[-1][0] + 1.3), pieces)
    n = samples(rng.uniform(0.5, 1.8))
    pressed = _gate(n, [(0.0, n / SAMPLE_RATE - 0.05)])
    if kind == "buzzer":
        buzz = tone(np.full(n, log_uniform(rng, 90.0, 240.0)), harmonics(40, rng.uniform(0.1, 0.6)))
        return shape(buzz, peaks(bins(n), [rng.uniform(600, 1400), 2600.0], 0.8, 0.1)) * pressed
    base = log_uniform(rng, 1300.0, 2600.0)
    strike = ring(rng, samples(0.25), base * np.array([1.0, 1.47, 2.09, 2.56]), 0.08, [1.0, 0.8, 0.5, 0.4])
    hits = even_starts(rng, int(n / SAMPLE_RATE * rng.uniform(14.0, 24.0)), n / SAMPLE_RATE / 18.0, 0.05)
    return place(n, [(float(s), strike * rng.uniform(0.7, 1.0)) for s in hits])


def kettle_whistle(rng: Generator) -> Signal:
    """Steam that hisses, then a whistle that climbs to 1.6-3.2 kHz and wavers there."""
    n = samples(rng.uniform(2.0, 5.2))
    top, climb = log_uniform(rng, 1600.0, 3200.0), rng.uniform(0.05, 0.45)
    f0 = top * curve(n, [0, climb, 1], [rng.uniform(0.55, 0.9), 1.0, rng.uniform(0.98, 1.05)])
    f0 = f0 * (1.0 + wander(rng, n, 14.0, 0.004))
    whistle = tone(f0, [1.0, rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.2)])
    if rng.random() < 0.5:  # two holes, two tones
        whistle = whistle + rng.uniform(0.2, 0.7) * tone(f0 * rng.uniform(1.1, 1.5), [1.0])
    f = bins(n)
    steam = noise(rng, n, peaks(f, [top, 1.8 * top], 0.8, 0.1)) * curve(n, [0, climb, 1], [0.5, 1, 1])
    level = curve(n, [0, climb, 1], [rng.uniform(0.1, 0.5), 1, 1]) * (1.0 + wander(rng, n, 18.0, 0.1))
    return unit(whistle) * level + rng.uniform(0.03, 0.2) * steam


def button_beep(rng: Generator) -> Signal:
    """One to three short beeps of an appliance that was touched."""
    f0, length = log_uniform(rng, 700.0, 3000.0), rng.uniform(0.05, 0.14)
    starts = even_starts(rng, int(rng.integers(1, 4)), length + rng.uniform(0.06, 0.3), 0.0)
    n = samples(float(starts[-1]) + length + 0.15)
    gate = _gate(n, [(float(s), float(s) + length) for s in starts])
    return unit(tone(np.full(n, f0), [1.0, 0.05, rng.uniform(0.0, 0.4)])) * gate


def car_skid(rng: Generator) -> Signal:
    """Tyres squeal: close, unsteady, sinking tones of 0.7-2 kHz over rubber noise; sometimes a crash."""
    n = samples(rng.uniform(0.8, 2.4))
    pitch = log_uniform(rng, 750.0, 1900.0)
    fall = curve(n, [0, 0.7, 1], [1.0, rng.uniform(0.85, 1.0), rng.uniform(0.6, 0.85)])
    squeal = np.zeros(n)
    for _ in range(3):
        f0 = pitch * rng.uniform(0.93, 1.07) * fall * (1.0 + wander(rng, n, 45.0, 0.015))
        squeal += tone(f0, harmonics(5, rng.uniform(0.6, 1.4)), rng.random())
    f = bins(n)
    rubber = noise(rng, n, peaks(f, [pitch, 2.0 * pitch], 0.5, 0.1))
    level = curve(n, [0, 0.1, 0.8, 1], [0, 1, 0.8, 0]) * (1.0 + wander(rng, n, 25.0, 0.15))
    sound = (unit(squeal) + rng.uniform(0.1, 0.4) * glide(rubber, 1.0 / (1.0 + f / 6000.0), f * 0 + 0.6, fall)) * level
    if rng.random() < 0.5:
        m = samples(rng.uniform(0.6, 1.2))
        crash = ring(rng, m, rng.uniform(90, 3500, 30), rng.uniform(0.03, 0.2, 30), rng.uniform(0.2, 1.0, 30))
        bang = noise(rng, m, 1.0 / (1.0 + bins(m) / 700.0)) * np.exp(-time_axis(m) / rng.uniform(0.05, 0.2))
        return place(n + m, [(0.0, sound), (n / SAMPLE_RATE - 0.1, unit(crash) + unit(bang))])
    return sound


RENDERERS: dict[str, Callable[[Generator], Signal]] = {
    "backup_beep": backup_beep,
    "button_beep": button_beep,
    "car_horn": car_horn,
    "car_skid": car_skid,
    "doorbell": doorbell,
    "kettle_whistle": kettle_whistle,
    "siren": siren,
    "smoke_alarm": smoke_alarm,
}
