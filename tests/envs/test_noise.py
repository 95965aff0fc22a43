"""Noise under streams: at its distance, over the whole length, and without a seam."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.noise import AMBIENT_NOISE_DB, Loop, add_noise, make_loop


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.square(audio.astype(float)).mean()))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.3), st.integers(1_000, 400_000))
@settings(max_examples=20, deadline=None)
def test_noise_stands_at_its_distance(seed: int, level: float, length: int) -> None:
    """Together the two tracks are as loud as their powers, up to how they happen to correlate over a short stream."""
    mix = np.zeros(length, np.float32)
    add_noise(np.random.default_rng(seed), level, mix)
    both = 10 * np.log10(1 + 10 ** (AMBIENT_NOISE_DB / 10))
    snr = 20 * np.log10(level / rms(mix)) + both
    room = 0.1 if length > 100_000 else 3.0
    assert 5 - room <= snr <= 20 + room


@given(st.integers(0, 70_000), st.integers(1, 300_000))
@settings(max_examples=30, deadline=None)
def test_a_loop_is_heard_around_at_the_level_it_promises(start: int, length: int) -> None:
    loop = make_loop(np.random.default_rng(0).standard_normal(80_000).astype(np.float32))
    mix = np.zeros(length, np.float32)
    loop.add_to(mix, start, 0.5)
    expected = np.resize(np.roll(loop.audio, -start), length) * np.float32(0.5)
    np.testing.assert_array_equal(mix, expected)
    np.testing.assert_allclose(0.5 * loop.rms(start, length), rms(expected), rtol=1e-4)


def test_a_loop_has_no_seam() -> None:
    """A slow wave that ends elsewhere than it begins is crossfaded: no step is larger than inside."""
    slow = np.sin(2 * np.pi * 1.3 * np.arange(80_000) / 16_000).astype(np.float32)
    loop: Loop = make_loop(slow)
    twice = np.concatenate((loop.audio, loop.audio))
    assert np.abs(np.diff(twice)).max() < 0.01
    noise = make_loop(np.random.default_rng(1).standard_normal(80_000).astype(np.float32))
    power = np.square(np.concatenate((noise.audio, noise.audio))[: 2_000 * 70]).reshape(-1, 2_000).mean(axis=1)
    assert 0.7 < power.min() <= power.max() < 1.4
