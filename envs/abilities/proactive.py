"""Proactive: nobody asks; most sounds deserve silence, and some a word at once (paper, comprehension-aware silence)."""

from collections.abc import Sequence

import numpy as np

from envs.abilities.world import Ability, Scene, SubTask, World, pick
from envs.clock import CHUNK_S
from envs.composition import GAP_S
from envs.errors import ScenarioError
from envs.planning import RESPOND_SHARE, TAIL_S, heard_s, plan_scene
from envs.scenario import Clip, Decision
from envs.sound_classes import answer_for
from envs.sources import Candidate, ClipSource

_CHUNKS = (15, 40)
_DRAWS = 64  # of a label whose clips are of several sub-tasks, until one of the right one comes


class _Only:
    """A source of clips in which, of the sounds that deserve a reply, only those of one sub-task are left.

    Raises:
        ScenarioError: when there are none.
    """

    def __init__(self, source: ClipSource, sub_task: str) -> None:
        self.source, self.sub_task = source, sub_task
        self.respond_labels = tuple(sorted({one.label for one in self.candidates() if one.decision == "RESPOND"}))
        if not self.respond_labels:
            raise self._none()

    @property
    def labels(self) -> tuple[str, ...]:
        return self.source.labels

    def has(self, decision: Decision) -> bool:
        return bool(self.labels_of(decision))

    def labels_of(self, decision: Decision) -> tuple[str, ...]:
        return self.respond_labels if decision == "RESPOND" else self.source.labels_of(decision)

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        if decision == "IGNORE":
            return self.source.draw(rng, decision, label)
        for _ in range(_DRAWS):
            clip = self.source.draw(rng, decision, label or pick(rng, self.respond_labels))
            if clip.answers[0].sub_task == self.sub_task:
                return clip
        raise self._none()

    def candidates(self) -> Sequence[Candidate]:
        return [one for one in self.source.candidates() if one.decision == "IGNORE" or self._belongs(one)]

    def _belongs(self, candidate: Candidate) -> bool:
        clip = candidate.clip
        answer = clip.answers[0] if clip is not None else answer_for(candidate.label, candidate.caption)
        return answer.sub_task == self.sub_task

    def _none(self) -> ScenarioError:
        return ScenarioError(f"none of the sounds that deserve a reply is of the sub-task {self.sub_task!r}; add some")


def _scene_of(name: str) -> SubTask:
    def add(rng: np.random.Generator, world: World, scene: Scene) -> None:
        plan = plan_scene(_Only(world.sounds, name), rng, chunks=_CHUNKS)
        free_s = plan.num_chunks * CHUNK_S - TAIL_S - sum(heard_s(clip) for clip in plan.foreground)
        for clip in plan.foreground:
            scene.add(clip, min(float(rng.uniform(*GAP_S)), max(free_s, GAP_S[0])))

    add.__doc__ = f"Sounds, of which those of {name.replace('_', ' ')} deserve a word."
    return add


def _turn_of(name: str) -> SubTask:
    def add(rng: np.random.Generator, world: World, scene: Scene) -> None:
        sounds = _Only(world.sounds, name)
        for _ in range(int(rng.integers(1, 3))):
            scene.add(sounds.draw(rng, "RESPOND" if rng.random() < RESPOND_SHARE else "IGNORE"), rng.uniform(*GAP_S))

    add.__doc__ = f"One or two sounds in the middle of a talk; one of {name.replace('_', ' ')} deserves a word."
    return add


_NAMES = ("distress", "natural_hazard", "equipment_or_fire", "safety_signal")
ABILITY = Ability(
    "Proactive", {name: _scene_of(name) for name in _NAMES}, turns={name: _turn_of(name) for name in _NAMES}
)
