"""Foley: built-in procedural sounds, so that everything runs without a single recording.

Each sound is a small physical recipe with widely drawn parameters, heard through a random room and
microphone.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from envs.errors import ScenarioError, did_you_mean
from envs.foley import alarms, animals, impacts, machines, music, nature, voices
from envs.foley.recording import record
from envs.foley.synthesis import Signal
from envs.scenario import Audio, Clip, Decision
from envs.sound_classes import SOUND_CLASSES
from envs.sources import Candidate

_RENDERERS: dict[str, Callable[[Generator], Signal]] = {
    label: renderer
    for module in (alarms, animals, impacts, machines, music, nature, voices)
    for label, renderer in module.RENDERERS.items()
}


def render(label: str, rng: np.random.Generator) -> Audio:
    """Synthesise one sound of the class `label`.

    Args:
        label: A key of `envs.sound_classes.SOUND_CLASSES`.
        rng: Source of every random choice; the same state gives the same samples.

    Returns:
        float32 [n] in [-1, 1], mono, 16 kHz, 0.3 to 6 s, both ends faded.

    Raises:
        ScenarioError: No built-in sound has this label.
    """
    renderer = _RENDERERS.get(label)
    if renderer is None:
        raise ScenarioError(f"no built-in sound is called {label!r}{did_you_mean(label, _RENDERERS)}")
    return record(rng, renderer(rng))


class Foley:
    """The built-in sounds as a source of clips.

    >>> Foley().draw(np.random.default_rng(0), "RESPOND", "siren").caption
    'an emergency siren wails'
    """

    labels: tuple[str, ...] = tuple(sorted(SOUND_CLASSES))

    def has(self, decision: Decision) -> bool:
        """Return whether there are sounds of this decision."""
        return any(sound.decision == decision for sound in SOUND_CLASSES.values())

    def labels_of(self, decision: Decision) -> tuple[str, ...]:
        """Return the labels of the sounds of this decision."""
        return tuple(label for label in self.labels if SOUND_CLASSES[label].decision == decision)

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        """Render a clip of `label`, or of a label drawn evenly from those of the `decision`.

        Raises:
            ScenarioError: The label is unknown, or belongs to the other decision.
        """
        if label is None:
            candidates = self.labels_of(decision)
            label = candidates[int(rng.integers(len(candidates)))]
        elif label not in SOUND_CLASSES:
            raise ScenarioError(f"no built-in sound is called {label!r}{did_you_mean(label, self.labels)}")
        sound = SOUND_CLASSES[label]
        if sound.decision != decision:
            raise ScenarioError(f"the built-in sound {label!r} is {sound.decision}, not {decision}; draw it as that")
        return Clip(
            audio=render(label, rng),
            label=label,
            caption=sound.caption,
            domain=sound.domain,
            decision=sound.decision,
            origin="foley",
            answers=() if sound.answer is None else (sound.answer,),
        )

    def candidates(self) -> list[Candidate]:
        """Return every built-in class."""
        return [Candidate(sound.label, sound.caption, sound.decision, self) for sound in SOUND_CLASSES.values()]
