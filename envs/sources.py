"""Where clips come from: one interface over built-in foley, folders of recordings, and mixtures of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.errors import ScenarioError, did_you_mean
from envs.scenario import Clip, Decision
from envs.sound_classes import answer_for


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


class OfSubTask:
    """A source without the sounds that deserve a reply of another sub-task than `sub_task`.

    Raises:
        ScenarioError: when none that deserves a reply is left.
    """

    def __init__(self, source: ClipSource, sub_task: str) -> None:
        self.source, self.sub_task = source, sub_task
        self._respond: dict[str, list[Candidate]] = {}
        for one in source.candidates():
            if one.decision == "RESPOND" and _sub_task_of(one) == sub_task:
                self._respond.setdefault(one.label, []).append(one)
        if not self._respond:
            raise ScenarioError(f"none of the sounds that deserve a reply is of the sub-task {sub_task!r}; add some")

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels."""
        return tuple(sorted({*self._respond, *self.source.labels_of("IGNORE")}))

    def has(self, decision: Decision) -> bool:
        """Return whether it holds a clip of this decision."""
        return decision == "RESPOND" or self.source.has(decision)

    def labels_of(self, decision: Decision) -> tuple[str, ...]:
        """Return the labels of its clips of this decision."""
        return tuple(sorted(self._respond)) if decision == "RESPOND" else self.source.labels_of(decision)

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        """Draw a label evenly, then one of its clips.

        Raises:
            ScenarioError: when there is none of the label.
        """
        if decision == "IGNORE":
            return self.source.draw(rng, decision, label)
        labels = sorted(self._respond)
        chosen = labels[int(rng.integers(len(labels)))] if label is None else label
        if chosen not in self._respond:
            raise ScenarioError(f"no {chosen!r} is of the sub-task {self.sub_task!r}{did_you_mean(chosen, labels)}")
        clips = self._respond[chosen]
        return clips[int(rng.integers(len(clips)))].take(rng)

    def candidates(self) -> Sequence[Candidate]:
        """Return all that it can play."""
        silent = [one for one in self.source.candidates() if one.decision == "IGNORE"]
        return [*silent, *(one for label in sorted(self._respond) for one in self._respond[label])]


def _sub_task_of(candidate: Candidate) -> str:
    """Return the sub-task of a candidate that deserves a reply; of a built-in sound without rendering it."""
    clip = candidate.clip
    answer = clip.answers[0] if clip is not None else answer_for(candidate.label, candidate.caption)
    return answer.sub_task


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
