"""What scoring cost: calls, tokens, seconds."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from envs.files import write_text

BILLS = "bills.json"  # beside the traces: what their scoring cost


@dataclass
class Bill:
    """Counts of one scorer; it is added to from one thread.

    Attributes:
        scored: Replies that it was asked about.
        cached: Of these, those that it knew already.
        calls: Requests that were sent, or texts that a model read.
        refused: Calls that gave no usable answer.
        tokens_in: That the calls sent, where the endpoint counts them.
        tokens_out: That came back, where it does.
        seconds: Of the clock, waiting for scores.
    """

    scored: int = 0
    cached: int = 0
    calls: int = 0
    refused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0

    def add(self, other: "Bill") -> None:
        """Take in what another bill counted."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def clear(self) -> None:
        """Count from nothing."""
        for field in fields(self):
            setattr(self, field.name, field.default)

    def __str__(self) -> str:
        return (
            f"{self.scored:,} replies scored, {self.cached:,} of them known; {self.calls:,} calls, {self.refused:,} of"
            f" them refused; {self.tokens_in:,} tokens in, {self.tokens_out:,} out; {self.seconds:.1f} s"
        )


def sum_bills(bills: Iterable[Mapping[str, Bill]]) -> dict[str, Bill]:
    """Return new bills by name, each the sum of those of its name."""
    total: dict[str, Bill] = {}
    for own in bills:
        for name, bill in own.items():
            total.setdefault(name, Bill()).add(bill)
    return total


def add_bills(bills: Mapping[str, Bill], more: Mapping[str, Bill]) -> None:
    """Add to each of `bills`, in place, what `more` has under its name."""
    for name, bill in bills.items():
        bill.add(more.get(name, Bill()))


def write_bills(path: Path, bills: Mapping[str, Bill]) -> None:
    """Write bills by name as JSON."""
    write_text(path, json.dumps({name: asdict(bill) for name, bill in bills.items()}, indent=2) + "\n")
