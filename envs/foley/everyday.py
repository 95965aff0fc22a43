"""Sounds that deserve silence: weather, animals, machines, people, music."""

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
from envs.foley.urgent import cough


def rain(rng: Rng) -> Signal:
    """Broad noise and fine drops."""
    n = samples(rng.uniform(2.5, 5.0))
    out = band(rng, n, rng.uniform(300, 1500), 7900) * curve(rng, n, 6, 0.7, 1.0)
    for at in rng.uniform(0, n / 16000, int(rng.integers(0, 60))):
        place(out, band(rng, 160, 1500, 7500) * decay(160, 0.01), at, rng.uniform(0.5, 3))
    return out


def typing(rng: Rng) -> Signal:
    """Key clicks in bursts."""
    total = rng.uniform(2.0, 5.0)
    out = np.zeros(samples(total))
    body = rng.uniform(800, 2500)
    for at in train(rng, total, rng.uniform(0.09, 0.22), 0.5):
        n = samples(0.03)
        place(out, band(rng, n, 1000, 7500) * decay(n, 0.02) + modes(rng, n, [body], 0.02), at, rng.uniform(0.3, 1))
    return out


def fan(rng: Rng) -> Signal:
    """Steady air and a hum."""
    n = samples(rng.uniform(2.5, 5.0))
    f = rng.uniform(60, 220)
    hum = harmonics(f, n, rng.uniform(0.2, 1, 8) / np.arange(1, 9))
    return band(rng, n, 80, rng.uniform(800, 4000), -0.7) + rng.uniform(0.1, 0.6) * hum


def footsteps(rng: Rng) -> Signal:
    """Two to eight steps."""
    total = rng.uniform(0.4, 4.0)
    out = np.zeros(samples(total))
    low, high = rng.uniform(60, 200), rng.uniform(500, 4500)
    for at in train(rng, total, rng.uniform(0.35, 0.65), 0.08):
        n = samples(0.14)
        place(out, band(rng, n, low, high, -0.6) * decay(n, rng.uniform(0.05, 0.12)), at, rng.uniform(0.6, 1))
    return out


def bird(rng: Rng) -> Signal:
    """Chirps and trills."""
    total = rng.uniform(1.0, 4.0)
    out = np.zeros(samples(total))
    f, span, length = rng.uniform(2000, 5000), rng.uniform(-0.35, 0.5), rng.uniform(0.04, 0.25)
    for at in train(rng, total, length * rng.uniform(1.5, 5), 0.3):
        n = samples(length * rng.uniform(0.8, 1.2))
        sweep = np.clip(f * rng.uniform(0.9, 1.1) * (1 + span * np.linspace(0, 1, n)), 800, 7500)
        place(out, tone(sweep * (1 + 0.03 * tone(rng.uniform(15, 40), n)), n) * swell(n), at, rng.uniform(0.4, 1))
    return out


def _scale(rng: Rng) -> Signal:
    return rng.uniform(110, 440) * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16]) / 12)


def music(rng: Rng) -> Signal:
    """Plucked or held notes of one scale, sometimes with drums."""
    total = rng.uniform(2.5, 5.0)
    out, scale, beat = np.zeros(samples(total)), _scale(rng), rng.uniform(0.18, 0.5)
    held, amplitudes = rng.random() < 0.4, rng.uniform(0.1, 1, 8) / np.arange(1, 9) ** rng.uniform(0.8, 1.6)
    for k, at in enumerate(train(rng, total, beat, 0.0)):
        for f in rng.choice(scale, int(rng.integers(1, 4)), replace=False):
            n = samples(beat * rng.uniform(1, 2.5))
            place(out, harmonics(f, n, amplitudes) * (swell(n, 0.1, 0.3) if held else decay(n, 1.2)), at, 0.5)
        if k % 2 == 0 and rng.random() < 0.5:
            place(out, band(rng, 2400, 60, 4000, -0.5) * decay(2400, 0.12), at, 0.6)
    return out


def note(rng: Rng) -> Signal:
    """One instrument, one note."""
    n = samples(rng.uniform(0.6, 2.0))
    amplitudes = rng.uniform(0.1, 1, 10) / np.arange(1, 11) ** rng.uniform(0.6, 1.6)
    x = harmonics(rng.choice(_scale(rng)) * rng.choice([0.5, 1, 2]), n, amplitudes)
    return x * (swell(n, 0.1, 0.3) if rng.random() < 0.5 else decay(n, rng.uniform(0.6, 2.5), 0.005))


def whistling(rng: Rng) -> Signal:
    """A whistled tune."""
    total = rng.uniform(1.5, 4.0)
    out, scale = np.zeros(samples(total)), _scale(rng) * 4
    for at in train(rng, total, rng.uniform(0.2, 0.5), 0.2):
        n = samples(rng.uniform(0.15, 0.5))
        f = np.clip(rng.choice(scale), 600, 3500) * (1 + 0.02 * tone(rng.uniform(4, 7), n))
        place(out, (tone(f, n) + 0.05 * band(rng, n, 1000, 5000)) * swell(n, 0.15, 0.2), at)
    return out


def door(rng: Rng) -> Signal:
    """A creak, then a thud."""
    out = np.zeros(samples(rng.uniform(0.4, 1.4)))
    if rng.random() < 0.5:
        n = samples(min(rng.uniform(0.2, 0.7), len(out) / 16000))
        f = rng.uniform(150, 600) * curve(rng, n, 6, 0.7, 1.4)
        place(out, harmonics(f, n, rng.uniform(0.2, 1, 10)) * curve(rng, n, 20, 0, 1), 0.0, 0.15)
    n = samples(0.3)
    thud = band(rng, n, 50, rng.uniform(400, 1500), -0.6) * decay(n, rng.uniform(0.08, 0.25))
    place(out, thud, max(len(out) / 16000 - 0.35, 0.0), 1.2)
    return out


def engine(rng: Rng) -> Signal:
    """A motor's firing rate and its harmonics, slowly changing."""
    n = samples(rng.uniform(2.5, 5.0))
    f = rng.uniform(25, 90) * curve(rng, n, 5, 0.8, 1.3)
    x = harmonics(f, n, rng.uniform(0.2, 1, 30) / np.arange(1, 31) ** 0.5)
    return x + rng.uniform(0.3, 1.5) * band(rng, n, 60, rng.uniform(500, 2500), -0.5)


def cough_single(rng: Rng) -> Signal:
    """One cough, seldom two close together."""
    out = np.zeros(samples(rng.uniform(0.6, 1.6)))
    pitch = rng.uniform(90, 280)
    place(out, cough(rng, pitch), rng.uniform(0, 0.15))
    if rng.random() < 0.3:
        place(out, cough(rng, pitch), rng.uniform(0.35, 0.5), 0.6)
    return out


def baby_laugh(rng: Rng) -> Signal:
    """Short voiced bursts of falling pitch, in runs."""
    total = rng.uniform(2.0, 5.0)
    out = np.zeros(samples(total))
    base = rng.uniform(280, 520)
    formants = [rng.uniform(800, 1300), rng.uniform(2200, 3400)]
    at = 0.0
    while at < total - 0.2:
        for k in range(int(rng.integers(2, 7))):
            n = samples(rng.uniform(0.08, 0.2))
            f0 = base * (1.2 - 0.05 * k) * np.linspace(1.1, 0.85, n) * rng.uniform(0.9, 1.2)
            voice = harmonics(f0, n, formant_amplitudes(rng, base, formants, 0.3, 0.7, 14))
            place(out, (voice + 0.2 * band(rng, n, 800, 5000)) * swell(n, 0.15, 0.4), at)
            at += n / 16000 + rng.uniform(0.04, 0.14)
        at += rng.uniform(0.2, 0.8)
    return out


def _call(rng: Rng, base: float, length: float, contour: Signal, formants: list[float], tilt: float) -> Signal:
    """One animal call: a pitch contour through formants."""
    n = samples(length)
    f0 = base * np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(contour)), contour)
    return harmonics(f0, n, formant_amplitudes(rng, base, formants, 0.3, tilt, 24)) * swell(n, 0.15, 0.3)


def cat(rng: Rng) -> Signal:
    """One or two meows."""
    out = np.zeros(samples(rng.uniform(0.8, 2.2)))
    base = rng.uniform(350, 700)
    contour = np.array([0.8, rng.uniform(1.1, 1.5), 1.1, rng.uniform(0.7, 0.9)])
    for at in train(rng, len(out) / 16000, rng.uniform(0.9, 1.4), 0.1):
        place(out, _call(rng, base, rng.uniform(0.5, 1.0), contour, [1200, 2300, 3600], 0.5), at)
    return out


def dog(rng: Rng) -> Signal:
    """Barks."""
    total = rng.uniform(0.5, 3.0)
    out = np.zeros(samples(total))
    base = rng.uniform(180, 500)
    for at in train(rng, total, rng.uniform(0.3, 0.7), 0.2):
        length = rng.uniform(0.12, 0.25)
        bark = _call(rng, base, length, np.array([0.8, 1.3, 0.7]), [700, 1500], 0.4)
        place(out, bark / max(np.abs(bark).max(), 1e-9) + 0.3 * band(rng, len(bark), 400, 4000) * swell(len(bark)), at)
    return out


def cow(rng: Rng) -> Signal:
    """A moo."""
    contour = np.array([0.8, 1.1, 1.15, 0.9])
    return _call(rng, rng.uniform(90, 200), rng.uniform(1.0, 2.5), contour, [350, 800, 1800], 0.6)


def sheep(rng: Rng) -> Signal:
    """A bleat: a voice with a strong tremolo."""
    x = _call(rng, rng.uniform(180, 420), rng.uniform(0.5, 1.3), np.array([0.95, 1.05, 0.95]), [700, 1500, 2600], 0.3)
    return x * (1 + 0.8 * tone(rng.uniform(8, 14), len(x)))


def frog(rng: Rng) -> Signal:
    """Croaks."""
    total = rng.uniform(0.6, 3.0)
    out = np.zeros(samples(total))
    f, rate = rng.uniform(300, 1500), rng.uniform(25, 70)
    for at in train(rng, total, rng.uniform(0.35, 0.9), 0.15):
        n = samples(rng.uniform(0.15, 0.4))
        place(out, harmonics(f, n, [1, 0.5, 0.3]) * (0.5 + 0.5 * np.sign(tone(rate, n))) * swell(n), at)
    return out


def knocking_work(rng: Rng) -> Signal:
    """A knock or two on wood, earth or metal."""
    out = np.zeros(samples(rng.uniform(0.3, 1.2)))
    f = rng.uniform(120, 900) * np.array([1, 1.6, 2.7, 3.9])
    for at in train(rng, len(out) / 16000, rng.uniform(0.25, 0.6), 0.2):
        n = samples(0.25)
        knock = modes(rng, n, f, rng.uniform(0.05, 0.2)) + 0.6 * band(rng, n, 100, 4000, -0.5) * decay(n, 0.05)
        place(out, knock, at)
    return out


def switch(rng: Rng) -> Signal:
    """One or two clicks."""
    out = np.zeros(samples(rng.uniform(0.3, 0.8)))
    for at in (0.05, rng.uniform(0.12, 0.3)):
        n = samples(0.03)
        place(out, band(rng, n, 800, 7500) * decay(n, rng.uniform(0.008, 0.03)), at, rng.uniform(0.4, 1))
    return out


def dishes(rng: Rng) -> Signal:
    """Clinks of plates and cutlery, without a break."""
    total = rng.uniform(0.8, 3.0)
    out = np.zeros(samples(total))
    for at in train(rng, total, rng.uniform(0.15, 0.5), 0.5):
        n = samples(0.3)
        place(out, modes(rng, n, rng.uniform(1200, 6000, 5), rng.uniform(0.08, 0.3)), at, rng.uniform(0.3, 1))
    return out


def applause(rng: Rng) -> Signal:
    """Many claps."""
    total = rng.uniform(2.5, 5.0)
    n = samples(total)
    out = 0.3 * band(rng, n, 500, 6000)
    clap = band(rng, 400, 600, 5000) * decay(400, 0.02)
    for at in rng.uniform(0, total, int(rng.integers(80, 300))):
        place(out, clap, at, rng.uniform(0.2, 1))
    return out * swell(n, 0.15, 0.3)


def wind(rng: Rng) -> Signal:
    """Low noise in gusts."""
    n = samples(rng.uniform(2.5, 5.0))
    return band(rng, n, 40, rng.uniform(300, 1200), -0.8) * curve(rng, n, 6, 0.2, 1.0)


def clock_tick(rng: Rng) -> Signal:
    """Regular ticks."""
    total = rng.uniform(2.0, 5.0)
    out = np.zeros(samples(total))
    interval, f = rng.choice([0.5, 1.0]) * rng.uniform(0.8, 1.05), rng.uniform(1500, 5000)
    for k, at in enumerate(train(rng, total, interval, 0.0)):
        n = samples(0.03)
        place(out, modes(rng, n, [f * (1 if k % 2 else 0.85), 1.7 * f * 0.8], 0.02), at)
    return out


def flowing_water(rng: Rng) -> Signal:
    """A stream or a tap: bubbling noise."""
    n = samples(rng.uniform(2.5, 5.0))
    out = band(rng, n, rng.uniform(250, 700), rng.uniform(3000, 7500), -0.2) * curve(rng, n, 40, 0.6, 1)
    for at in rng.uniform(0, n / 16000, int(rng.integers(20, 80))):
        m = samples(rng.uniform(0.02, 0.06))
        place(out, tone(rng.uniform(400, 1500) * np.linspace(1, 1.3, m), m) * swell(m), at, rng.uniform(0.2, 1.0))
    return out


def room_noise(rng: Rng) -> Signal:
    """A quiet room: hum, air, a few bumps."""
    n = samples(rng.uniform(3.0, 5.0))
    out = band(rng, n, 30, rng.uniform(500, 5000), -1.0) + 0.3 * harmonics(rng.choice([50, 60]), n, [1, 0.5, 0.3, 0.2])
    for at in rng.uniform(0, n / 16000, int(rng.integers(0, 5))):
        place(out, band(rng, 1600, 80, 2500, -0.5) * decay(1600, 0.08), at, rng.uniform(0.5, 3))
    return out


def speech_babble(rng: Rng) -> Signal:
    """Syllables of one or several voices."""
    total = rng.uniform(1.0, 4.0)
    out = np.zeros(samples(total))
    for _ in range(int(rng.integers(1, 4))):
        base = rng.uniform(90, 240)
        for at in train(rng, total, rng.uniform(0.16, 0.26), 0.3):
            n = samples(rng.uniform(0.1, 0.22))
            formants = [rng.uniform(300, 850), rng.uniform(900, 2300), rng.uniform(2400, 3200)]
            f0 = base * rng.uniform(0.85, 1.2) * np.linspace(1.05, 0.92, n)
            place(out, harmonics(f0, n, formant_amplitudes(rng, base, formants, 0.15, 0.8)) * swell(n), at)
            if rng.random() < 0.4:
                place(out, band(rng, 1100, 2500, 7000) * swell(1100), at - 0.05 if at > 0.05 else at, 0.3)
    return out * (1 + 0.1 * np.sin(seconds(len(out))))


SYNTHS = {
    f.__name__: f
    for f in (
        rain, typing, fan, footsteps, bird, music, note, whistling, door, engine, cough_single, baby_laugh, cat, dog,
        cow, sheep, frog, knocking_work, switch, dishes, applause, wind, clock_tick, flowing_water, room_noise,
        speech_babble,
    )
}  # fmt: skip
