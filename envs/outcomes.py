"""What became of each sound that asks for a decision, and of each reply: what metrics count and pages show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from envs.clock import chunk_end_s
from envs.scenario import GRACE_S
from envs.text_scores import helpfulness
from envs.trace import Trace

FailureKind = Literal["false alarm", "miss", "late", "wrong words"]
FAILURE_KINDS: tuple[FailureKind, ...] = ("false alarm", "miss", "late", "wrong words")
GOOD_WORDS = 0.5  # a reply of at least this helpfulness is not shown as one of wrong words


@dataclass(frozen=True)
class Outcome:
    """A sound in the foreground: a cue, or an event that deserves silence."""

    label: str
    deserves: bool  # a reply
    answered: bool  # by a reply that matched the cue; an event that deserves silence, by a false alarm
    sub_task: str = ""  # of a cue

    @property
    def right(self) -> bool:
        """Whether it was treated as it deserves."""
        return self.deserves == self.answered


def outcomes(trace: Trace) -> list[Outcome]:
    """Return the outcome of every cue, then of every foreground event that deserves silence.

    Such an event counts as answered when a false alarm fell between its onset and two seconds after its end.
    """
    answered = {reply.cue for reply in trace.replies}
    strays = [reply.start_s for reply in trace.replies if reply.cue is None]
    cues = [Outcome(cue.label, True, i in answered, cue.sub_task) for i, cue in enumerate(trace.cues)]
    ignored = [event for event in trace.events if event.role == "foreground" and event.decision == "IGNORE"]
    return cues + [
        Outcome(event.label, False, any(event.onset_s <= t < event.end_s + GRACE_S for t in strays))
        for event in ignored
    ]


@dataclass(frozen=True)
class Failure:
    """A moment at which a policy was wrong, or slow.

    Attributes:
        kind: See `FAILURE_KINDS`.
        stream: Index of the trace.
        at_s: When, in seconds of its stream.
        label: The cue's; of a false alarm the nearest foreground sound's, blank where there is none.
        weight: How bad it is, beside others of its kind: the P(response) of a false alarm, a missed cue's urgency, the
            share of the window that a late reply let pass, and what wrong words lack to a helpfulness of 1.
        said: The words of the reply.
    """

    kind: FailureKind
    stream: int
    at_s: float
    label: str
    weight: float
    said: str = ""


def worst_failures(traces: Sequence[Trace], most: int) -> list[Failure]:
    """Return at most `most` failures of each kind, the worst first, no two of a kind from one stream.

    A late reply is one that answered a cue and let more than half of the time from ready to deadline pass; a reply of
    wrong words matched a cue, and has a helpfulness below 0.5.
    """
    found = [failure for number, trace in enumerate(traces) for failure in _failures(number, trace)]
    found.sort(key=lambda failure: (-failure.weight, failure.stream, failure.at_s))
    chosen = []
    for kind in FAILURE_KINDS:
        first = {f.stream: f for f in reversed([f for f in found if f.kind == kind])}
        chosen += [f for f in found if f.kind == kind and first[f.stream] is f][:most]
    return chosen


def _failures(number: int, trace: Trace) -> Iterator[Failure]:
    for reply in trace.replies:
        if reply.cue is None:
            label, weight = _heard_at(trace, reply.start_s), _probability_at(trace, reply.start_s)
            yield Failure("false alarm", number, reply.start_s, label, weight, reply.text)
            continue
        cue = trace.cues[reply.cue]
        waited = (reply.start_s - cue.ready_s) / (cue.deadline_s - cue.ready_s)
        if waited > 0.5:
            yield Failure("late", number, reply.start_s, cue.label, waited, reply.text)
        quality = helpfulness(reply.text, cue.replies, cue.key_facts)
        if quality < GOOD_WORDS:
            yield Failure("wrong words", number, reply.start_s, cue.label, 1 - quality, reply.text)
    answered = {reply.cue for reply in trace.replies}
    for index, cue in enumerate(trace.cues):
        if index not in answered:
            yield Failure("miss", number, cue.ready_s, cue.label, cue.urgency)


def _heard_at(trace: Trace, second: float) -> str:
    """Return the label of the foreground sound that began last before a moment."""
    before = [event for event in trace.events if event.role == "foreground" and event.onset_s <= second]
    return max(before, key=lambda event: event.onset_s).label if before else ""


def _probability_at(trace: Trace, second: float) -> float:
    """Return the stored P(response) of the decision that took effect then; 0 where there is none."""
    for index, (step, probability) in enumerate(zip(trace.steps, trace.probabilities, strict=False)):
        if effect_s(index, step.now_s) == second:
            return probability or 0.0
    return 0.0


def effect_s(index: int, now_s: float | None) -> float:
    """Return when step `index` took effect; traces of old versions do not tell, and had no thinking time."""
    return chunk_end_s(index) if now_s is None else now_s
