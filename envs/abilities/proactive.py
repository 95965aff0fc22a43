"""Proactive: nobody asks; most sounds deserve silence, and some a word at once (paper, comprehension-aware silence)."""

import numpy as np

from envs.abilities.world import Ability, Scene, SubTask, World
from envs.clock import CHUNK_S
from envs.planning import TAIL_S, heard_s, plan_scene
from envs.scenario import Clip, Decision
from envs.sources import ClipSource

_CHUNKS = (15, 40)


class _Only:
    """A source of clips in which, of the sounds that deserve a reply, only those of one sub-task are left."""

    def __init__(self, source: ClipSource, sub_task: str) -> None:
        self.source, self.sub_task = source, sub_task

    @property
    def labels(self) -> tuple[str, ...]:
        return self.source.labels

    def has(self, decision: Decision) -> bool:
        return self.source.has(decision)

    def draw(self, rng: np.random.Generator, decision: Decision, label: str | None = None) -> Clip:
        for _ in range(256):
            clip = self.source.draw(rng, decision, label)
            if decision == "IGNORE" or clip.answers[0].sub_task == self.sub_task:
                return clip
        return self.source.draw(rng, "IGNORE")  # it has none


def _sub_task(name: str) -> SubTask:
    def add(rng: np.random.Generator, world: World, scene: Scene) -> None:
        plan = plan_scene(_Only(world.sounds, name), rng, chunks=_CHUNKS)
        free_s = plan.num_chunks * CHUNK_S - TAIL_S - sum(heard_s(clip) for clip in plan.foreground)
        for clip in plan.foreground:
            scene.add(clip, min(float(rng.uniform(0.4, 2.5)), max(free_s, 0.4)))

    add.__doc__ = f"Sounds, of which those of {name.replace('_', ' ')} deserve a word."
    return add


ABILITY = Ability(
    "Proactive",
    {name: _sub_task(name) for name in ("distress", "natural_hazard", "equipment_or_fire", "safety_signal")},
)
