"""Every failure a user can cause, as one family. The command line prints the message and exits with 2.

A message names the file or key, the value found, and what was expected.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SoundFlowError(Exception):
    """Base of all errors that are the input's fault; the message is one line and says the remedy."""


class AudioError(SoundFlowError):
    """Audio that cannot be used: missing, corrupt, empty, NaN or too large."""


class ManifestError(SoundFlowError):
    """A clip manifest that is missing, lacks a column, or has a row that cannot be used."""


class ScenarioError(SoundFlowError):
    """A scenario that cannot be planned or composed from the given clips."""


class AnswerError(SoundFlowError):
    """A language model's endpoint that cannot be reached, or an answer of it that cannot be used.

    `kind` is what such failures are counted by: "not JSON", "field", "rule", or what an endpoint said.
    """

    def __init__(self, message: str, kind: str = "rule") -> None:
        super().__init__(message)
        self.kind = kind


class PlanningError(AnswerError):
    """A planner that cannot be reached, or a plan that breaks the rules of a scene."""


class NoPlanError(PlanningError):
    """A planner that was asked several times and had no usable answer; other sounds may suit it better."""


class ScoringError(SoundFlowError):
    """A scorer of replies that has no score to give, or a file of scores that is none."""


class SpeechError(SoundFlowError):
    """Speech that cannot be made: no synthesiser, no such voice, or a text that it cannot say."""


class ConfigError(SoundFlowError):
    """An unknown configuration key, or a value of the wrong type or range."""


class PolicyError(SoundFlowError):
    """A policy folder that is none, is incomplete, or belongs to another version."""


class CheckpointError(SoundFlowError):
    """A checkpoint that training cannot go on from: incomplete, spoilt, or of another run."""


class SessionError(PolicyError):
    """A session of the engine that is not there, was ended, or cannot go on."""


class CapacityError(SessionError):
    """An engine that is full."""


class ServerError(SoundFlowError):
    """A live server that may not be started, or cannot have its address."""


def first_line(message: str) -> str:
    """Return the first line of a message that ends in somebody else's words, which may have many."""
    return message.strip().splitlines()[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to `name`, or the list of known names."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
