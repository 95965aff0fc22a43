"""Sounds that deserve a word: alarms, breakage, distress, fire, weather."""

import numpy as np

from envs.clock import samples
from envs.foley.synthesis import (
    Rng,
    Signal,
    band,
    curve,
    decay,
    formant_amplitudes,
    harmonics,
    modes,
    place,
    seconds,
    swell,
    tone,
    train,
)


def smoke_alarm(rng: Rng) -> Signal:
    """Three beeps and a pause (T3), or steady beeps, near 3 kHz."""
    total = rng.uniform(2.5, 4.5)
    out = np.zeros(samples(total))
    f, on = rng.uniform(2600, 3700), rng.uniform(0.12, 0.5)
    n = samples(on)
    beep = (tone(f, n) + rng.uniform(0.05, 0.3) * tone(min(2 * f, 7500), n)) * swell(n, 0.02, 0.02)
    gap, pause = rng.uniform(0.6, 1.1) * on, rng.choice([0.0, 1.0]) * rng.uniform(0.5, 1.1)
    at, count = 0.0, 0
    while at < total:
        place(out, beep, at)
        count += 1
        at += on + gap + (pause if count % 3 == 0 else 0.0)
    return out


def glass_break(rng: Rng) -> Signal:
    """A burst, inharmonic partials between 2 and 8 kHz, and a tail of falling shards."""
    out = np.zeros(samples(rng.uniform(0.7, 1.8)))
    burst = samples(0.12)
    place(out, band(rng, burst, 600, 8000, 0.3) * decay(burst, rng.uniform(0.06, 0.12)), 0.0)
    n = samples(0.6)
    place(out, modes(rng, n, rng.uniform(1800, 7500, 14), rng.uniform(0.15, 0.5)), 0.0, 0.4)
    for at in rng.exponential(0.3, int(rng.integers(8, 30))):
        m = samples(rng.uniform(0.05, 0.2))
        place(out, modes(rng, m, rng.uniform(2500, 7600, 4), rng.uniform(0.04, 0.15)), at + 0.05, rng.uniform(0.05, 0.4))
    return out


def siren(rng: Rng) -> Signal:
    """A wail, a yelp or a two-tone horn."""
    n = samples(rng.uniform(2.5, 5.0))
    t = seconds(n)
    low = rng.uniform(400, 800)
    high = low * rng.uniform(1.5, 2.3)
    kind = rng.integers(3)
    rate = (rng.uniform(0.2, 0.5), rng.uniform(2.0, 4.0), rng.uniform(0.7, 1.3))[kind]
    phase = t * rate + rng.random()
    if kind == 2:
        f = np.where(phase % 1 < 0.5, low, low * rng.uniform(1.2, 1.4))
    else:
        f = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * phase))
    return harmonics(f, n, rng.uniform(0.3, 1, 6) / np.arange(1, 7)) * curve(rng, n, 4, 0.6, 1.0)


def car_horn(rng: Rng) -> Signal:
    """Two reeds a third apart, rich in harmonics, one blast or several."""
    out = np.zeros(samples(rng.uniform(0.8, 2.8)))
    f = rng.uniform(300, 480)
    amplitudes = rng.uniform(0.4, 1, 14) / np.arange(1, 15) ** rng.uniform(0.3, 0.9)
    at = 0.0
    while at < len(out) / 16000 - 0.2:
        n = samples(rng.uniform(0.25, 1.6))
        blast = harmonics(f, n, amplitudes) + harmonics(f * rng.uniform(1.18, 1.28), n, amplitudes)
        place(out, blast * swell(n, 0.04, 0.06), at)
        at += n / 16000 + rng.uniform(0.08, 0.4)
    return out


def kettle_whistle(rng: Rng) -> Signal:
    """A whistle that rises out of hissing steam."""
    n = samples(rng.uniform(2.5, 4.5))
    rise = 1 - np.exp(-seconds(n) * rng.uniform(1.5, 4))
    f = rng.uniform(1400, 2700) * (0.75 + 0.25 * rise) * (1 + 0.01 * curve(rng, n, 30, -1, 1))
    whistle = harmonics(f, n, [1, rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.2)]) * rise
    return whistle + rng.uniform(0.1, 0.5) * band(rng, n, 1500, 7800) * (0.4 + 0.6 * rise)


def cough(rng: Rng, pitch: float) -> Signal:
    """One cough: an explosive burst, a voiced rest."""
    n = samples(rng.uniform(0.22, 0.45))
    f0 = pitch * np.linspace(1.15, 0.8, n)
    amplitudes = formant_amplitudes(rng, pitch, [rng.uniform(500, 900), rng.uniform(1100, 1900)], 0.25, 0.4)
    voiced = harmonics(f0, n, amplitudes) * (1 + 0.3 * band(rng, n, 20, 90))
    burst = band(rng, n, rng.uniform(250, 500), rng.uniform(3000, 6500), -0.2)
    voice = voiced / max(np.abs(voiced).max(), 1e-9)
    return burst * decay(n, rng.uniform(0.12, 0.25), 0.006) + rng.uniform(0.2, 1.0) * voice * decay(n, 0.35, 0.04)


def cough_fit(rng: Rng) -> Signal:
    """Four to eight coughs in quick succession."""
    out = np.zeros(samples(rng.uniform(3.0, 5.0)))
    pitch, at = rng.uniform(90, 280), 0.0
    while at < len(out) / 16000 - 0.4:
        place(out, cough(rng, pitch * rng.uniform(0.9, 1.1)), at, rng.uniform(0.6, 1))
        at += rng.uniform(0.3, 0.9)
    return out


def baby_cry(rng: Rng) -> Signal:
    """Wails of 0.5 to 1.3 s around 350 to 600 Hz, with breaths between them."""
    total = rng.uniform(3.0, 5.0)
    out = np.zeros(samples(total))
    base, at = rng.uniform(330, 560), 0.0
    formants = [rng.uniform(900, 1300), rng.uniform(2600, 3600), rng.uniform(4200, 5600)]
    while at < total - 0.3:
        n = samples(rng.uniform(0.5, 1.3))
        x = np.linspace(0, 1, n)
        contour = 1 + rng.uniform(0.05, 0.3) * np.sin(np.pi * x ** rng.uniform(0.5, 1.2)) - rng.uniform(0, 0.2) * x
        vibrato = 1 + 0.015 * np.sin(2 * np.pi * rng.uniform(5, 9) * seconds(n))
        f0 = base * contour * vibrato * rng.uniform(0.93, 1.07)
        voice = harmonics(f0, n, formant_amplitudes(rng, base, formants, 0.3, rng.uniform(0.0, 0.5), 16))
        rough = 1 + rng.uniform(0, 0.6) * np.sin(np.cumsum(f0) * np.pi / 16000)  # subharmonics of a hard cry
        place(out, voice * rough * swell(n, 0.12, 0.25), at)
        m = samples(0.2)
        place(out, band(rng, m, 800, 5000) * swell(m), at + n / 16000 + 0.02, rng.uniform(0.05, 0.3))
        at += n / 16000 + rng.uniform(0.15, 0.5)
    return out


def water_leak(rng: Rng) -> Signal:
    """Drops that ring, over a fine spray."""
    total = rng.uniform(3.0, 5.0)
    out = rng.uniform(0.0, 0.08) * band(rng, samples(total), 2500, 7500)
    interval, f = rng.uniform(0.18, 0.6), rng.uniform(500, 1600)
    for at in train(rng, total, interval, 0.15):
        n = samples(rng.uniform(0.05, 0.12))
        chirp = f * rng.uniform(0.8, 1.3) * np.linspace(1, rng.uniform(1.3, 2.2), n)
        place(out, tone(chirp, n) * decay(n, n / 16000), at, rng.uniform(0.5, 1))
    return out


def doorbell(rng: Rng) -> Signal:
    """Ding dong, or an electric ring."""
    out = np.zeros(samples(rng.uniform(1.2, 2.5)))
    f = rng.uniform(520, 900)
    partials = np.array([1, 2.0, 3.01, 4.2, 5.4])
    if rng.random() < 0.75:
        for k, ratio in enumerate((1.0, rng.choice([0.794, 0.75, 0.667]))):
            n = len(out)
            place(out, modes(rng, n, f * ratio * partials, rng.uniform(0.8, 2.0)), k * rng.uniform(0.4, 0.7))
        return out
    for at in train(rng, len(out) / 16000, rng.uniform(0.03, 0.06), 0.02):
        place(out, modes(rng, samples(0.15), 2 * f * partials[:3], 0.2), at)
    return out


def thunder(rng: Rng) -> Signal:
    """A crack and a long low rumble."""
    n = samples(rng.uniform(3.0, 5.0))
    rumble = band(rng, n, 25, rng.uniform(120, 350), -0.5) * curve(rng, n, 12, 0.1, 1.0) ** 1.5
    out = rumble * decay(n, rng.uniform(3, 7), rng.uniform(0.02, 0.4))
    for at in rng.uniform(0, 1.0, int(rng.integers(0, 4))):
        m = samples(0.5)
        place(out, band(rng, m, 80, rng.uniform(1500, 5000), -0.6) * decay(m, rng.uniform(0.2, 0.5)), at, 1.2)
    return out


def scream(rng: Rng) -> Signal:
    """A long, high, rough voice."""
    n = samples(rng.uniform(0.9, 2.0))
    base = rng.uniform(600, 1200)
    f0 = base * curve(rng, n, 5, 0.85, 1.2) * (1 + 0.02 * band(rng, n, 20, 120))
    formants = [rng.uniform(1000, 1500), rng.uniform(2400, 3200)]
    voice = harmonics(f0, n, formant_amplitudes(rng, base, formants, 0.4, 0.2, 10))
    return (voice + 0.15 * band(rng, n, 1500, 6000)) * swell(n, 0.08, 0.2) * (1 + 0.5 * tone(rng.uniform(40, 90), n))


def fuse(rng: Rng) -> Signal:
    """A sputtering hiss."""
    n = samples(rng.uniform(0.9, 2.5))
    return band(rng, n, rng.uniform(1500, 3000), 7900) * curve(rng, n, 60, 0.4, 1.0) * swell(n, 0.15, 0.1)


def blast(rng: Rng) -> Signal:
    """An explosion: one loud front, a dark tail."""
    n = samples(rng.uniform(0.8, 2.0))
    front = band(rng, n, 40, 6000, -0.3) * decay(n, rng.uniform(0.1, 0.3), 0.001)
    return 1.5 * front + band(rng, n, 25, rng.uniform(200, 600), -0.3) * decay(n, rng.uniform(0.8, 2.0), 0.005)


def fire_crackle(rng: Rng) -> Signal:
    """Random crackles over a low roar."""
    total = rng.uniform(3.0, 5.0)
    n = samples(total)
    out = rng.uniform(0.05, 0.25) * band(rng, n, 60, 700, -0.5) * curve(rng, n, 14, 0.5, 1)
    for at in rng.uniform(0, total, int(rng.integers(25, 90))):
        m = samples(rng.uniform(0.004, 0.03))
        place(out, band(rng, max(m, 64), 800, 7500) * decay(max(m, 64), m / 16000), at, rng.lognormal(-1.2, 0.8))
    return out


SYNTHS = {
    f.__name__: f
    for f in (
        smoke_alarm, glass_break, siren, car_horn, kettle_whistle, cough_fit, baby_cry, water_leak, doorbell,
        thunder, scream, fuse, blast, fire_crackle,
    )
}  # fmt: skip
