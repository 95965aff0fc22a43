"""Benchmark suites: published sets of items, each played as a stream and scored as its authors score it.

A suite knows its items, renders them and scores what was played. It knows no policy, and what it does not find on disk
is named and counted: it is never played as silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from envs.metrics import Metric
from envs.scenario import Audio, Scenario
from envs.trace import Trace

_MOST_NAMED = 10


@dataclass(frozen=True)
class Coverage:
    """How much of a release is there. An item that is missing is left out of every number."""

    named: int  # items that the release names
    missing: tuple[str, ...] = ()  # each with the file that it lacks

    @property
    def present(self) -> int:
        """How many items are there."""
        return self.named - len(self.missing)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    def __str__(self) -> str:
        """Say it in one line; of many missing items the first ten are named."""
        said = f"coverage: {self.present} of {self.named} items are there"
        if self.complete:
            return said
        more = len(self.missing) - _MOST_NAMED
        return f"{said}; missing: {', '.join(self.missing[:_MOST_NAMED])}{f' and {more} more' if more > 0 else ''}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"named": self.named, "present": self.present, "missing": list(self.missing)}


class Suite(Protocol):
    """A benchmark. An item is one stream, and its seed is the number that its scenario is asked for by."""

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def notes(self) -> Mapping[str, str]:
        """How its numbers are made, for who publishes them: normalisation, signatures, what a clock counts from."""

    @property
    def seeds(self) -> Sequence[int]:
        """Of the items that are there, in order."""

    @property
    def coverage(self) -> Coverage:
        """What of the release is there; no audio is decoded for it."""

    def scenario(self, seed: int) -> Scenario:
        """Return one item as a stream; its recordings are read now.

        Raises:
            AudioError: when a recording cannot be decoded.
        """

    def predictions(self, traces: Sequence[Trace]) -> list[dict[str, Any]]:
        """Return what was played as lines of the release's own prediction file, in the order of the seeds."""

    def score(self, traces: Sequence[Trace]) -> dict[str, Metric]:
        """Return every number of the benchmark over what was played."""


@dataclass(frozen=True)
class Question:
    """An item as an offline turn: a whole clip, and what is asked of it."""

    audio: Audio  # [samples] in [-1, 1]
    instruction: str


@runtime_checkable
class OfflineSuite(Suite, Protocol):
    """A suite whose items can be asked offline, too: the number of a model that need not decide when to speak."""

    def question(self, seed: int) -> Question:
        """Return one item as a turn; its recording is read now.

        Raises:
            AudioError: when it cannot be decoded.
        """

    def answered(self, traces: Sequence[Trace]) -> list[str]:
        """Return what was said in each stream as the answer to its item."""

    def score_answers(self, seeds: Sequence[int], answers: Sequence[str]) -> dict[str, Metric]:
        """Return the numbers of answers, whichever way they were given."""
