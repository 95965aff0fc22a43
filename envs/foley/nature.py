"""Water, weather, fire, and rooms in which nothing happens."""

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
    glide,
    log_uniform,
    noise,
    peaks,
    place,
    random_starts,
    scatter,
    shape,
    tilt,
    time_axis,
    tone,
    unit,
    wander,
)


def _bubbles(rng: Generator, starts: Signal, n: int, hz: tuple[float, float], tau_s: tuple[float, float]) -> Signal:
    """Return bubbles of air in water: sines that rise a little while they die (Minnaert resonance): [n]."""
    count = len(starts)
    t = time_axis(samples(5.0 * tau_s[1]))
    f = np.exp(rng.uniform(np.log(hz[0]), np.log(hz[1]), (count, 1)))
    rise = rng.uniform(0.5, 6.0, (count, 1))  # relative frequency gained in a second
    tau = rng.uniform(*tau_s, (count, 1))
    grains = np.sin(2 * np.pi * f * t * (1.0 + 0.5 * rise * t)) * np.exp(-t / tau) * np.minimum(t / 0.001, 1.0)
    return scatter(n, starts, grains * rng.lognormal(0.0, 0.6, (count, 1)))


def rain(rng: Generator) -> Signal:
    """Steady broad noise with single drops in it."""
    n = samples(rng.uniform(1.5, 5.2))
    f = bins(n)
    bed = noise(rng, n, band(f, log_uniform(rng, 200.0, 900.0), 20_000.0, 1) * tilt(f, rng.uniform(-3.0, 1.0)))
    drops = shape(crackles(rng, n, log_uniform(rng, 40.0, 400.0), 0.004, 0.9), band(f, 800.0, 9000.0, 1))
    return bed * (1.0 + wander(rng, n, 2.0, 0.06)) + rng.uniform(0.05, 0.5) * drops


def wind(rng: Generator) -> Signal:
    """Gusts: low noise whose colour and level rise and fall together."""
    n = samples(rng.uniform(2.0, 5.4))
    f = bins(n)
    gust = np.clip(0.5 + wander(rng, n, rng.uniform(0.5, 1.5), 0.3), 0.05, 1.3)
    dull = band(f, 30.0, log_uniform(rng, 120.0, 350.0), 1)
    whistling = peaks(f, [log_uniform(rng, 300.0, 900.0)], rng.uniform(0.3, 1.0), 0.05)
    return glide(noise(rng, n), dull, dull + rng.uniform(0.2, 1.0) * whistling, gust) * gust


def thunder(rng: Generator) -> Signal:
    """A crack, or none when it is far, and a rumble that rolls and darkens for seconds."""
    n = samples(rng.uniform(2.5, 5.4))
    f, t = bins(n), time_axis(n)
    near = rng.random()
    roll = np.clip(0.5 + wander(rng, n, rng.uniform(3.0, 8.0), 0.3), 0.15, 1.5)
    level = roll * curve(n, [0, 0.02 + 0.15 * (1 - near), 0.5, 1], [0.1, 1.0, 0.45, 0.03])
    bright = band(f, 25.0, log_uniform(rng, 200.0, 700.0))
    dark = band(f, 20.0, log_uniform(rng, 60.0, 140.0), 1)
    rumble = unit(glide(noise(rng, n), bright, dark, curve(n, [0, 0.6, 1], [0.0, 0.8, 1.0])) * level)
    strike = noise(rng, n, band(f, 80.0, log_uniform(rng, 900.0, 4000.0), 1)) * np.exp(-t / rng.uniform(0.03, 0.15))
    splits = shape(crackles(rng, n, 60.0, 0.02, 1.2), band(f, 100.0, 4000.0, 1)) * np.exp(-t / 0.25)
    crack = unit(strike) + 0.6 * unit(splits)
    return rumble + near * rng.uniform(0.3, 1.5) * crack


def flowing_water(rng: Generator) -> Signal:
    """A brook: bubbles without number over soft noise."""
    n = samples(rng.uniform(1.8, 5.2))
    starts = random_starts(rng, n, rng.uniform(60.0, 160.0))
    water = _bubbles(rng, starts, n, (350.0, log_uniform(rng, 1500.0, 4000.0)), (0.004, 0.012))
    bed = noise(rng, n, band(bins(n), 300.0, log_uniform(rng, 2500.0, 8000.0), 1)) * (1.0 + wander(rng, n, 4.0, 0.15))
    return unit(water) + rng.uniform(0.05, 0.35) * bed


def faucet(rng: Generator) -> Signal:
    """A tap runs into a basin: bright even noise, opened and closed."""
    n = samples(rng.uniform(1.5, 4.5))
    f = bins(n)
    basin = peaks(f, [log_uniform(rng, 500.0, 1500.0), rng.uniform(3000.0, 5500.0)], 1.2, 0.3, 1.3)
    jet = noise(rng, n, basin * band(f, 250.0, 12_000.0, 1))
    splash = _bubbles(rng, random_starts(rng, n, 40.0), n, (500.0, 2200.0), (0.003, 0.008))
    return (jet + rng.uniform(0.0, 0.6) * splash) * curve(n, [0, 0.1, 0.9, 1], [0, 1, 1, 0])


def water_leak(rng: Generator) -> Signal:
    """Water where it should not be: loud single drops into a puddle, a spitting spray, or both."""
    n = samples(rng.uniform(1.8, 5.0))
    spray_share = float(rng.choice([0.0, 0.0, 1.0, rng.uniform(0.2, 0.6)]))
    sound = np.zeros(n)
    if spray_share < 1.0:
        period = rng.uniform(0.22, 0.6)
        starts = even_starts(rng, int(n / SAMPLE_RATE / period) + 1, period, rng.uniform(0.02, 0.35)) * SAMPLE_RATE
        low = log_uniform(rng, 500.0, 1400.0)
        plinks = _bubbles(rng, starts[starts < n], n, (low, low * 1.5), (0.015, 0.04))
        landed = starts[starts < n - 1600]
        after = landed + rng.integers(300, 1500, len(landed))
        splash = _bubbles(rng, after, n, (low * 1.3, low * 3.0), (0.005, 0.015))
        sound += unit(plinks + 0.4 * splash)
    if spray_share > 0.0:
        f = bins(n)
        hiss = noise(rng, n, band(f, log_uniform(rng, 900.0, 2500.0), 12_000.0))
        sputter = np.clip(1.0 + wander(rng, n, rng.uniform(15.0, 40.0), 0.6), 0.05, 3.0)
        gurgle = _bubbles(rng, random_starts(rng, n, 25.0), n, (250.0, 900.0), (0.01, 0.03))
        sound += spray_share * (unit(hiss * sputter) + rng.uniform(0.2, 0.6) * unit(gurgle))
    return sound


def fire_crackle(rng: Generator) -> Signal:
    """Flames: a flickering low roar with sharp snaps of every size."""
    n = samples(rng.uniform(1.8, 5.2))
    f = bins(n)
    flicker = np.clip(1.0 + wander(rng, n, rng.uniform(6.0, 14.0), 0.35), 0.1, 2.5)
    roar = noise(rng, n, band(f, 40.0, log_uniform(rng, 250.0, 900.0), 1)) * flicker
    snaps = shape(crackles(rng, n, log_uniform(rng, 12.0, 60.0), 0.006, 1.1), band(f, 600.0, 9000.0, 1))
    fizz = shape(crackles(rng, n, 250.0, 0.003, 0.6), band(f, 1500.0, 9000.0, 1))
    return rng.uniform(0.1, 0.45) * unit(roar) + unit(snaps) + rng.uniform(0.05, 0.3) * unit(fizz)


def fuse(rng: Generator) -> Signal:
    """A burning fuse: a hiss of 1.5-6 kHz that spits irregularly and throws sparks."""
    n = samples(rng.uniform(1.0, 3.2))
    f = bins(n)
    centre = log_uniform(rng, 1800.0, 4200.0)
    hiss = noise(rng, n, peaks(f, [centre], rng.uniform(0.5, 1.1), 0.03))
    spit = np.clip(1.0 + wander(rng, n, rng.uniform(25.0, 80.0), 0.5), 0.05, 3.0)
    sparks = shape(crackles(rng, n, rng.uniform(20.0, 90.0), 0.005, 0.9), band(f, 1200.0, 9000.0, 1))
    grows = curve(n, [0, rng.uniform(0.05, 0.3), 0.9, 1], [0.2, 0.9, 1.0, 0.5])
    return (unit(hiss * spit) + rng.uniform(0.2, 0.9) * unit(sparks)) * grows


def room_noise(rng: Generator) -> Signal:
    """A household at rest: dull noise, hum, and now and then something that is moved."""
    n = samples(rng.uniform(2.0, 5.4))
    f = bins(n)
    bed = noise(rng, n, tilt(f, rng.uniform(-7.0, -2.0)) * band(f, 40.0, 6000.0, 1)) * (1.0 + wander(rng, n, 1.5, 0.15))
    hum = tone(np.full(n, float(rng.choice([50.0, 60.0]))), [1.0, 0.5, 0.4, 0.1, 0.2])
    bumps = [
        (
            rng.uniform(0, n / SAMPLE_RATE),
            knock(rng, log_uniform(rng, 80.0, 900.0), 0.02, 0.5) * rng.uniform(0.1, 0.8),
        )
        for _ in range(int(rng.integers(0, 5)))
    ]
    return unit(bed) + rng.uniform(0.0, 0.2) * unit(hum) + place(n, bumps)


def room_silence(rng: Generator) -> Signal:
    """A quiet room: mains hum and the noise of the microphone."""
    n = samples(rng.uniform(2.0, 5.4))
    f = bins(n)
    hum = tone(np.full(n, float(rng.choice([50.0, 60.0]))) * rng.uniform(0.98, 1.02), [1.0, 0.3, 0.2, 0.05])
    return unit(hum) * rng.uniform(0.0, 1.0) + 0.4 * unit(noise(rng, n, tilt(f, rng.uniform(-6.0, -1.0))))


RENDERERS: dict[str, Callable[[Generator], Signal]] = {
    "faucet": faucet,
    "fire_crackle": fire_crackle,
    "flowing_water": flowing_water,
    "fuse": fuse,
    "rain": rain,
    "room_noise": room_noise,
    "room_silence": room_silence,
    "thunder": thunder,
    "water_leak": water_leak,
    "wind": wind,
}
