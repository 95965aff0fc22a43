"""Benchmark suites: published sets of items, each played as a stream and scored as its authors score it.

A suite knows its items, renders them and scores what was played. It knows no policy, and what it does not find on disk
is named and counted: it is never played as silence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from envs.audio import header_fault
from envs.errors import AudioError
from envs.metrics import Metric
from envs.records import Entry, Record
from envs.scenario import Audio, Scenario
from envs.trace import Trace

_MOST_NAMED = 10
_Heard = TypeVar("_Heard")


@dataclass(frozen=True)
class Coverage:
    """How much of a release is there. An item that is missing is left out of every number."""

    named: int  # items that the release names
    missing: tuple[str, ...] = ()  # each with the file that it lacks, or that cannot be read
    recordings: int = 0  # of the release that are named; 0: how many it has is not known here
    released: int = 0  # that it has

    @property
    def present(self) -> int:
        """How many items are there."""
        return self.named - len(self.missing)

    @property
    def complete(self) -> bool:
        """Whether nothing of what is named is missing."""
        return not self.missing

    @property
    def short(self) -> bool:
        """Whether fewer recordings are named than the release has: it was shortened, or is a set of one's own."""
        return self.recordings < self.released

    def __str__(self) -> str:
        """Say it in one line; of many missing items the first ten are named."""
        said = f"coverage: {self.present} of {self.named} items are there"
        if self.missing:
            more = len(self.missing) - _MOST_NAMED
            named = ", ".join(self.missing[:_MOST_NAMED])
            said = f"{said}; missing: {named}{f' and {more} more' if more > 0 else ''}"
        return f"{said}; {self.recordings} of {self.released} released recordings are named" if self.short else said

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        whole = {"recordings": self.recordings, "released": self.released} if self.short else {}
        return {"named": self.named, "present": self.present, "missing": list(self.missing), **whole}


def checked(folder: Path, rows: Sequence[Entry]) -> list[Entry]:
    """Return the rows of a corpus, those whose recording cannot be read by its header as broken; none is decoded."""
    return [
        row.broken(fault) if isinstance(row, Record) and (fault := header_fault(folder / row.columns["path"])) else row
        for row in rows
    ]


def hear(suite: "Suite", read: Callable[[int], _Heard], seed: int) -> _Heard:
    """Return what `read` gives of an item of a suite, such as its stream.

    Raises:
        AudioError: when a recording cannot be decoded, which its header did not show; it says what to do.
    """
    try:
        return read(seed)
    except AudioError as error:
        raise AudioError(
            f"{suite.name}, stream {seed}: {error}; its header did not tell: repair it, or move it away and begin"
            " again, with --out in a new folder: it is left out then"
        ) from error


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
