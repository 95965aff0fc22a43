"""The operators of time-frequency joint preprocessing, each by what it promises."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.scenario import Audio
from envs.tfjp import (
    boundary_norm,
    core_locate,
    denoise,
    longest_gap_s,
    noise_profile,
    silence_cut,
    spec_smooth,
    tfjp,
)

RATE = 16_000


def noise(seconds: float, level: float, seed: int = 0) -> Audio:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


@st.composite
def clips(draw: st.DrawFn) -> Audio:
    """Bursts and pauses of drawn lengths and levels, at times very short."""
    pieces = draw(st.lists(st.tuples(st.floats(0.001, 1.5), st.sampled_from([0.0, 1e-5, 1e-3, 0.05, 0.3]))))
    return np.concatenate([np.zeros(0, np.float32)] + [noise(s, level, i) for i, (s, level) in enumerate(pieces)])


@given(clips())
@settings(max_examples=50, deadline=None)
def test_silence_cut_is_idempotent_and_only_removes(audio: Audio) -> None:
    once = silence_cut(audio)
    assert len(once) <= len(audio)
    np.testing.assert_array_equal(silence_cut(once), once)


def test_a_gap_lies_between_two_sounds() -> None:
    sound, quiet = noise(0.5, 0.3), np.zeros(RATE, np.float32)
    assert longest_gap_s(np.concatenate((quiet, sound, quiet))) == 0
    assert longest_gap_s(np.concatenate((sound, quiet, sound, quiet[:1600], sound))) == 1
    assert longest_gap_s(quiet) == longest_gap_s(quiet[:0]) == 0


def test_silence_cut_leaves_300_ms_of_a_pause() -> None:
    audio = np.concatenate((noise(1, 0.2), np.zeros(RATE, np.float32), noise(1, 0.2, 1)))
    assert abs(len(silence_cut(audio)) - 2.3 * RATE) <= 320


def test_silence_cut_keeps_a_sound_without_pauses() -> None:
    audio = noise(3, 0.2)
    np.testing.assert_array_equal(silence_cut(audio), audio)


def test_denoise_quiets_the_floor_and_keeps_the_tone() -> None:
    t = np.arange(3 * RATE) / RATE
    tone = np.where((t > 1) & (t < 2), 0.3 * np.sin(2 * np.pi * 1000 * t), 0).astype(np.float32)
    dirty = tone + noise(3, 0.01)
    clean = denoise(dirty)
    assert len(clean) == len(dirty)
    assert clean[: RATE // 2].std() < 0.5 * dirty[: RATE // 2].std()
    assert abs(clean[round(1.2 * RATE) : round(1.8 * RATE)].std() / 0.212 - 1) < 0.05


@given(clips())
@settings(max_examples=30, deadline=None)
def test_denoise_adds_to_no_frequency(audio: Audio) -> None:
    """Spectral subtraction takes away from every frame; what overlapping frames share may only leak a little."""
    clean = denoise(audio)
    assert len(clean) == len(audio)
    assert clean.dtype == np.float32
    before, after = (np.abs(np.fft.rfft(a, max(len(a), 1))) ** 2 for a in (audio, clean))
    bands = np.linspace(0, len(before), 9).astype(int)
    for low, high in pairwise(bands):
        assert after[low:high].sum() <= 1.02 * before[low:high].sum() + 1e-9


@given(clips(), st.floats(0.2, 5.0))
@settings(max_examples=30, deadline=None)
def test_core_locate_cuts_one_piece_of_the_clip(audio: Audio, seconds: float) -> None:
    core = core_locate(audio, seconds)
    assert len(core) == min(len(audio), round(seconds * RATE))
    if 0 < len(core) < len(audio):
        starts = np.flatnonzero(audio[: len(audio) - len(core) + 1] == core[0])
        assert any(np.array_equal(audio[start : start + len(core)], core) for start in starts.tolist())


def test_noise_profile_is_that_of_the_quietest_frames() -> None:
    spectrum = np.ones((100, 257), np.complex64)
    spectrum[:5] *= 0.1
    np.testing.assert_allclose(noise_profile(spectrum), 0.1, rtol=1e-6)


def test_core_locate_finds_the_loud_and_tonal_span() -> None:
    t = np.arange(2 * RATE) / RATE
    audio = np.concatenate((noise(4, 0.01), (0.3 * np.sin(2 * np.pi * 880 * t)).astype(np.float32), noise(4, 0.01)))
    core = core_locate(audio, 3.0)
    assert len(core) == 3 * RATE
    assert np.square(core).sum() > 0.98 * np.square(audio).sum()


@given(clips())
@settings(max_examples=30, deadline=None)
def test_boundaries_and_tapers(audio: Audio) -> None:
    snapped = boundary_norm(audio)
    assert len(snapped) % 3_200 == 0
    assert 0 <= len(snapped) - len(audio) < 3_200
    tapered = spec_smooth(audio)
    assert len(tapered) == len(audio)
    assert (np.abs(tapered) <= np.abs(audio)).all()
    if len(audio) > 640:
        assert tapered[0] == 0
        np.testing.assert_array_equal(tapered[320:-320], audio[320:-320])


@given(clips())
@settings(max_examples=30, deadline=None)
def test_tfjp_gives_usable_clips(audio: Audio) -> None:
    out = tfjp(audio)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert len(out) % 3_200 == 0
    assert len(out) <= 5 * RATE
    np.testing.assert_array_equal(tfjp(audio), out)
