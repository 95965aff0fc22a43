"""Speech from text by espeak-ng (extra `speech`): the same words, the same samples, in any process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from envs.clock import SAMPLE_RATE
from envs.errors import SpeechError
from envs.scenario import Audio
from envs.speech import espeak_worker
from envs.speech.espeak_worker import HEADER, NOT_INSTALLED
from envs.speech.phrases import draw_phrase
from envs.speech.utterance import Language, Utterance, Voice, Word

_WORKER = Path(espeak_worker.__file__)
_NAMES: dict[Language, tuple[str, ...]] = {
    "en": ("en", "en-us", "en-us-nyc", "en-gb-scotland", "en-gb-x-rp", "en-029"),
    "zh": ("cmn",),
}
_VARIANTS = ("m1", "m2", "m3", "m4", "m6", "m7", "f1", "f4")  # f2, f3 and f5 differ from process to process
_PLAIN = Voice()


class Espeak:
    """espeak-ng as a source of speech, over a small grammar of sentences. It holds no state and may be pickled."""

    def voice(self, rng: np.random.Generator, language: Language) -> Voice:
        """Draw an accent, a throat, a rate and a pitch."""
        name, variant = (str(rng.choice(choices)) for choices in (_NAMES[language], _VARIANTS))
        rate, pitch, span = int(rng.integers(135, 195)), int(rng.integers(30, 70)), int(rng.integers(30, 75))
        return Voice(f"{name}+{variant}", rate, pitch, span)

    def say(self, text: str, voice: Voice) -> Utterance:
        """Speak a text; see `say`."""
        return say(text, voice)

    def sentence(self, rng: np.random.Generator, language: Language) -> Utterance:
        """Draw a sentence of the grammar and speak it."""
        phrase = draw_phrase(rng)
        return say(phrase.english if language == "en" else phrase.chinese, self.voice(rng, language))

    def translated(self, rng: np.random.Generator, language: Language) -> Utterance:
        """Draw a sentence of the grammar, speak it in one language, and give the other."""
        phrase = draw_phrase(rng)
        if language == "en":
            text, translation, facts = phrase.english, phrase.chinese, phrase.chinese_facts
        else:
            text, translation, facts = phrase.chinese, phrase.english, phrase.english_facts
        spoken = say(text, self.voice(rng, language))
        return replace(spoken, translation=translation, translation_facts=facts)


@lru_cache(maxsize=4096)
def say(text: str, voice: Voice = _PLAIN) -> Utterance:
    """Speak a text as `synthesise`, and remember it: streams say the same words again and again."""
    return synthesise(text, voice)


def synthesise(text: str, voice: Voice = _PLAIN) -> Utterance:
    """Speak a text. Several threads may, one after another.

    Args:
        text: What is said, in the voice's language.
        voice: Who says it.

    Returns:
        The utterance, its audio float32 [n] at 16 kHz in [-1, 1], with the moments of its words.

    Raises:
        SpeechError: when espeak-ng is not installed, has no such voice, or says nothing.
    """
    request = {"text": text, "voice": voice.name, "rate": voice.rate, "pitch": voice.pitch, "range": voice.range}
    rate, about, samples = _worker(os.getpid()).ask(request)
    if "error" in about:
        raise SpeechError(f"{text!r} cannot be spoken: {about['error']}")
    audio = _at_16_khz(np.frombuffer(samples, "<i2").astype(np.float32) / 32768.0, rate)
    if not np.any(audio):
        raise SpeechError(f"{text!r} is silent in the voice {voice.name!r}; write words that it can say")
    audio.setflags(write=False)
    return Utterance(audio, text, _words(text, about["words"], len(audio) / SAMPLE_RATE), voice.name)


def _words(text: str, marks: list[list[int]], duration_s: float) -> tuple[Word, ...]:
    """Return the words with when each begins and ends: where the next begins, the last with the audio."""
    starts = [milliseconds / 1000.0 for _, _, milliseconds in marks]
    ends = [*starts[1:], duration_s]
    return tuple(
        Word(text[first : first + length], min(start, duration_s), min(end, duration_s))
        for (first, length, _), start, end in zip(marks, starts, ends, strict=True)
    )


def _at_16_khz(audio: Audio, rate: int) -> Audio:
    import soxr  # noqa: PLC0415 - `import envs` stays light

    return np.clip(soxr.resample(audio, rate, SAMPLE_RATE), -1.0, 1.0).astype(np.float32)


class _Worker:
    """The process that speaks; it ends when this one does."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for this process, which may have a reply to finish
        )
        self._turn = Lock()

    def ask(self, request: dict[str, object]) -> tuple[int, dict[str, Any], bytes]:
        with self._turn:
            return self._ask(request)

    def _ask(self, request: dict[str, object]) -> tuple[int, dict[str, Any], bytes]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._explain()
        header = self.process.stdout.read(HEADER.size)
        if len(header) < HEADER.size:
            self._explain()
        rate, size, length = HEADER.unpack(header)
        return rate, json.loads(self.process.stdout.read(size)), self.process.stdout.read(length)

    def _explain(self) -> None:
        _worker.cache_clear()  # the next request starts a new one
        code = self.process.wait()
        if code == NOT_INSTALLED:
            raise SpeechError("speech needs espeak-ng, which is not installed; run `uv sync --extra speech`")
        raise SpeechError(f"the process that speaks ended with code {code}; try again")


@lru_cache(maxsize=1)
def _worker(pid: int) -> _Worker:
    """Return this process's own worker: one inherited by a fork would answer two askers at once."""
    return _Worker()
