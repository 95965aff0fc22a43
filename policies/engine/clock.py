"""What time it is for the engine: simulated in rollouts, the wall's when it listens live. Nothing else differs."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from envs.clock import chunk_end_s
from envs.errors import PolicyError


class Clock(Protocol):
    """When chunks arrived, and when decisions on them were emitted; in seconds of any one origin."""

    def arrival(self, chunk: int) -> float:
        """Return the moment at which the last sample of a chunk arrived, which is now."""

    def emission(self, arrival: float) -> float:
        """Return the moment at which a decision on a chunk that arrived then is emitted, which is now."""

    def now(self) -> float:
        """Return the time of a session that does not push."""


class WallClock:
    """Seconds of the monotonic clock."""

    def arrival(self, chunk: int) -> float:
        """Return now."""
        return time.monotonic()

    def emission(self, arrival: float) -> float:
        """Return now."""
        return time.monotonic()

    def now(self) -> float:
        """Return now."""
        return time.monotonic()


class SimulatedClock:
    """Seconds of the stream: a chunk arrives when it ends, and a decision takes as long as it is said to.

    Args:
        thinking: Seconds of every decision; or seconds measured, of which one is drawn each time; or what draws them.
        seed: Of the draws.

    Raises:
        PolicyError: when a time is negative or infinite, or there are none to draw from.
    """

    def __init__(
        self, thinking: float | Sequence[float] | Callable[[np.random.Generator], float] = 0.0, seed: int = 0
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._draw: Callable[[np.random.Generator], float]
        if callable(thinking):
            self._draw = thinking
        else:
            measured = np.atleast_1d(np.asarray(thinking, np.float64))
            if not len(measured):
                raise PolicyError("there are no thinking times to draw from; give at least one")
            self._draw = lambda rng: float(measured[rng.integers(len(measured))]) if len(measured) > 1 else measured[0]
            for seconds in measured:
                _check(float(seconds))

    def arrival(self, chunk: int) -> float:
        """Return the end of the chunk."""
        return chunk_end_s(chunk)

    def emission(self, arrival: float) -> float:
        """Return the arrival and a thinking time."""
        return arrival + _check(float(self._draw(self._rng)))

    def now(self) -> float:
        """Return 0: nobody is idle in a simulation."""
        return 0.0


def _check(seconds: float) -> float:
    if not 0.0 <= seconds < np.inf:
        raise PolicyError(f"a thinking time is {seconds} s, expected a number of seconds from 0 on")
    return seconds
