"""Audio files in and out: any rate, channels and format that libsndfile reads becomes 16 kHz mono float32."""

import io
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.errors import AudioError
from envs.scenario import Audio

if TYPE_CHECKING:
    import soundfile

MAX_CLIP_S = 600.0  # a scene takes five of them; an hour would fill the memory
MAX_CLIP_BYTES = 256 << 20  # of decoded float32, over all channels
_BLOCK_VALUES = 1 << 18  # decoded at once, over all channels: 1 MiB, whatever rate and channels a header claims
_RATES = (1_000, 1_000_000)  # Hz; what lies outside is a forged header, and one block of it could fill the memory
_UNKNOWN_SIZE = 0x7FFFF000  # writers into a pipe leave this or more in a header, or 0
_UNKNOWN_FRAMES = 2**62
_LOUDEST = 2.0  # decoders and resamplers overshoot full scale, by less than these 6 dB; int16 passes it in any noise
_TO_FLOAT = {  # what an integer sample of libsndfile's, or of a sound card's, is scaled by
    "int8": "divide them by 128",
    "uint8": "subtract 128 and divide by 128",
    "int16": "divide them by 32768",
    "int32": "divide them by 2147483648",
}


def read_audio(path: Path, max_seconds: float = MAX_CLIP_S) -> Audio:
    """Read a whole file: float32 [samples] at 16 kHz, mono, in [-1, 1].

    Raises:
        AudioError: when the file is missing, no audio, empty, broken or has NaN, and before it is decoded when it is
            longer than `max_seconds` or larger than 256 MiB.
    """
    return _joined(_blocks(path, max_seconds, MAX_CLIP_BYTES))


def header_fault(path: Path) -> str:
    """Return why `read_audio` will refuse a file, as far as its header tells; blank: it may be read.

    Nothing is decoded: a tenth of a millisecond, where decoding takes milliseconds.
    """
    try:
        with _opened(path, MAX_CLIP_S, MAX_CLIP_BYTES):
            return ""
    except AudioError as error:
        return str(error)


def decode_audio(data: bytes, name: str) -> Audio:
    """Decode what an audio file holds, as `read_audio`; `name` is for messages.

    Raises:
        AudioError: as `read_audio`.
    """
    return _joined(_blocks(Path(name), MAX_CLIP_S, MAX_CLIP_BYTES, data))


def check_samples(samples: object, name: str, sample_rate: float = SAMPLE_RATE) -> Audio:
    """Return samples that came from outside as what everything here takes, or say what they are instead.

    Args:
        samples: Floats [n], mono, in [-1, 1], as an array or a list; what lies up to 6 dB beyond is clipped.
        name: Whose they are, for the message.
        sample_rate: Of the samples, in Hz.

    Returns:
        float32 [n] in [-1, 1]: the array itself where it is that already.

    Raises:
        AudioError: when they are of another rate, integers, no numbers, not mono, NaN, infinite or far beyond full
            scale; it says which, and what to do.
    """
    if sample_rate != SAMPLE_RATE:
        raise AudioError(
            f"{name}: the sample rate is {sample_rate!r} Hz, expected {SAMPLE_RATE}; resample with envs.audio.resample,"
            " or a stream that comes in pieces with soxr.ResampleStream"
        )
    try:
        array = np.asarray(samples)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of unequal lengths; tensors that are no arrays
        raise AudioError(f"{name}: {type(samples).__name__} is no array of samples, expected float32 [n]") from error
    if array.dtype.kind != "f":
        raise AudioError(f"{name}: {_not_floats(samples, array)}")
    if array.ndim != 1:
        mono = f"; average the channels: samples.mean(axis={int(np.argmin(array.shape))})" if array.ndim == 2 else ""
        raise AudioError(f"{name}: the samples have the shape {list(array.shape)}, expected [n], mono{mono}")
    if not len(array):
        return array.astype(np.float32)
    low, high = float(array.min()), float(array.max())  # NaN wherever there is one
    if not (low >= -_LOUDEST and high <= _LOUDEST):
        raise AudioError(f"{name}: {_not_audio(array)}")
    array = array.astype(np.float32, copy=False)
    return array if low >= -1.0 and high <= 1.0 else array.clip(-1.0, 1.0)


def _not_floats(samples: object, array: Audio) -> str:
    """Say what samples are that are no floats."""
    if array.dtype.kind in "iu":
        remedy = _TO_FLOAT.get(str(array.dtype), "divide them by the largest value that they can have")
        return f"the samples are {array.dtype}, expected float32 in [-1, 1]; {remedy}"
    kind = type(samples).__name__ if array.dtype.kind in "OUS" else array.dtype
    return f"the samples are {kind}, expected an array of float32 [n] in [-1, 1]"


def _not_audio(array: Audio) -> str:
    """Say which of the samples [n] is NaN or infinite, or how far they are beyond full scale."""
    bad = ~np.isfinite(array)
    if bad.any():
        index = int(bad.argmax())
        return f"sample {index} is {array[index]}, expected numbers in [-1, 1]; repair what it comes from"
    peak = float(np.abs(array).max())
    return f"the samples reach {peak:g}, expected [-1, 1]; 16-bit samples are to be divided by 32768"


def resample(samples: Audio, rate: int, name: str) -> Audio:
    """Bring decoded samples to 16 kHz, with the checks of `read_audio`.

    Args:
        samples: float [n], mono, in [-1, 1].
        rate: Of the samples, in Hz.
        name: For messages.

    Raises:
        AudioError: when they are not mono, empty, longer than 600 s, not finite, or of an impossible rate.
    """
    import soxr  # noqa: PLC0415 - `import envs` stays light

    if samples.ndim != 1 or len(samples) == 0:
        raise AudioError(f"{name}: its samples are of shape {list(samples.shape)}, expected [n] with n > 0")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(f"{name}: its rate is {rate} Hz, expected {_RATES[0]} to {_RATES[1]}")
    if len(samples) / rate > MAX_CLIP_S:
        raise AudioError(f"{name}: has {len(samples) / rate:.0f} s, at most {MAX_CLIP_S:.0f} s are read")
    _refuse_nan(samples[:, None], 0, rate, name)
    audio = np.clip(samples, -1.0, 1.0).astype(np.float32)
    return audio if rate == SAMPLE_RATE else np.clip(soxr.resample(audio, rate, SAMPLE_RATE), -1.0, 1.0)


def _joined(blocks: Iterator[Audio]) -> Audio:
    joined = list(blocks)
    return np.concatenate(joined) if joined else np.zeros(0, np.float32)


def stream_chunks(path: Path) -> Iterator[Audio]:
    """Yield a file's chunks, float32 [6400] each, the last padded with zeros; memory is flat at any length.

    Raises:
        AudioError: as `read_audio`, without a limit on length and size; raised where the fault is reached.
    """
    pending = np.zeros(0, np.float32)
    for block in _blocks(path, math.inf, math.inf):
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
        said = str(error).replace(str(aside), str(path))
        raise AudioError(f"{path}: cannot be written: {said}") from error
    finally:
        aside.unlink(missing_ok=True)


def _blocks(path: Path, max_seconds: float, max_bytes: float, data: bytes | None = None) -> Iterator[Audio]:
    """Decode, check, mix down and resample a file, or what one holds, block by block."""
    import soxr  # noqa: PLC0415 - `import envs` stays light

    with _opened(path, max_seconds, max_bytes, data) as file:
        resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32")
        heard, given = 0, 0
        for mono in _mono_blocks(path, file):
            heard += len(mono)
            too_large = _too_large(heard, file, max_seconds, max_bytes)
            if too_large:
                raise AudioError(f"{path}: decodes to {too_large}, which its header hid")
            out = resampler.resample_chunk(mono) if file.samplerate != SAMPLE_RATE else mono
            given += len(out)
            yield np.clip(out, -1.0, 1.0)
        if heard < file.frames:
            raise AudioError(f"{path}: truncated, {heard} of {file.frames} frames can be decoded")
        if file.samplerate != SAMPLE_RATE:
            out = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            given += len(out)
            yield np.clip(out, -1.0, 1.0)
        if given == 0:
            raise AudioError(f"{path}: the file holds no samples")


@contextmanager
def _opened(
    path: Path, max_seconds: float, max_bytes: float, data: bytes | None = None
) -> "Iterator[soundfile.SoundFile]":
    """Open a file, or what one holds, whose header passes; what goes wrong inside is an AudioError too."""
    import soundfile as sf  # noqa: PLC0415 - `import envs` stays light

    try:
        if data is None and not path.is_file():
            raise AudioError(f"{path}: no such audio file")
        if path.suffix.lower() == ".raw":
            raise AudioError(f"{path}: raw samples without a header; convert it to WAV or FLAC")
        with path.open("rb") if data is None else io.BytesIO(data) as raw:
            _refuse_cut(path, raw)
        with sf.SoundFile(path if data is None else io.BytesIO(data)) as file:
            _check_header(path, file, max_seconds, max_bytes)
            yield file
    except sf.LibsndfileError as error:
        raise AudioError(f"{path}: not audio that can be decoded: {error.error_string}") from error
    except OSError as error:  # its permissions, or the disk's
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from error


def _check_header(path: Path, file: "soundfile.SoundFile", max_seconds: float, max_bytes: float) -> None:
    """Refuse what a header cannot truly mean, before anything is decoded."""
    if not _RATES[0] <= file.samplerate <= _RATES[1]:
        raise AudioError(
            f"{path}: its header announces {file.samplerate} Hz, expected {_RATES[0]} to {_RATES[1]}; repair the file"
        )
    if file.frames >= _UNKNOWN_FRAMES:
        raise AudioError(f"{path}: its header does not say how long it is; convert it once more, into a file")
    if file.frames == 0:
        raise AudioError(f"{path}: the file holds no samples")
    too_large = _too_large(file.frames, file, max_seconds, max_bytes)
    if too_large:
        raise AudioError(f"{path}: its header announces {too_large}; cut it into shorter files")


def _too_large(frames: int, file: "soundfile.SoundFile", max_seconds: float, max_bytes: float) -> str:
    """Return the size of so many frames and the limit that they pass; blank where they pass none."""
    seconds, size = frames / file.samplerate, 4 * frames * file.channels
    if seconds > max_seconds:
        return f"{seconds:.0f} s, at most {max_seconds:.0f} s are read"
    if size > max_bytes:
        return (
            f"{size / 2**20:.0f} MiB of samples ({file.channels} channels at {file.samplerate} Hz),"
            f" at most {max_bytes / 2**20:.0f} MiB are read"
        )
    return ""


def _mono_blocks(path: Path, file: "soundfile.SoundFile") -> Iterator[Audio]:
    """Yield mono blocks at the file's own rate; NaN and infinity are errors that name their second."""
    position = 0
    while True:
        block = file.read(max(_BLOCK_VALUES // file.channels, 1), dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        _refuse_nan(block, position, file.samplerate, str(path))
        position += len(block)
        yield np.clip(block, -1.0, 1.0).mean(axis=1)  # before the mean and the resampler, which could overflow


def _refuse_nan(block: Audio, position: int, rate: int, name: str) -> None:
    """Raise for the first frame of a block, [n, channels] from frame `position` on, that is not finite."""
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        second = (position + int(bad.argmax())) / rate
        raise AudioError(f"{name}: a sample at {second:.3f} s is NaN or infinite; repair or remove the file")


def _refuse_cut(path: Path, file: BinaryIO) -> None:
    """Raise when a file ends before its header says that its audio does: libsndfile would quietly shorten it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    end = _announced_end(file, size)
    if end is not None and end > size:
        raise AudioError(f"{path}: truncated, the header announces {end} bytes and {size} are there")


def _announced_end(file: BinaryIO, size: int) -> int | None:
    """Return the byte at which the audio ends by the header; None where the container does not say or is another."""
    head = file.read(40).ljust(40, b"\0")
    match head[:4]:
        case b"RIFF":
            return _end_of_chunk(file, size, "<4sI", b"data")
        case b"FORM":
            return _end_of_chunk(file, size, ">4sI", b"SSND")
        case b"RF64":  # the 32-bit length of its data chunk is a dummy, the true one stands in the first chunk, `ds64`
            return _end_of_chunk(file, size, "<4sI", b"data", struct.unpack_from("<Q", head, 28)[0])
        case b"riff":  # Sony Wave64: the length of the whole file
            return int(struct.unpack_from("<Q", head, 16)[0])
        case b".snd":
            offset, length = struct.unpack_from(">II", head, 4)
            return None if length >= _UNKNOWN_SIZE else int(offset + length)
        case _:
            return None


def _end_of_chunk(file: BinaryIO, size: int, form: str, wanted: bytes, true_length: int | None = None) -> int | None:
    """Walk over the chunks of a RIFF or IFF file to one of them; return the byte at which it ends."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(form, file.read(8))
        if name == wanted:
            if true_length is None and (length == 0 or length >= _UNKNOWN_SIZE):
                return None
            return position + 8 + (length if true_length is None else true_length)
        position += 8 + length + length % 2
    return None
