"""Audio files in and out: any rate, channels and format that libsndfile reads becomes 16 kHz mono float32."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.errors import AudioError
from envs.scenario import Audio

if TYPE_CHECKING:
    import soundfile

MAX_CLIP_S = 3600.0
_BLOCK_VALUES = 1 << 18  # decoded at once, over all channels: 1 MiB, whatever rate and channels a header claims
_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFFFFF)  # what writers into a pipe leave in a WAV header


def read_audio(path: Path, max_seconds: float = MAX_CLIP_S) -> Audio:
    """Read a whole file: float32 [samples] at 16 kHz, mono, in [-1, 1].

    Raises:
        AudioError: when the file is missing, no audio, empty, broken, longer than `max_seconds`, or has NaN.
    """
    blocks = list(_blocks(path, max_seconds))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def stream_chunks(path: Path) -> Iterator[Audio]:
    """Yield a file's chunks, float32 [6400] each, the last padded with zeros; memory is flat at any length.

    Raises:
        AudioError: as `read_audio`, without a limit on the length; raised where the fault is reached.
    """
    pending = np.zeros(0, np.float32)
    for block in _blocks(path, float("inf")):
        pending = np.concatenate((pending, block))
        while len(pending) >= CHUNK_SAMPLES:
            yield pending[:CHUNK_SAMPLES]
            pending = pending[CHUNK_SAMPLES:]
    if len(pending):
        yield np.pad(pending, (0, CHUNK_SAMPLES - len(pending)))


def write_wav(path: Path, audio: Audio) -> None:
    """Write 16-bit PCM at 16 kHz; the file appears under its name only when it is whole.

    Args:
        path: The file to write.
        audio: float32 [samples] in [-1, 1].

    Raises:
        AudioError: when the file cannot be written.
    """
    import soundfile as sf  # noqa: PLC0415 - `import envs` stays light

    aside = path.with_name(path.name + ".part")
    try:
        sf.write(aside, audio, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        aside.replace(path)
    except (sf.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)


def _blocks(path: Path, max_seconds: float) -> Iterator[Audio]:
    """Decode, check, mix down and resample a file block by block."""
    import soundfile as sf  # noqa: PLC0415 - `import envs` stays light
    import soxr  # noqa: PLC0415

    if not path.is_file():
        raise AudioError(f"{path}: no such audio file")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples without a header; convert it to WAV or FLAC")
    _refuse_cut_wav(path)
    try:
        with sf.SoundFile(path) as file:
            if file.frames / file.samplerate > max_seconds:
                announced = file.frames / file.samplerate
                raise AudioError(
                    f"{path}: its header announces {announced:.0f} s, at most {max_seconds:.0f} s are read"
                )
            resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32")
            heard = 0
            for mono in _mono_blocks(path, file):
                heard += len(mono)
                if heard / file.samplerate > max_seconds:
                    raise AudioError(f"{path}: decodes to more than {max_seconds:.0f} s, which its header hid")
                out = resampler.resample_chunk(mono) if file.samplerate != SAMPLE_RATE else mono
                yield np.clip(out, -1.0, 1.0)
            if heard == 0:
                raise AudioError(f"{path}: the file holds no samples")
            if file.frames < 2**62 and heard < file.frames:
                raise AudioError(f"{path}: truncated, {heard} of {file.frames} frames can be decoded")
            if file.samplerate != SAMPLE_RATE:
                yield np.clip(resampler.resample_chunk(np.zeros(0, np.float32), last=True), -1.0, 1.0)
    except sf.LibsndfileError as error:
        raise AudioError(f"{path}: not audio that can be decoded: {error.error_string}") from error


def _mono_blocks(path: Path, file: "soundfile.SoundFile") -> Iterator[Audio]:
    """Yield mono blocks at the file's own rate; NaN and infinity are errors that name their second."""
    position = 0
    while True:
        block = file.read(max(_BLOCK_VALUES // file.channels, 1), dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            second = (position + int(bad.argmax())) / file.samplerate
            raise AudioError(f"{path}: a sample at {second:.3f} s is NaN or infinite; repair or remove the file")
        position += len(block)
        yield block.mean(axis=1)


def _refuse_cut_wav(path: Path) -> None:
    """Raise when a WAV file ends before its data chunk does: libsndfile would quietly shorten it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return
        position = 12
        while position + 8 <= size:
            file.seek(position)
            name, length = struct.unpack("<4sI", file.read(8))
            if name == b"data":
                if length not in _UNKNOWN_SIZES and position + 8 + length > size:
                    raise AudioError(f"{path}: truncated, {size - position - 8} of {length} bytes of audio are there")
                return
            position += 8 + length + length % 2
