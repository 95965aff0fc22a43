"""Proactive: nobody asks; most sounds deserve silence, and some a word at once (paper, comprehension-aware silence)."""

import numpy as np

from envs.abilities.world import Ability, Scene, SubTask, World
from envs.composition import GAP_S
from envs.planning import RESPOND_SHARE, ScenePlan, plan_scene


def _scene(rng: np.random.Generator, world: World, sub_task: str | None) -> ScenePlan:
    return plan_scene(world.sounds if sub_task is None else world.sounds_of(sub_task), rng)


def _turns_of(name: str) -> SubTask:
    def add(rng: np.random.Generator, world: World, scene: Scene) -> None:
        sounds = world.sounds_of(name)
        for _ in range(int(rng.integers(1, 3))):
            scene.add(sounds.draw(rng, "RESPOND" if rng.random() < RESPOND_SHARE else "IGNORE"), rng.uniform(*GAP_S))

    add.__doc__ = f"One or two sounds in the middle of a talk; one of {name.replace('_', ' ')} deserves a word."
    return add


ABILITY = Ability(
    "Proactive",
    {name: _turns_of(name) for name in ("distress", "natural_hazard", "equipment_or_fire", "safety_signal")},
    _scene,
)
