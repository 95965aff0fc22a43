"""A reply that is heard: espeak-ng speaks it sentence by sentence, and it is sent little faster than it is heard."""

import base64
import re
import time
from collections import deque
from collections.abc import Iterator
from functools import partial

import numpy as np

from envs.clock import SAMPLE_RATE
from envs.errors import SpeechError
from envs.speech.espeak import synthesise
from envs.speech.utterance import Voice
from policies.server.resampling import PROTOCOL_RATE
from policies.server.response import Outlet, Response, Status
from policies.server.telemetry import log
from policies.server.workers import Helpers

ENGLISH, CHINESE = Voice(), Voice("cmn")
_SENTENCE_END = re.compile("(?<=[.!?])(?=\\s)|(?<=[\u3002\uff01\uff1f])")
_HAN = re.compile("[\u4e00-\u9fff]")
_PIECE_BYTES = 2 * PROTOCOL_RATE // 10  # 100 ms


class SpokenResponse(Response):
    """A reply as sound, with its text as the transcript.

    Args:
        outlet: Of the session.
        max_output_tokens: Of its session.
        metadata: Of the client, echoed.
        helpers: Speak it, and remind of what is still to send.
        lead_s: How much may be sent before it is heard: what a client has still to drop when the reply is cancelled.
    """

    modality = "audio"

    def __init__(
        self,
        outlet: Outlet,
        max_output_tokens: int | str,
        metadata: dict[str, str] | None,
        helpers: Helpers,
        lead_s: float,
    ) -> None:
        super().__init__(outlet, max_output_tokens, metadata)
        self._helpers, self._lead_s = helpers, lead_s
        self._unspoken = ""  # no whole sentence yet
        self._being_made = 0  # sentences
        self._pieces = deque[tuple[str, bytes]]()  # to send: what of the transcript begins with it, PCM16
        self._transcript = ""  # that was sent
        self._heard_at = 0.0  # when the client will have heard all that it was sent, by the monotonic clock
        self._waits = False  # for that, to send more
        self._over = False

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Say that it is over, and why; nothing more is sent of it."""
        self._over = True
        super().finish(status, reason)

    def _say(self, delta: str) -> None:
        self._unspoken += delta
        *sentences, self._unspoken = _SENTENCE_END.split(self._unspoken)
        if self.written:
            sentences.append(self._unspoken)
        for sentence in filter(None, sentences):
            self._being_made += 1
            self._helpers.speak(partial(_speak, sentence), partial(self._take, sentence))
        self._go_on()

    def _take(self, sentence: str, sound: bytes | SpeechError) -> None:
        """Take what a sentence sounds like, or why it cannot be said."""
        if self._over:
            return
        self._being_made -= 1
        if isinstance(sound, SpeechError):
            log("speech failed", response=self.id, error=type(sound).__name__)
            self._out.failed(self, "speech_failed")
            return
        for first in range(0, max(len(sound), 1), _PIECE_BYTES):
            self._pieces.append(("" if first else sentence, sound[first : first + _PIECE_BYTES]))
        self._go_on()

    def _go_on(self) -> None:
        """Send as much as may be sent by now."""
        while self._pieces and not self._waits:
            ahead = self._heard_at - time.monotonic()
            if ahead > self._lead_s:
                self._waits = True
                self._helpers.later(ahead - self._lead_s, self._wake)
            else:
                self._send_piece(*self._pieces.popleft())
        if self.written and not self._pieces and not self._being_made:
            self._out.completed(self)

    def _wake(self) -> None:
        self._waits = False
        if not self._over:
            self._go_on()

    def _send_piece(self, transcript: str, sound: bytes) -> None:
        if transcript:
            self._transcript += transcript
            self._send("output_audio_transcript.delta", self._content_place(), delta=transcript)
        if sound:
            seconds = len(sound) / 2 / PROTOCOL_RATE
            self._heard_at = max(self._heard_at, time.monotonic()) + seconds
            self._send("output_audio.delta", self._content_place(), delta=base64.b64encode(sound).decode())

    def _close_part(self) -> None:
        self._send("output_audio.done", self._content_place())
        self._send("output_audio_transcript.done", self._content_place(), transcript=self._transcript)

    def _part(self) -> dict[str, str]:
        return {"type": "audio", "transcript": self._transcript}


def _speak(sentence: str) -> bytes | SpeechError:
    """Return a sentence as PCM16 at 24 kHz; of one without letters and digits, nothing is heard."""
    words = "".join(_sayable(sentence)).strip()
    if not any(character.isalnum() for character in words):
        return b""
    try:
        utterance = synthesise(words, CHINESE if _HAN.search(words) else ENGLISH)
    except SpeechError as error:
        return error
    import soxr  # noqa: PLC0415 - only who speaks needs it

    audio = soxr.resample(utterance.audio, SAMPLE_RATE, PROTOCOL_RATE).clip(-1.0, 1.0)
    return (audio * np.float32(32767)).astype("<i2").tobytes()


def _sayable(sentence: str) -> Iterator[str]:
    """Yield its characters, with spaces for those that are no text: espeak-ng ends at the first zero byte."""
    yield from (character if character.isprintable() else " " for character in sentence)
