"""Something said: its audio, its words with their moments, and what is known about it."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from envs.clock import SAMPLE_RATE
from envs.scenario import Audio

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Word:
    """A word of an utterance, in seconds from its beginning."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Utterance:
    """One thing that a person says, 16 kHz mono."""

    audio: Audio  # [samples] in [-1, 1]
    text: str
    words: tuple[Word, ...]  # in order
    speaker: str
    translation: str = ""  # into the other language; blank: unknown
    translation_facts: tuple[str, ...] = ()  # what a translation must say, as in `envs.scenario.Answer`

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.audio) / SAMPLE_RATE


@dataclass(frozen=True)
class Voice:
    """Who speaks and how. Rates are words a minute; pitch and its range go from 0 to 99."""

    name: str = "en-us"
    rate: int = 165
    pitch: int = 50
    range: int = 50


class SpeechSource(Protocol):
    """Where spoken words come from."""

    def voice(self, rng: np.random.Generator, language: Language) -> Voice:
        """Draw somebody who speaks a language."""

    def say(self, text: str, voice: Voice) -> Utterance:
        """Speak a text.

        Raises:
            SpeechError: when it cannot be spoken.
        """

    def sentence(self, rng: np.random.Generator, language: Language) -> Utterance:
        """Draw a sentence with the moments of its words."""

    def translated(self, rng: np.random.Generator, language: Language) -> Utterance:
        """Draw a sentence whose translation into the other language is known."""
