"""Where live audio comes from: a file at the pace of a clock, raw samples on standard input, a microphone."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import numpy as np

from envs.clock import CHUNK_S, CHUNK_SAMPLES, SAMPLE_RATE
from envs.errors import AudioError
from envs.scenario import Audio

_BYTES = 2  # of a sample
_HEADERS = (b"RIFF", b"fLaC", b"OggS", b"caff", b"FORM")


def paced(
    chunks: Iterable[Audio],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Audio]:
    """Yield chunks when their last samples would have been heard; one that is asked for late comes at once."""
    start = now()
    for i, chunk in enumerate(chunks, start=1):
        sleep(max(start + i * CHUNK_S - now(), 0.0))
        yield chunk


def raw_samples(stream: BinaryIO, name: str = "standard input") -> Iterator[Audio]:
    """Yield chunks of raw signed 16-bit little-endian mono samples at 16 kHz; the last is padded with zeros.

    Raises:
        AudioError: when they are a file with a header, or end in the middle of a sample: what came before has been
            yielded then.
    """
    first = True
    while data := stream.read(CHUNK_SAMPLES * _BYTES):
        if first and data[:4] in _HEADERS:
            raise AudioError(f"{name}: begins with {data[:4]!r}, a file's header; give the file itself, or raw samples")
        first = False
        whole = len(data) // _BYTES * _BYTES
        samples = np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768
        if len(samples):
            yield np.pad(samples, (0, CHUNK_SAMPLES - len(samples)))
        if whole < len(data):
            raise AudioError(
                f"{name}: ends in the middle of a sample; expected signed 16-bit little-endian mono samples at"
                f" {SAMPLE_RATE} Hz, without a header"
            )


def microphone() -> Iterator[Audio]:
    """Yield chunks from the default microphone as they are heard, for ever.

    Raises:
        AudioError: when sounddevice or PortAudio is not there, or there is no microphone.
    """
    try:
        import sounddevice  # noqa: PLC0415 - optional; OSError where PortAudio is missing
    except (ImportError, OSError) as error:
        raise AudioError(
            "the microphone needs sounddevice: install soundflow[microphone], and PortAudio (libportaudio2 on Debian)"
        ) from error
    try:
        with sounddevice.InputStream(SAMPLE_RATE, CHUNK_SAMPLES, channels=1, dtype="float32") as stream:
            while True:
                samples, lost = stream.read(CHUNK_SAMPLES)
                if lost:
                    print(
                        "soundflow: the microphone lost samples; what follows is later than its time", file=sys.stderr
                    )
                yield samples[:, 0]
    except sounddevice.PortAudioError as error:
        raise AudioError(f"the microphone cannot be used: {error}") from error
