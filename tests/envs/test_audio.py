"""Any file becomes 16 kHz mono; what cannot be used is named, in whole files and in streams alike."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from envs.audio import check_samples, read_audio, stream_chunks, write_wav
from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.errors import AudioError


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channels_become_16_khz_mono(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.repeat(tone(1.3, rate)[:, None], channels, axis=1), rate, subtype="FLOAT")
    audio = read_audio(path)
    assert audio.dtype == np.float32
    assert abs(len(audio) - 1.3 * SAMPLE_RATE) <= 2
    expected = tone(1.3, SAMPLE_RATE)
    middle = slice(2_000, 18_000)
    assert np.abs(audio[middle] - expected[middle]).max() < 0.01


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_formats(tmp_path: Path, name: str) -> None:
    sf.write(tmp_path / name, tone(1.0, 44_100), 44_100)
    assert abs(len(read_audio(tmp_path / name)) - SAMPLE_RATE) < 0.1 * SAMPLE_RATE


@pytest.mark.parametrize(("rate", "seconds"), [(16_000, 10.03), (44_100, 21.7), (8_000, 0.1)])
def test_stream_equals_whole_file(tmp_path: Path, rate: int, seconds: float) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.stack([tone(seconds, rate), tone(seconds, rate, 900)], axis=1), rate)
    chunks = list(stream_chunks(path))
    assert all(len(chunk) == CHUNK_SAMPLES and chunk.dtype == np.float32 for chunk in chunks)
    whole = read_audio(path)
    joined = np.concatenate(chunks)
    assert len(chunks) == -(-len(whole) // CHUNK_SAMPLES)
    np.testing.assert_array_equal(joined[: len(whole)], whole)
    assert not joined[len(whole) :].any()


@pytest.mark.parametrize("rate", [1, 100, 100_000_000])
def test_a_forged_rate_is_refused(tmp_path: Path, rate: int) -> None:
    sf.write(tmp_path / "forged.wav", np.zeros(2_000), 16_000)
    raw = bytearray((tmp_path / "forged.wav").read_bytes())
    raw[24:28] = struct.pack("<I", rate)
    (tmp_path / "forged.wav").write_bytes(bytes(raw))
    with pytest.raises(AudioError, match=rf"forged\.wav.*{rate} Hz"):
        list(stream_chunks(tmp_path / "forged.wav"))


def test_a_flac_without_a_length_is_refused_with_the_reason(tmp_path: Path) -> None:
    sf.write(tmp_path / "pipe.flac", tone(1.0, 16_000), 16_000)
    raw = bytearray((tmp_path / "pipe.flac").read_bytes())
    raw[21] &= 0xF0  # the 36 bits of STREAMINFO's number of samples
    raw[22:26] = bytes(4)
    (tmp_path / "pipe.flac").write_bytes(bytes(raw))
    with pytest.raises(AudioError, match="does not say how long"):
        read_audio(tmp_path / "pipe.flac")


def test_huge_samples_stay_finite(tmp_path: Path) -> None:
    """The resampler and the mean over channels would make infinity and NaN of them."""
    loud = np.where(np.arange(8_000) % 2, 3e38, -3e38).astype(np.float32)
    sf.write(tmp_path / "a.wav", np.stack([loud, loud], axis=1), 44_100, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav")
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() <= 1.0


def test_overloud_samples_are_clipped(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", 5 * tone(0.5, 16_000), 16_000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav")).max() == 1.0


def test_nan_is_named_with_its_second(tmp_path: Path) -> None:
    audio = tone(40, 16_000)
    audio[round(33.25 * 16_000)] = np.nan
    sf.write(tmp_path / "bad.wav", audio, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"bad\.wav.*33\.250 s"):
        read_audio(tmp_path / "bad.wav")
    with pytest.raises(AudioError, match=r"bad\.wav.*33\.250 s"):
        list(stream_chunks(tmp_path / "bad.wav"))


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no audio")
    (tmp_path / "nothing.wav").write_bytes(b"")
    (tmp_path / "bare.raw").write_bytes(bytes(100))
    sf.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    for name, message in [
        ("gone.wav", "no such audio file"),
        (".", "no such audio file"),
        ("text.wav", "not audio"),
        ("nothing.wav", "not audio"),
        ("bare.raw", "without a header"),
        ("empty.wav", "no samples"),
    ]:
        with pytest.raises(AudioError, match=message):
            read_audio(tmp_path / name)


CONTAINERS = {"a.wav": "WAV", "a.flac": "FLAC", "a.aiff": "AIFF", "a.au": "AU", "a.w64": "W64", "a.rf64": "RF64"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_truncated_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sf.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 160_000), 16_000, format=CONTAINERS[name])
    assert len(read_audio(path)) == 160_000
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(AudioError, match=name):
        read_audio(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000])
def test_wav_from_a_pipe_has_no_size_and_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "pipe.wav"
    sf.write(path, tone(1.0, 16_000), 16_000, subtype="PCM_16")
    raw = bytearray(path.read_bytes())
    place = raw.index(b"data") + 4
    raw[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(bytes(raw))
    assert len(read_audio(path)) == SAMPLE_RATE


def test_length_is_capped(tmp_path: Path) -> None:
    sf.write(tmp_path / "long.flac", np.zeros(16_000 * 30, np.int16), 16_000)
    with pytest.raises(AudioError, match=r"long\.flac.*at most 10 s"):
        read_audio(tmp_path / "long.flac", max_seconds=10)
    assert len(list(stream_chunks(tmp_path / "long.flac"))) == 75


def test_what_is_too_long_or_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """Each begins with NaN, which decoding would name first."""
    path = tmp_path / "long.wav"
    sf.write(path, np.full(601_000, np.nan, np.float32), 1_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"long\.wav: its header announces 601 s, at most 600 s are read"):
        read_audio(path)
    path = tmp_path / "wide.wav"
    sf.write(path, np.full((16, 1_000), np.nan, np.float32), 16_000, subtype="FLOAT")
    raw = bytearray(path.read_bytes())
    place, size = raw.index(b"data") + 4, 257 << 20
    raw[place : place + 4] = struct.pack("<I", size)
    raw[4:8] = struct.pack("<I", place + 4 + size - 8)
    path.write_bytes(bytes(raw))
    os.truncate(path, place + 4 + size)  # a hole: nothing is written
    message = r"wide\.wav: its header announces 257 MiB of samples \(1000 channels at 16000 Hz\), at most 256 MiB"
    with pytest.raises(AudioError, match=message):
        read_audio(path)
    for name in ("long.wav", "wide.wav"):
        with pytest.raises(AudioError, match=r"a sample at 0\.000 s is NaN"):
            next(stream_chunks(tmp_path / name))


def test_write_wav_leaves_nothing_half_written(tmp_path: Path) -> None:
    audio = tone(0.5, 16_000)
    write_wav(tmp_path / "a.wav", audio)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), audio, atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    with pytest.raises(AudioError, match="cannot be written") as error:
        write_wav(tmp_path / "no" / "folder.wav", audio)
    assert ".part" not in str(error.value)


REFUSED = {
    "the samples are int16, expected float32 in [-1, 1]; divide them by 32768": np.zeros(8, np.int16),
    "the samples are uint8, expected float32 in [-1, 1]; subtract 128": np.zeros(8, np.uint8),
    "the samples are int64, expected float32 in [-1, 1]; divide them by the largest value": [0, 1, 2],
    "the samples reach 32767, expected [-1, 1]; 16-bit samples are to be divided by 32768": np.float32([0.0, -32767.0]),
    "the samples reach 2.5": np.float64([0.0, 2.5]),
    "sample 2 is nan, expected numbers in [-1, 1]": [0.5, 0.5, float("nan")],
    "sample 0 is -inf": np.float32([-np.inf, 3.0]),
    "the shape [6400, 2], expected [n], mono; average the channels: samples.mean(axis=1)": np.zeros((6400, 2)),
    "the shape [2, 6400], expected [n], mono; average the channels: samples.mean(axis=0)": np.zeros((2, 6400)),
    "the shape [], expected [n], mono": 0.5,
    "the samples are str, expected an array": "silence",
    "the samples are bytes, expected an array": b"\0\0",
    "the samples are NoneType, expected an array": None,
    "the samples are dict, expected an array": {"audio": [0.0]},
    "the samples are bool, expected an array": np.zeros(8, bool),
    "list is no array of samples": [[0.0], [0.0, 0.5]],
}


@pytest.mark.parametrize("message", REFUSED)
def test_samples_that_are_none_are_refused_with_what_they_are(message: str) -> None:
    with pytest.raises(AudioError) as error:
        check_samples(REFUSED[message], "microphone 3")
    assert str(error.value).startswith("microphone 3: ")
    assert message in str(error.value)


def test_samples_of_another_rate_are_refused_with_the_remedy() -> None:
    for rate in (44_100, 8_000.0, 0):
        with pytest.raises(AudioError, match=rf"mic: the sample rate is {rate} Hz, expected 16000; resample with"):
            check_samples(np.zeros(8, np.float32), "mic", rate)


def test_good_samples_come_back_as_they_are_and_overshoot_is_clipped() -> None:
    samples = np.linspace(-1, 1, 9, dtype=np.float32)
    assert check_samples(samples, "mic") is samples
    for form in (samples.tolist(), samples.astype(np.float64), samples[::1]):
        checked = check_samples(form, "mic", 16_000)
        assert checked.dtype == np.float32
        np.testing.assert_array_equal(checked, samples)
    assert check_samples([], "mic").shape == (0,)
    loud = np.float32([1.2, -1.9, 0.5])  # as a resampler leaves the edges of a clipped recording
    np.testing.assert_array_equal(check_samples(loud, "mic"), np.float32([1.0, -1.0, 0.5]))
    assert loud[0] == np.float32(1.2), "the caller's array stays as it was"


def test_a_resampled_square_wave_at_full_scale_is_taken() -> None:
    """The overshoot that the limit allows for is real, and well within it."""
    square = np.sign(np.sin(np.arange(44_100) * 2 * np.pi * 1000 / 44_100)).astype(np.float32)
    resampled = soxr.resample(square, 44_100, 16_000)
    assert 1.05 < np.abs(resampled).max() < 1.5
    assert np.abs(check_samples(resampled, "mic")).max() == 1.0
