"""What a stream is made of: clips, events, cues, and the scenario that holds them."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_S, CHUNK_SAMPLES, SAMPLE_RATE
from envs.errors import ScenarioError

Audio = NDArray[np.float32]
Decision = Literal["RESPOND", "IGNORE"]
Role = Literal["foreground", "background", "ambient"]
SPEECH = "Speech"  # the domain of words
GRACE_S = 2.0  # from the end of a sound to its deadline
_FRAME = 160
_CREST = 6.0  # a peak that far above a clip's loud frames counts as its level


@dataclass(frozen=True)
class Answer:
    """What a good reply to a sound says, and how much it matters.

    Attributes:
        replies: Reference replies, at least one.
        key_facts: Each fact is a string of alternatives separated by ``|``; a reply states the fact when it
            contains any of them (case-insensitive, at a word's start).
        urgency: In (0, 1]; scales the latency reward and the cost of a miss.
        criterion: Which of the paper's reasons to speak up applies, "i" to "iv"; blank where the agent was asked.
        sub_task: Of the ability that it belongs to, such as "distress" or "single_question".
        evidence_s: Seconds of the clip after which a listener can know what to say.
        onset_s: Where in the clip begins what is answered.
        due_s: Where in the clip an agent that follows the paper's timeline answers: at the latest at its end.
        grace_s: From there to the deadline.
    """

    replies: tuple[str, ...]
    key_facts: tuple[str, ...]
    urgency: float
    criterion: str
    sub_task: str
    evidence_s: float
    onset_s: float = 0.0
    due_s: float = math.inf
    grace_s: float = GRACE_S


@dataclass(frozen=True)
class Clip:
    """A short recording, synthesised sound or utterance, 16 kHz mono.

    There are `answers` exactly when `decision` is "RESPOND": one, or several where a clip is answered part by part.
    """

    audio: Audio  # [samples] in [-1, 1]
    label: str
    caption: str
    domain: str
    decision: Decision
    origin: str  # "foley", the voice that speaks, or the path of the recording
    answers: tuple[Answer, ...] = ()  # by onset
    recording: str = ""  # clips of one recording do not meet in one scene; blank: unknown, or synthesised
    directed: bool = False  # the user speaks to the agent

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.audio) / SAMPLE_RATE

    @cached_property
    def loudness(self) -> float:
        """RMS of its loud 10 ms frames, or what its peak makes of it: a lone click is not taken for silence."""
        frames = len(self.audio) // _FRAME
        power = np.square(self.audio[: frames * _FRAME].reshape(-1, _FRAME)).mean(axis=1)
        loud = float(np.sqrt(np.percentile(power, 90))) if frames else 0.0
        return max(loud, float(np.abs(self.audio).max(initial=0.0)) / _CREST)


@dataclass(frozen=True)
class Event:
    """A clip placed in a scenario."""

    label: str
    caption: str
    role: Role
    decision: Decision
    onset_s: float
    duration_s: float
    origin: str

    @property
    def end_s(self) -> float:
        """The moment at which the event has ended, in seconds."""
        return self.onset_s + self.duration_s


@dataclass(frozen=True)
class Cue:
    """One moment that deserves a reply.

    Raises:
        ScenarioError: unless onset_s < ready_s < deadline_s, and urgency is in (0, 1].
    """

    onset_s: float  # it begins
    ready_s: float  # enough has been heard to answer
    deadline_s: float  # after that it is missed
    label: str
    replies: tuple[str, ...]
    key_facts: tuple[str, ...]
    urgency: float
    criterion: str
    sub_task: str

    def __post_init__(self) -> None:
        if not self.onset_s < self.ready_s < self.deadline_s:  # not for NaN, either
            raise ScenarioError(
                f"a cue of {self.label!r} has onset {self.onset_s}, ready {self.ready_s}, deadline {self.deadline_s},"
                " expected each later than the one before"
            )
        if not 0.0 < self.urgency <= 1.0:
            raise ScenarioError(f"a cue of {self.label!r} has urgency {self.urgency}, expected more than 0, at most 1")


@dataclass(frozen=True)
class TimelineEntry:
    """A supervised target: `text` is to be said after chunk `chunk` (from 0)."""

    chunk: int
    text: str


@dataclass(frozen=True)
class Scenario:
    """Planned events, the rendered waveform, and its cues; everything follows from `seed`."""

    seed: int
    ability: str
    audio: Audio  # [num_chunks * 6400] in [-1, 1]
    events: tuple[Event, ...]
    cues: tuple[Cue, ...]  # by onset
    timeline: tuple[TimelineEntry, ...]  # by chunk
    instruction: str = ""
    user_speech: tuple[tuple[float, float], ...] = field(default=())  # (start_s, end_s) spans

    @property
    def num_chunks(self) -> int:
        """Length in chunks."""
        return len(self.audio) // CHUNK_SAMPLES

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_chunks * CHUNK_S

    def chunk(self, index: int) -> Audio:
        """Return the samples of chunk `index`: float32 [6400]."""
        return self.audio[index * CHUNK_SAMPLES : (index + 1) * CHUNK_SAMPLES]
