"""Things that strike, break, fall and click."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from envs.clock import SAMPLE_RATE, samples
from envs.foley.synthesis import (
    Signal,
    band,
    bins,
    crackles,
    curve,
    decay,
    even_starts,
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
from envs.foley.voices import groan


def knock(rng: Generator, body_hz: float, tau_s: float, contact: float, modes: int = 6) -> Signal:
    """Return one blow on a solid body: low modes around `body_hz` and a contact noise of level `contact`."""
    n = samples(min(max(6.0 * tau_s, 0.05), 0.8))
    f = body_hz * np.cumprod(np.concatenate([[1.0], rng.uniform(1.15, 1.8, modes - 1)]))
    taus = tau_s * (body_hz / f) ** rng.uniform(0.3, 1.0)
    body = unit(ring(rng, n, f, taus, rng.uniform(0.3, 1.0, modes) * (body_hz / f) ** 0.5))
    click = noise(rng, n, band(bins(n), 200.0, log_uniform(rng, 1500.0, 7000.0), 1)) * decay(
        n, rng.uniform(0.002, 0.008)
    )
    return body + contact * unit(click)


def _shard(rng: Generator, low: float, high: float, tau_s: float) -> Signal:
    count = int(rng.integers(2, 6))
    f = np.exp(rng.uniform(np.log(low), np.log(high), count))
    return ring(rng, samples(5.0 * tau_s), f, tau_s * rng.uniform(0.4, 1.0, count), rng.uniform(0.3, 1.0, count))


def glass_break(rng: Generator) -> Signal:
    """A sharp burst, inharmonic partials of 1.5-8 kHz that die at once, and a tail of falling shards."""
    total_s = rng.uniform(0.6, 2.2)
    n = samples(total_s)
    size = rng.uniform(0.7, 1.5)
    count = int(rng.integers(15, 50))
    f = np.exp(rng.uniform(np.log(1300.0 / size), np.log(7800.0), count))
    body = unit(ring(rng, n, f, rng.uniform(0.015, 0.11, count) * size, rng.uniform(0.2, 1.0, count)))
    burst = unit(noise(rng, n, band(bins(n), 1200.0 / size, 9000.0, 1)) * decay(n, rng.uniform(0.01, 0.05)))
    thump = knock(rng, log_uniform(rng, 90.0, 350.0), 0.03, 0.3) * rng.uniform(0.0, 0.5)
    start = rng.uniform(0.0, 0.06)
    pieces = [(start, body + rng.uniform(0.5, 1.2) * burst), (0.0, thump)]
    spread = total_s * rng.uniform(0.25, 0.5)
    for _ in range(int(rng.integers(10, 40))):
        at = start + 0.03 + rng.exponential(spread)
        level = rng.uniform(0.1, 0.7) * np.exp(-1.2 * at / total_s)
        pieces.append((at, _shard(rng, 2200.0, 7600.0, rng.uniform(0.008, 0.05)) * level))
    return place(n, pieces)


def dishes(rng: Generator) -> Signal:
    """Cups and plates put down: a few clear clinks, each whole."""
    pieces: list[tuple[float, Signal]] = []
    for at in even_starts(rng, int(rng.integers(1, 8)), rng.uniform(0.15, 0.6), 0.6):
        base = log_uniform(rng, 700.0, 2800.0)
        f = base * np.array([1.0, rng.uniform(1.5, 1.9), rng.uniform(2.3, 2.9), rng.uniform(3.2, 4.2)])
        clink = ring(rng, samples(0.5), f, rng.uniform(0.03, 0.14) * np.array([1, 0.7, 0.5, 0.3]), [1, 0.6, 0.5, 0.3])
        pieces.append((float(at), clink * rng.uniform(0.3, 1.0)))
        pieces.append((float(at), knock(rng, rng.uniform(200, 500), 0.012, 0.4) * rng.uniform(0.0, 0.5)))
    return place(samples(min(pieces[-1][0] + 0.5, 4.0)), pieces)


def fall(rng: Generator) -> Signal:
    """Somebody falls: perhaps a cry, a heavy blow of 40-120 Hz, lesser blows, things that clatter."""
    body = log_uniform(rng, 40.0, 120.0)
    before = rng.uniform(0.1, 0.45)
    pieces: list[tuple[float, Signal]] = [(before, knock(rng, body, rng.uniform(0.05, 0.12), rng.uniform(0.2, 0.8), 9))]
    if rng.random() < 0.6:
        pieces.append((0.0, groan(rng, before + 0.1) * rng.uniform(0.2, 0.6)))
    at = before
    for _ in range(int(rng.integers(2, 6))):
        at += rng.uniform(0.06, 0.3)
        second = knock(rng, body * rng.uniform(1.0, 3.0), 0.04, rng.uniform(0.2, 0.8))
        pieces.append((at, second * rng.uniform(0.2, 0.7)))
    for _ in range(int(rng.integers(0, 8))):
        clatter = _shard(rng, 400.0, 4000.0, rng.uniform(0.01, 0.06))
        pieces.append((before + rng.exponential(0.35), clatter * rng.uniform(0.05, 0.3)))
    if rng.random() < 0.5:
        pieces.append((at + rng.uniform(0.2, 0.5), groan(rng, rng.uniform(0.4, 0.9)) * rng.uniform(0.2, 0.5)))
    return place(samples(min(max(start for start, _ in pieces) + 0.9, 3.5)), pieces)


def blast(rng: Generator) -> Signal:
    """A shot or an explosion: everything at once, then a dull roar; shots may come in a row."""
    far = rng.random() < 0.4
    shots = 1 if far else int(rng.choice([1, 1, 2, 3, 4]))
    tail_s = log_uniform(rng, 0.25, 1.0) if far else log_uniform(rng, 0.06, 0.35)
    n = samples(min(5.0 * tail_s + 0.3, 3.5))
    f, t = bins(n), time_axis(n)
    pieces: list[tuple[float, Signal]] = []
    for at in even_starts(rng, shots, rng.uniform(0.12, 0.6), 0.3):
        crack = noise(rng, n, band(f, 100.0, 9000.0, 1)) * np.exp(-t / rng.uniform(0.004, 0.02))
        dull = noise(rng, n, 1.0 / (1.0 + (f / log_uniform(rng, 120.0, 500.0)) ** 1.5)) * np.exp(-t / tail_s)
        echo = 1.0 + rng.uniform(0.0, 0.5) * (t > rng.uniform(0.1, 0.3))
        thump = np.sin(2 * np.pi * rng.uniform(35, 70) * t) * np.exp(-t / 0.08)
        sound = rng.uniform(0.3, 1.2) * unit(crack) + unit(dull * echo) + rng.uniform(0.2, 0.8) * thump
        pieces.append((float(at), sound))
    return place(n + samples(pieces[-1][0]), pieces)


def rockfall(rng: Generator) -> Signal:
    """Stones tumble: many blows that grow and thin out over a low rumble."""
    n = samples(rng.uniform(1.8, 4.5))
    swell = curve(n, [0, rng.uniform(0.15, 0.4), 1], [0.1, 1, 0])
    rumble = noise(rng, n, band(bins(n), 25.0, log_uniform(rng, 100.0, 300.0))) * (1.0 + wander(rng, n, 15.0, 0.4))
    debris = shape(crackles(rng, n, rng.uniform(40, 160), 0.015, 1.0), peaks(bins(n), [500.0, 1500.0], 1.2, 0.1))
    blows = []
    for _ in range(int(rng.integers(10, 40))):
        at = n / SAMPLE_RATE * rng.beta(2.0, 3.0)
        stone = knock(rng, log_uniform(rng, 120.0, 900.0), rng.uniform(0.01, 0.04), rng.uniform(0.4, 1.0))
        blows.append((at, stone * rng.lognormal(-1.0, 0.6)))
    return unit(rumble) * swell * rng.uniform(0.3, 0.8) + unit(debris) * swell * 0.7 + place(n, blows)


def footsteps(rng: Generator) -> Signal:
    """Heel and toe on one floor: hard, wooden, gravel or snow."""
    scuff_hz, body = log_uniform(rng, 700.0, 4500.0), log_uniform(rng, 70.0, 260.0)
    scuff, weight = rng.uniform(0.1, 1.2), rng.uniform(0.1, 1.0)
    loose = rng.random() < 0.4
    pieces: list[tuple[float, Signal]] = []
    for at in even_starts(rng, int(rng.integers(1, 9)), rng.uniform(0.32, 0.68), 0.08):
        level = rng.uniform(0.6, 1.0)
        pieces.append((float(at), knock(rng, body * rng.uniform(0.9, 1.1), 0.02, 0.3) * weight * level))
        n = samples(rng.uniform(0.05, 0.16))
        grit = crackles(rng, n, 500.0, 0.004) if loose else noise(rng, n)
        sole = unit(shape(grit, peaks(bins(n), [scuff_hz], 1.0, 0.1))) * np.hanning(n)
        pieces.append((float(at) + rng.uniform(0.0, 0.06), sole * scuff * level))
    return place(samples(min(pieces[-1][0] + 0.25, 4.8)), pieces)


def knocking_work(rng: Generator) -> Signal:
    """Blows of a tool, or things set down."""
    body, tau = log_uniform(rng, 110.0, 1100.0), log_uniform(rng, 0.01, 0.06)
    starts = even_starts(rng, int(rng.integers(1, 7)), rng.uniform(0.18, 0.7), 0.2)
    contact = rng.uniform(0.2, 1.0)
    pieces = [
        (float(s), knock(rng, body * rng.uniform(0.95, 1.05), tau, contact) * rng.uniform(0.5, 1)) for s in starts
    ]
    return place(samples(min(pieces[-1][0] + 0.4, 4.0)), pieces)


def door(rng: Generator) -> Signal:
    """A creak of stick and slip, a latch, a slam, or some of them."""
    pieces: list[tuple[float, Signal]] = []
    at = 0.0
    if rng.random() < 0.5:
        n = samples(rng.uniform(0.3, 1.4))
        f0 = log_uniform(rng, 40.0, 160.0) * (1.0 + wander(rng, n, 6.0, 0.25)).clip(0.3)
        creak = shape(tone(f0, harmonics(45, 0.2)), peaks(bins(n), rng.uniform(400, 3000, 3), 0.2, 0.02, 0.9))
        pieces.append((0.0, unit(creak) * np.hanning(n) * rng.uniform(0.2, 0.7)))
        at = n / SAMPLE_RATE * rng.uniform(0.7, 1.0)
    pieces.append((at, knock(rng, log_uniform(rng, 60.0, 180.0), rng.uniform(0.03, 0.08), rng.uniform(0.2, 0.7), 8)))
    latch = knock(rng, rng.uniform(900, 2500), 0.008, 0.8) * rng.uniform(0.1, 0.5)
    pieces.append((at + rng.uniform(0.02, 0.12), latch))
    return place(samples(at + rng.uniform(0.4, 0.8)), pieces)


def _clicks(rng: Generator, starts: Signal, body: float, top: float, level: tuple[float, float]) -> Signal:
    m = samples(0.03)
    count = len(starts)
    grains = [
        unit(noise(rng, m, band(bins(m), body * 2, top, 1)) * decay(m, rng.uniform(0.001, 0.004)))
        + rng.uniform(0.2, 0.6) * ring(rng, m, [body, 1.7 * body, 3.1 * body], 0.006, [1.0, 0.6, 0.3])
        for _ in range(count)
    ]
    loud = rng.uniform(*level, count)
    n = samples(float(np.max(starts)) + 0.2)
    return place(n, [(float(s), g * a) for s, g, a in zip(starts, grains, loud, strict=True)])


def typing(rng: Generator) -> Signal:
    """Keys go down and come up, four to ten a second, in words."""
    rate = rng.uniform(4.0, 10.0)
    down = even_starts(rng, int(rng.uniform(1.5, 4.5) * rate), 1.0 / rate, 0.6)
    down = down + np.cumsum((rng.random(len(down)) < 0.1) * rng.uniform(0.1, 0.5, len(down)))
    up = down + rng.uniform(0.05, 0.11, len(down))
    body, top = rng.uniform(250.0, 700.0), rng.uniform(4000.0, 9000.0)
    press, release = _clicks(rng, down, body, top, (0.5, 1.0)), _clicks(rng, up, body * 1.6, top, (0.1, 0.5))
    return place(samples(min(float(down[-1]) + 0.3, 5.0)), [(0.0, press), (0.0, release)])


def switch(rng: Generator) -> Signal:
    """A switch or button: one to three clicks of two parts."""
    first = even_starts(rng, int(rng.integers(1, 4)), rng.uniform(0.2, 0.5), 0.3)
    starts = np.concatenate([first, first + rng.uniform(0.01, 0.06)])
    return _clicks(rng, starts, log_uniform(rng, 300.0, 1800.0), rng.uniform(3500, 9000), (0.4, 1.0))


def clock_tick(rng: Generator) -> Signal:
    """Tick and tock, one to four a second, without a hurry."""
    period = rng.choice([1.0, 0.5, 0.5, 0.25]) * rng.uniform(0.95, 1.05)
    starts = even_starts(rng, max(int(rng.uniform(2.0, 5.0) / period), 3), float(period), 0.01)
    body = log_uniform(rng, 700.0, 2600.0)
    tick, tock = knock(rng, body, 0.006, 0.7), knock(rng, body * rng.uniform(0.7, 0.95), 0.006, 0.7)
    pieces = [(float(s), (tick if k % 2 == 0 else tock) * rng.uniform(0.85, 1.0)) for k, s in enumerate(starts)]
    return place(samples(min(pieces[-1][0] + 0.2, 5.2)), pieces)


def paper(rng: Generator) -> Signal:
    """Paper is crumpled or leafed through: soft dense crackling in strokes."""
    pieces: list[tuple[float, Signal]] = []
    for at in even_starts(rng, int(rng.integers(1, 6)), rng.uniform(0.4, 0.8), 0.3):
        n = samples(rng.uniform(0.25, 0.7))
        rustle = shape(
            crackles(rng, n, rng.uniform(250, 900), 0.004, 0.8),
            band(bins(n), rng.uniform(600, 1800), 9000, 1),
        )
        pieces.append((float(at), unit(rustle) * np.hanning(n) * rng.uniform(0.5, 1.0)))
    return place(samples(min(pieces[-1][0] + 0.7, 4.5)), pieces)


RENDERERS: dict[str, Callable[[Generator], Signal]] = {
    "blast": blast,
    "clock_tick": clock_tick,
    "dishes": dishes,
    "door": door,
    "fall": fall,
    "footsteps": footsteps,
    "glass_break": glass_break,
    "knocking_work": knocking_work,
    "paper": paper,
    "rockfall": rockfall,
    "switch": switch,
    "typing": typing,
}
