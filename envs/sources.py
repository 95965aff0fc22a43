"""Where clips come from: one interface over built-in foley, folders of recordings, and mixtures of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.errors import ScenarioError, did_you_mean
from envs.scenario import Clip, Decision


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something that a source can play, found by its words before it is heard."""

    label: str
    caption: str
    decision: Decision
    source: "ClipSource"
    clip: Clip | None = None  # a recording; None: it is rendered anew each time it is taken

    def take(self, rng: np.random.Generator) -> Clip:
        """Return the recording, or draw the sound from its source."""
        return self.source.draw(rng, self.decision, self.label) if self.clip is None else self.clip


class ClipSource(Protocol):
    """Anything that scenes can be planned from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels it holds."""

    def has(self, decision: Decision) -> bool:
        """Return whether it holds a clip of this decision."""

    def labels_of(self, decision: Decision) -> tuple[str, ...]:
        """Return the labels of its clips of this decision, sorted."""

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        """Draw a clip of a decision (and a label, where one is given).

        Raises:
            ScenarioError: when there is none.
        """

    def candidates(self) -> Sequence[Candidate]:
        """Return all that it can play, in a fixed order."""


@dataclass(frozen=True)
class Mixture:
    """Draws from one of several sources, by weight.

    Raises:
        ScenarioError: when there is not one positive weight for each source.
    """

    sources: Sequence[ClipSource]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.sources) or not all(0 < weight < float("inf") for weight in self.weights):
            raise ScenarioError(
                f"a mixture of {len(self.sources)} sources has the weights {list(self.weights)}, expected a positive"
                " one for each; leave a source out that is not to be drawn from"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of all sources."""
        return tuple(sorted({label for source in self.sources for label in source.labels}))

    def has(self, decision: Decision) -> bool:
        """Return whether any source holds a clip of this decision."""
        return any(source.has(decision) for source in self.sources)

    def labels_of(self, decision: Decision) -> tuple[str, ...]:
        """Return the labels of all sources' clips of this decision."""
        return tuple(sorted({label for source in self.sources for label in source.labels_of(decision)}))

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        """Draw a source that can serve, then a clip from it.

        Raises:
            ScenarioError: when no source can.
        """
        able = [i for i, s in enumerate(self.sources) if (label in s.labels_of(decision) if label else s.has(decision))]
        if not able:
            wanted = f"{decision} clip" + (f" of {label!r}{did_you_mean(label, self.labels)}" if label else "")
            raise ScenarioError(f"none of the sources holds a {wanted}")
        weights = np.array([self.weights[i] for i in able])
        return self.sources[int(rng.choice(able, p=weights / weights.sum()))].draw(rng, decision, label)

    def candidates(self) -> Sequence[Candidate]:
        """Return the candidates of all sources; the weights are for draws without a wish."""
        return [candidate for source in self.sources for candidate in source.candidates()]
