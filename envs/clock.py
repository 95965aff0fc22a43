"""The one clock of the project: sample rate, chunk length, and how seconds become chunks.

A chunk is 0.4 s = 6,400 float32 samples at 16 kHz (paper, section on streaming inference). At step t the
agent holds chunks 0..t, and its action takes effect at the end of chunk t.
"""

import math

SAMPLE_RATE = 16_000  # Hz
CHUNK_SAMPLES = 6_400
CHUNK_S = CHUNK_SAMPLES / SAMPLE_RATE  # 0.4 s

_EPSILON_S = 1e-9  # so that 1.2 / 0.4 is 3 chunks and not 3.0000000000000004


def chunk_end_s(index: int) -> float:
    """Return the time in seconds at which chunk `index` (from 0) has been heard completely."""
    return (index + 1) * CHUNK_SAMPLES / SAMPLE_RATE


def chunks_to_cover(seconds: float) -> int:
    """Return how many chunks are needed to hold `seconds` of audio (rounded up)."""
    return math.ceil(seconds / CHUNK_S - _EPSILON_S)


def due_chunk(seconds: float) -> int:
    """Return the index (from 0) of the first chunk after which everything up to `seconds` has been heard.

    The paper's `ceil((offset + duration) / 0.4)`, which counts chunks from 1.
    """
    return max(chunks_to_cover(seconds) - 1, 0)


def samples(seconds: float) -> int:
    """Return the number of samples in `seconds`, rounded to the nearest."""
    return round(seconds * SAMPLE_RATE)
