"""Streaming features equal offline features, and say what the reference implementation says."""

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from policies.features import ChunkFeatures, FeatureStream, LogMel, WhisperLogMel, chunk_windows
from tests.policies.exactness import check_streaming_is_offline

LATE = 40  # samples by which Whisper's frames, centred, end later than ours


def swelling(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that gets louder, so that a running maximum has something to run after."""
    n = round(seconds * 16_000)
    return (np.random.default_rng(seed).standard_normal(n) * np.geomspace(1e-4, 0.3, n)).astype(np.float32)


every_kind = pytest.mark.parametrize(
    "features",
    [LogMel(), WhisperLogMel("fixed"), WhisperLogMel("running")],
    ids=["compact", "whisper, fixed", "whisper, running"],
)


@every_kind
@pytest.mark.parametrize("chunk_s", [0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("piece", [777, 20_000])
def test_streaming_features_equal_offline_features(features: ChunkFeatures, chunk_s: float, piece: int) -> None:
    check_streaming_is_offline(features, swelling(4.8), round(chunk_s * 16_000), piece)


@every_kind
def test_chunks_of_any_size_have_the_same_frames(features: ChunkFeatures) -> None:
    """The frames of short chunks, end to end, are those of the whole stream as a single chunk."""
    audio = torch.from_numpy(swelling(4.8))
    if isinstance(features, WhisperLogMel) and features.normalisation == "running":
        audio = audio.flip(0)  # the loudest comes first: from there on the running maximum is the clip's
    whole = features.whole(audio, len(audio))[0, features.context_frames :]
    for size in (3200, 6400, 9600, 12_800):
        own = features.whole(audio, size)[:, features.context_frames :].flatten(0, 1)
        torch.testing.assert_close(own, whole, atol=1e-5, rtol=0)


@every_kind
def test_no_chunk_looks_ahead(features: ChunkFeatures) -> None:
    audio = torch.from_numpy(swelling(2.0))
    other = torch.cat((audio[: 3 * 6400], torch.ones(2 * 6400)))
    assert torch.equal(features.whole(audio)[:3], features.whole(other)[:3])


def test_streams_in_a_batch_have_their_own_maximum() -> None:
    features, loud = WhisperLogMel("running"), torch.from_numpy(swelling(2.0))
    quiet = 1e-3 * loud
    rows = torch.stack([chunk_windows(audio, features.context_samples) for audio in (loud, quiet)], dim=1).flatten(0, 1)
    streams = [FeatureStream(features.context_samples) for _ in range(2)]
    both = features(rows, streams * 5)
    torch.testing.assert_close(both[0::2], features.whole(loud), atol=1e-5, rtol=0)
    torch.testing.assert_close(both[1::2], features.whole(quiet), atol=1e-5, rtol=0)


@pytest.mark.parametrize("loudest_first", [True, False])
def test_whisper_features_are_those_of_whisper(loudest_first: bool) -> None:
    """Frames are its frames of the sound 2.5 ms late; the maximum is its own from the loudest chunk on."""
    audio = swelling(4.0)
    if loudest_first:
        audio = audio[::-1].copy()
    late = np.concatenate((np.zeros(LATE, np.float32), audio))
    reference = WhisperFeatureExtractor(feature_size=128, n_fft=400, hop_length=160)
    theirs = reference(late, sampling_rate=16_000, padding="longest", return_tensors="pt").input_features[0].T[:400]
    ours = WhisperLogMel("running").whole(torch.from_numpy(audio)).flatten(0, 1)
    known = slice(2, None) if loudest_first else slice(-40, None)  # Whisper mirrors the sound before its beginning
    torch.testing.assert_close(ours[known], theirs[known], atol=1e-4, rtol=0)
    assert (ours[2:] <= theirs[2:] + 1e-4).all()  # a lower floor before: nothing is cut that Whisper keeps
