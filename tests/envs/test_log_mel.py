import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.clock import SAMPLE_RATE
from envs.log_mel import CHUNK_FRAMES, CONTEXT_SAMPLES, N_MELS, log_mel, mel_bin_of, mel_filters


def tone(hz, seconds=0.4):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE).astype(np.float32)


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3000.0])
def test_a_tone_stands_in_its_own_band(hz):
    assert abs(log_mel(tone(hz))[5:].mean(0).argmax() - mel_bin_of(np.array([hz]))[0]) < 1


def test_silence_is_minus_one_and_a_full_scale_tone_is_near_one():
    assert (log_mel(np.zeros(6400, np.float32)) == -1.0).all()
    assert 0.8 < log_mel(tone(1000.0)).max() <= 1.0


def test_every_band_hears_something():
    assert mel_filters().shape == (257, N_MELS)
    assert (mel_filters().sum(axis=0) > 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([1e-6, 0.1, 1.0]))
def test_chunk_by_chunk_equals_the_whole(seed, chunks, level):
    audio = np.random.default_rng(seed).uniform(-level, level, chunks * 6400).astype(np.float32)
    padded = np.concatenate([np.zeros(CONTEXT_SAMPLES, np.float32), audio])
    parts = [log_mel(audio[i : i + 6400], padded[i : i + CONTEXT_SAMPLES]) for i in range(0, len(audio), 6400)]
    whole = log_mel(audio)
    assert whole.shape == (chunks * CHUNK_FRAMES, N_MELS)
    assert np.abs(whole).max() <= 1.0
    assert np.allclose(np.concatenate(parts), whole, atol=1e-6)
