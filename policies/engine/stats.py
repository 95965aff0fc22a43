"""What the engine says of itself: counters, gauges and latency histograms, as Prometheus text and as scalars."""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from envs.clock import CHUNK_S
from policies.engine.session import Session, StepEvent

_BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 4.0)


class ScalarWriter(Protocol):
    """What TensorBoard's `SummaryWriter` is here."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Write one number."""


@dataclass
class Histogram:
    """Counts of seconds at or below each bound, and their sum: what Prometheus calls a histogram."""

    bounds: Sequence[float] = _BOUNDS_S
    counts: list[int] = field(init=False)  # between the bounds; the last is above them all
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """How many were added."""
        return sum(self.counts)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect.bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def quantile(self, share: float) -> float | None:
        """Return the bound under which that share lies, infinity above them all; None: nothing was added."""
        if not self.count:
            return None
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= share * self.count:
                return bound
        raise AssertionError("the counts add up to count")

    def lines(self, name: str, purpose: str) -> Iterable[str]:
        """Yield it in Prometheus' text format."""
        yield from (f"# HELP {name} {purpose}", f"# TYPE {name} histogram")
        seen = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            yield f'{name}_bucket{{le="{bound}"}} {seen}'
        yield from (f"{name}_sum {self.total}", f"{name}_count {self.count}")


class EngineStats:
    """What happened since the engine was made, and how full it is after the last step.

    A stall is a decision later than one chunk after its chunk had arrived.
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self.decision_latency, self.first_token_latency = Histogram(), Histogram()
        self.counters = dict.fromkeys(
            ("steps", "decisions", "responses", "reply_tokens", "replies_cut", "stalls", "sessions_ended"), 0
        )
        self.sessions = 0
        self.batch = 0  # sessions in the last step
        self.queued_chunks = 0  # encoded and not yet drained, over all sessions

    def add(self, events: Sequence[StepEvent], sessions: Mapping[int, Session]) -> None:
        """Take in one step."""
        count = self.counters
        count["steps"] += 1
        for event in events:
            count["decisions"] += event.probability is not None
            count["responses"] += event.decision == "response"
            count["reply_tokens"] += len(event.token_ids)
            count["replies_cut"] += event.reply_cut
            count["sessions_ended"] += event.decision == "ended"
            if event.decision_latency_s is not None:
                self.decision_latency.add(event.decision_latency_s)
                count["stalls"] += event.decision_latency_s > CHUNK_S
            if event.first_token_latency_s is not None:
                self.first_token_latency.add(event.first_token_latency_s)
        self.batch = sum(event.decision != "ended" for event in events)
        self.sessions = len(sessions)
        self.queued_chunks = sum(len(session.queue) for session in list(sessions.values()))

    def scalars(self) -> dict[str, float]:
        """Return everything as numbers by name, for TensorBoard."""
        numbers: dict[str, float] = {name: float(value) for name, value in self.counters.items()}
        numbers |= {
            "sessions": float(self.sessions),
            "occupancy": self.sessions / self.num_slots,
            "batch": float(self.batch),
            "queued_chunks": float(self.queued_chunks),
        }
        for name in ("decision_latency", "first_token_latency"):
            histogram: Histogram = getattr(self, name)
            for share in (0.5, 0.99):
                if (value := histogram.quantile(share)) is not None:
                    numbers[f"{name}_p{round(100 * share)}_s"] = value
        return numbers

    def write(self, writer: ScalarWriter) -> None:
        """Write everything to TensorBoard as `engine/...`, at the number of steps so far."""
        for name, value in self.scalars().items():
            writer.add_scalar(f"engine/{name}", value, self.counters["steps"])

    def prometheus(self) -> str:
        """Return everything in Prometheus' text format."""
        lines = []
        for name, value in self.counters.items():
            lines += [f"# TYPE soundflow_{name}_total counter", f"soundflow_{name}_total {value}"]
        gauges = {
            "sessions": self.sessions,
            "slots": self.num_slots,
            "batch": self.batch,
            "queued_chunks": self.queued_chunks,
        }
        for name, value in gauges.items():
            lines += [f"# TYPE soundflow_{name} gauge", f"soundflow_{name} {value}"]
        purpose = "seconds from the arrival of a chunk's last sample to"
        lines += self.decision_latency.lines("soundflow_decision_latency_seconds", f"{purpose} its control token")
        lines += self.first_token_latency.lines("soundflow_first_token_latency_seconds", f"{purpose} the reply's start")
        return "\n".join(lines) + "\n"
