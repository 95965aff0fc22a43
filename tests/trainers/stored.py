"""Samples in files, as stages want them."""

from collections.abc import Iterable
from pathlib import Path

from trainers.sample_store import SampleWriter, StoredSamples
from trainers.samples import StreamSample


def store(samples: Iterable[StreamSample], folder: Path) -> StoredSamples:
    """Write samples into a folder, and return them as they are read from there."""
    with SampleWriter(folder) as writer:
        for sample in samples:
            writer.add(sample)
    return StoredSamples(folder)
