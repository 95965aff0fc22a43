"""Where clips come from: one interface over built-in foley, folders of recordings, and mixtures of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.scenario import Clip, Decision


class ClipSource(Protocol):
    """Anything that scenes can be planned from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels it holds."""

    def has(self, decision: Decision) -> bool:
        """Return whether it holds a clip of this decision."""

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        """Draw a clip of a decision (and a label, where one is given)."""


@dataclass(frozen=True)
class Mixture:
    """Draws from one of several sources, by weight."""

    sources: Sequence[ClipSource]
    weights: Sequence[float]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of all sources."""
        return tuple(sorted({label for source in self.sources for label in source.labels}))

    def has(self, decision: Decision) -> bool:
        """Return whether any source holds a clip of this decision."""
        return any(source.has(decision) for source in self.sources)

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        """Draw a source that can serve, then a clip from it."""
        able = [i for i, s in enumerate(self.sources) if s.has(decision) and (label is None or label in s.labels)]
        weights = np.array([self.weights[i] for i in able])
        return self.sources[int(rng.choice(able, p=weights / weights.sum()))].draw(rng, decision, label)
