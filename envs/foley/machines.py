"""Machines that run as they should, and one that does not."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from envs.clock import SAMPLE_RATE, samples
from envs.foley.impacts import knock
from envs.foley.synthesis import (
    Signal,
    band,
    bins,
    crackles,
    curve,
    even_starts,
    harmonics,
    log_uniform,
    noise,
    peaks,
    place,
    ring,
    shape,
    tilt,
    time_axis,
    tone,
    unit,
    wander,
)


def _motor(rng: Generator, f0: Signal, slope: float) -> Signal:
    """Return a hum whose harmonics have uneven strengths, as blades and cylinders are never alike: [n]."""
    return unit(tone(f0, harmonics(40, slope) * rng.uniform(0.2, 1.0, 40)))


def fan(rng: Generator) -> Signal:
    """Even air noise with the hum of the blades in it."""
    n = samples(rng.uniform(1.8, 5.2))
    f = bins(n)
    blade = log_uniform(rng, 25.0, 160.0)
    air = noise(rng, n, tilt(f, rng.uniform(-5.0, -1.0)) * band(f, 60.0, log_uniform(rng, 2000.0, 9000.0), 1))
    hum = _motor(rng, blade * (1.0 + wander(rng, n, 2.0, 0.004)), rng.uniform(0.8, 1.6))
    swing = 1.0 + rng.uniform(0.0, 0.3) * np.sin(2 * np.pi * rng.uniform(0.5, 4.0) * time_axis(n))
    return unit(air) * swing + rng.uniform(0.05, 0.6) * hum


def vacuum(rng: Generator) -> Signal:
    """A vacuum cleaner: a fast motor's whine in loud air."""
    n = samples(rng.uniform(1.8, 5.2))
    speed = curve(n, [0, rng.uniform(0.02, 0.2), 1], [rng.uniform(0.5, 1.0), 1.0, rng.uniform(0.95, 1.05)])
    whine = _motor(rng, log_uniform(rng, 180.0, 650.0) * speed * (1.0 + wander(rng, n, 3.0, 0.004)), 0.9)
    f = bins(n)
    air = noise(
        rng,
        n,
        peaks(f, [log_uniform(rng, 500.0, 1500.0), rng.uniform(2000, 4500)], 1.2, 0.2) * band(f, 150, 9000, 1),
    )
    return unit(air) * speed + rng.uniform(0.15, 0.7) * whine


def engine(rng: Generator) -> Signal:
    """A combustion engine idles, revs or drives past."""
    n = samples(rng.uniform(1.8, 5.2))
    idle = log_uniform(rng, 22.0, 75.0)
    revs = curve(n, np.linspace(0, 1, 5), np.exp(rng.normal(0.0, rng.uniform(0.02, 0.35), 5)))
    firing = idle * revs * (1.0 + wander(rng, n, 12.0, 0.015))
    f = bins(n)
    exhaust = peaks(f, [rng.uniform(70, 160), rng.uniform(250, 500), rng.uniform(900, 1500)], 0.9, 0.03, 0.5)
    knocks = shape(_motor(rng, firing, rng.uniform(0.1, 0.8)), exhaust)
    air = noise(rng, n, tilt(f, -4.0) * band(f, 80.0, 5000.0, 1)) * revs
    passing = curve(n, [0, rng.uniform(0.2, 0.8), 1], [rng.uniform(0.2, 1), 1, rng.uniform(0.2, 1)])
    return (unit(knocks) + rng.uniform(0.05, 0.5) * unit(air)) * passing


def train(rng: Generator) -> Signal:
    """Wheels over rail joints, in pairs, in a broad rumble."""
    n = samples(rng.uniform(2.5, 5.4))
    f = bins(n)
    rumble = noise(rng, n, tilt(f, rng.uniform(-5.0, -2.0)) * band(f, 50.0, 5000.0, 1)) * (
        1.0 + wander(rng, n, 8.0, 0.2)
    )
    period = rng.uniform(0.45, 1.1)
    pieces: list[tuple[float, Signal]] = []
    for at in even_starts(rng, int(n / SAMPLE_RATE / period) + 1, period, 0.04):
        for pair in (0.0, rng.uniform(0.1, 0.16)):
            clack = knock(rng, log_uniform(rng, 110.0, 350.0), 0.025, rng.uniform(0.4, 1.0))
            pieces.append((float(at) + pair, clack * rng.uniform(0.3, 0.8)))
    return unit(rumble) + place(n, pieces)


def cart(rng: Generator) -> Signal:
    """A cart rolls: a rattling low noise that turns with the wheels."""
    n = samples(rng.uniform(0.8, 3.0))
    f = bins(n)
    turn = 1.0 + rng.uniform(0.2, 0.6) * np.sin(2 * np.pi * rng.uniform(2.0, 7.0) * time_axis(n))
    roll = noise(rng, n, band(f, 60.0, log_uniform(rng, 250.0, 900.0), 1)) * turn
    rattle = shape(
        crackles(rng, n, rng.uniform(15, 60), 0.02, 0.7), peaks(f, rng.uniform(300, 2500, 3), 0.4, 0.05, 0.9)
    )
    return (unit(roll) + rng.uniform(0.1, 0.6) * unit(rattle)) * curve(n, [0, 0.2, 0.8, 1], [0.2, 1, 1, 0.2])


def machine_fault(rng: Generator) -> Signal:
    """Jammed gears: metal grinds and shrieks at every turn while the motor labours."""
    n = samples(rng.uniform(1.8, 4.5))
    turns = rng.uniform(2.5, 9.0) * (1.0 + wander(rng, n, 2.0, 0.12))
    angle = np.modf(np.cumsum(turns) / SAMPLE_RATE)[0]
    grip = np.exp(-rng.uniform(2.0, 6.0) * angle)
    load = _motor(rng, log_uniform(rng, 50.0, 130.0) * (1.0 - 0.15 * grip), 0.7)
    f = bins(n)
    metal = rng.uniform(700.0, 4500.0, 6)
    teeth = crackles(rng, n, rng.uniform(150, 500), 0.006, 0.8)
    grind = unit(shape(teeth, peaks(f, metal, 0.15, 0.05, 0.95))) * grip
    shriek_hz = log_uniform(rng, 900.0, 2800.0) * (1.0 + 0.1 * grip + wander(rng, n, 60.0, 0.02))
    shriek = unit(tone(shriek_hz, harmonics(4, 0.6))) * grip**2
    starts = np.flatnonzero(np.diff(angle) < -0.5)
    hit = ring(rng, samples(0.3), metal, rng.uniform(0.01, 0.06, 6), 1.0)
    hits = place(n, [(int(s) / SAMPLE_RATE, hit * rng.uniform(0.5, 1.0)) for s in starts])
    return rng.uniform(0.2, 0.6) * load + grind + rng.uniform(0.1, 0.7) * shriek + rng.uniform(0.3, 0.8) * unit(hits)


RENDERERS: dict[str, Callable[[Generator], Signal]] = {
    "cart": cart,
    "engine": engine,
    "fan": fan,
    "machine_fault": machine_fault,
    "train": train,
    "vacuum": vacuum,
}
