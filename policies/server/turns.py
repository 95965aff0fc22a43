"""Turns, for clients that want `server_vad`, and whoever talks over a spoken reply: when speech begins and ends."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from envs.clock import SAMPLE_RATE
from envs.scenario import Audio
from policies.silero import FRAME, SileroVAD

VADKind = Literal["energy", "silero"]
_QUIETEST_DB, _LOUDEST_DB = -60.0, -20.0  # of full scale, RMS: what the thresholds 0 and 1 of loudness mean
_LEAST_SPEECH_MS = 90  # in a row, that makes speech


@dataclass(frozen=True)
class ServerVAD:
    """The protocol's settings of `server_vad`.

    Attributes:
        threshold: From 0 to 1: a frame is speech from this probability on, or is loud from -60 to -20 dB on.
        prefix_padding_ms: Subtracted from where speech is said to have begun.
        silence_duration_ms: Without speech that ends a turn.
        create_response: Reply to a turn that has ended.
        interrupt_response: Speech cuts the reply that is being said.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    create_response: bool = True
    interrupt_response: bool = True


@dataclass(frozen=True)
class SemanticVAD:
    """The protocol's settings of `semantic_vad`: the model decides when to speak.

    Attributes:
        create_response: It does; else only who asks gets a reply.
        interrupt_response: A voice cuts the reply that is being said.
    """

    create_response: bool = True
    interrupt_response: bool = True


@dataclass(frozen=True)
class Boundary:
    """Speech began or ended.

    Attributes:
        kind: Which.
        at: Sample of the stream.
    """

    kind: Literal["started", "stopped"]
    at: int


class Judge(Protocol):
    """Tells of frames of one stream, one after another, whether they are speech."""

    frame: int  # samples that it takes at once

    def __call__(self, frame: Audio) -> bool:
        """Judge a frame: float32 [frame] at 16 kHz in [-1, 1]."""


class Loudness:
    """Takes what is loud for speech.

    Args:
        threshold: From 0 to 1.
    """

    frame = SAMPLE_RATE // 50  # 20 ms

    def __init__(self, threshold: float) -> None:
        self._power = 10 ** ((_QUIETEST_DB + (_LOUDEST_DB - _QUIETEST_DB) * threshold) / 10)

    def __call__(self, frame: Audio) -> bool:
        """Judge a frame."""
        return float(np.square(frame, dtype=np.float64).mean()) >= self._power


class Voice:
    """Takes for speech what Silero VAD does.

    Args:
        threshold: Of its probability.

    Raises:
        PolicyError: when silero-vad is not installed.
    """

    frame = FRAME

    def __init__(self, threshold: float) -> None:
        self._threshold, self._detector, self._slot = threshold, SileroVAD(1), np.zeros(1, np.intp)

    def __call__(self, frame: Audio) -> bool:
        """Judge a frame."""
        return bool(self._detector.probabilities(frame[None], self._slot)[0] >= self._threshold)


class TurnDetector:
    """Finds turns in a stream that comes in pieces; what it finds does not depend on the pieces.

    Args:
        vad: The client's settings.
        first: The number of the first sample that it will hear.
        kind: How it tells speech.

    Raises:
        PolicyError: when silero-vad is wanted, and is not installed.
    """

    def __init__(self, vad: ServerVAD, first: int, kind: VADKind = "energy") -> None:
        self._judge: Judge = Loudness(vad.threshold) if kind == "energy" else Voice(vad.threshold)
        size = self._judge.frame
        self._least = math.ceil(_LEAST_SPEECH_MS * SAMPLE_RATE / (1000 * size))  # frames in a row
        self._padding = round(vad.prefix_padding_ms / 1000 * SAMPLE_RATE)
        self._patience = math.ceil(vad.silence_duration_ms * SAMPLE_RATE / (1000 * size))
        self._waiting = np.zeros(0, np.float32)
        self._first = self._at = first  # of the stream, of the next frame
        self._speech = self._quiet = 0  # frames in a row
        self._speaking = False

    def skip(self, samples: int) -> list[Boundary]:
        """Let so many samples pass that nobody sent; nothing begins or ends in them."""
        self._at += samples
        return []

    def push(self, samples: Audio) -> Iterator[Boundary]:
        """Hear samples float32 [n] at 16 kHz; yield what has begun or ended in them."""
        heard, size = np.concatenate((self._waiting, samples)), self._judge.frame
        whole = len(heard) // size * size
        self._waiting = heard[whole:]
        for frame in heard[:whole].reshape(-1, size):
            self._at += size
            self._speech, self._quiet = (self._speech + 1, 0) if self._judge(frame) else (0, self._quiet + 1)
            if not self._speaking and self._speech >= self._least:
                self._speaking = True
                yield Boundary("started", max(self._at - self._least * size - self._padding, self._first))
            elif self._speaking and self._quiet >= self._patience:
                self._speaking = False
                yield Boundary("stopped", self._at)
