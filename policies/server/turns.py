"""Turns by loudness, for clients that want `server_vad`: when somebody begins to speak, and when they have stopped."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from envs.clock import SAMPLE_RATE
from envs.scenario import Audio

_FRAME = SAMPLE_RATE // 50  # 20 ms
_LOUD_FRAMES = 5  # in a row that make speech
_QUIETEST_DB, _LOUDEST_DB = -60.0, -20.0  # of full scale, RMS: what the thresholds 0 and 1 mean


@dataclass(frozen=True)
class ServerVAD:
    """The protocol's settings of `server_vad`.

    Attributes:
        threshold: From 0 to 1: a frame is loud from -60 to -20 dB of full scale on.
        prefix_padding_ms: Subtracted from where speech is said to have begun.
        silence_duration_ms: Of quiet that ends a turn.
        create_response: Reply to a turn that has ended.
        interrupt_response: Speech cuts the reply that is being said.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
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


class TurnDetector:
    """Finds turns in a stream that comes in pieces; what it finds does not depend on the pieces.

    Args:
        vad: The client's settings.
        first: The number of the first sample that it will hear.
    """

    def __init__(self, vad: ServerVAD, first: int) -> None:
        level_db = _QUIETEST_DB + (_LOUDEST_DB - _QUIETEST_DB) * vad.threshold
        self._power = 10 ** (level_db / 10)
        self._padding = round(vad.prefix_padding_ms / 1000 * SAMPLE_RATE)
        self._patience = math.ceil(vad.silence_duration_ms / 20)
        self._waiting = np.zeros(0, np.float32)
        self._first = self._at = first  # of the stream, of the next frame
        self._loud = self._quiet = 0  # frames in a row
        self._speaking = False

    def skip(self, samples: int) -> None:
        """Let so many samples pass that nobody sent."""
        self._at += samples

    def push(self, samples: Audio) -> Iterator[Boundary]:
        """Hear samples float32 [n] at 16 kHz; yield what has begun or ended in them."""
        heard = np.concatenate((self._waiting, samples))
        whole = len(heard) // _FRAME * _FRAME
        self._waiting = heard[whole:]
        for frame in heard[:whole].reshape(-1, _FRAME):
            self._at += _FRAME
            loud = float(np.square(frame, dtype=np.float64).mean()) >= self._power
            self._loud, self._quiet = (self._loud + 1, 0) if loud else (0, self._quiet + 1)
            if not self._speaking and self._loud >= _LOUD_FRAMES:
                self._speaking = True
                yield Boundary("started", max(self._at - _LOUD_FRAMES * _FRAME - self._padding, self._first))
            elif self._speaking and self._quiet >= self._patience:
                self._speaking = False
                yield Boundary("stopped", self._at)
