"""24 kHz to 16 kHz: the same to the bit however it is cut, and the same sound."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.server.resampling import INPUT_CHUNK, StreamResampler


@given(cuts=st.lists(st.integers(0, 4000), max_size=20), length=st.integers(0, 4000), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_output_does_not_depend_on_how_the_audio_is_cut(cuts: list[int], length: int, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    whole = StreamResampler().push(samples)
    pieces = StreamResampler()
    parts = np.split(samples, sorted(min(cut, length) for cut in cuts))
    assert np.concatenate([pieces.push(part) for part in parts]).tobytes() == whole.tobytes()
    assert len(whole) == -(-2 * length // 3)


def test_a_chunk_becomes_a_chunk_and_a_tone_stays_a_tone() -> None:
    seconds = np.arange(2 * INPUT_CHUNK) / 24_000
    for hertz, gain in ((440.0, 1.0), (5000.0, 1.0), (10_500.0, 0.0)):  # the last would fold back
        out = StreamResampler().push((0.5 * np.sin(2 * np.pi * hertz * seconds)).astype(np.float32))
        assert len(out) == 12_800
        expected = gain * 0.5 * np.sin(2 * np.pi * hertz * (np.arange(12_800) / 16_000 - 36 / 24_000))
        assert np.abs(out[200:] - expected[200:]).max() < 0.01
