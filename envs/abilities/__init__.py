"""The seven abilities and their 28 sub-tasks, and scenes that mix them (paper, StreamAudio-2M)."""

from dataclasses import dataclass

import numpy as np

from envs.abilities import (
    audio_understanding,
    environment_agent,
    instruction_following,
    proactive,
    speech_recognition,
    translation,
    voice_chat,
)
from envs.abilities.world import LAST_WORD_S, Ability, Scene, World
from envs.clock import CHUNK_S
from envs.composition import compose
from envs.errors import ScenarioError, did_you_mean
from envs.planning import ScenePlan
from envs.scenario import Scenario

ABILITIES: dict[str, Ability] = {
    module.ABILITY.name: module.ABILITY
    for module in (
        voice_chat,
        instruction_following,
        audio_understanding,
        translation,
        speech_recognition,
        proactive,
        environment_agent,
    )
}
MIXED = "Mixed"
_PROACTIVE, _REVIEW, _SILENT = 0.3, 0.3, 0.4  # shares of mixed scenes that hold such a turn (paper, stage 4)
_MOST_TURNS, _MISFITS = 15, 12


@dataclass(frozen=True)
class AbilityScenarios:
    """The scenario of every seed of one ability, or of all of them mixed.

    Raises:
        ScenarioError: for an unknown ability or sub-task.
    """

    ability: str
    world: World
    sub_task: str | None = None
    chunks: tuple[int, int] = (40, 60)  # of mixed scenes; others are as long as they have to be

    def __post_init__(self) -> None:
        if self.ability != MIXED and self.ability not in ABILITIES:
            raise ScenarioError(
                f"no ability is called {self.ability!r}{did_you_mean(self.ability, [*ABILITIES, MIXED])}"
            )
        known = [] if self.ability == MIXED else list(ABILITIES[self.ability].sub_tasks)
        if self.sub_task is not None and self.sub_task not in known:
            raise ScenarioError(f"{self.ability} has no sub-task {self.sub_task!r}{did_you_mean(self.sub_task, known)}")

    def __call__(self, seed: int) -> Scenario:
        """Return the scenario of `seed`: same seed, same bytes."""
        return compose(self.plan(seed), seed, self.ability)

    def plan(self, seed: int) -> ScenePlan:
        """Return what is heard in the scenario of `seed`, and when."""
        rng = np.random.default_rng([seed, 0xAB])
        return self._mixed(rng) if self.ability == MIXED else self._plain(rng)

    def _plain(self, rng: np.random.Generator) -> ScenePlan:
        sub_tasks, scene = ABILITIES[self.ability].sub_tasks, Scene()
        name = self.sub_task or str(rng.choice(list(sub_tasks)))
        sub_tasks[name](rng, self.world, scene)
        _lay_beds(rng, self.world, scene)
        return scene.plan(LAST_WORD_S + float(rng.uniform(0.0, 2.0)))

    def _mixed(self, rng: np.random.Generator) -> ScenePlan:
        """Chain turns of all abilities as long as they fit; some scenes have what the paper mixes in, at its rates."""
        num_chunks, scene = int(rng.integers(self.chunks[0], self.chunks[1] + 1)), Scene()
        wanted = [
            (ABILITIES[ability], name)
            for ability, name, share in (
                ("VoiceChat", "history_review", _REVIEW),
                ("Proactive", None, _PROACTIVE),
                ("EnvironmentAgent", "non_directed_speech", _SILENT),
            )
            if rng.random() < share
        ]
        rng.shuffle(wanted)
        misfits = 0
        while misfits < _MISFITS and len(scene.clips) < _MOST_TURNS:
            ability, name = wanted.pop() if wanted else (ABILITIES[str(rng.choice(list(ABILITIES)))], None)
            turn = Scene()
            ability.sub_tasks[name or str(rng.choice(list(ability.sub_tasks)))](rng, self.world, turn)
            if scene.seconds + turn.seconds + LAST_WORD_S > num_chunks * CHUNK_S:
                misfits += 1
            else:
                scene.follow_with(turn)
        _lay_beds(rng, self.world, scene)
        return scene.plan(max(num_chunks * CHUNK_S - scene.seconds, LAST_WORD_S))


def _lay_beds(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Put up to two sounds that deserve silence under the scene, and one of its surroundings where there is none."""
    scene.background += [world.sounds.draw(rng, "IGNORE") for _ in range(int(rng.integers(0, 3)))]
    if not scene.ambient:
        scene.ambient.append(world.sounds.draw(rng, "IGNORE"))
