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
from envs.abilities.world import LAST_WORD_S, Ability, Scene, World, draw_ambience, pick
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
_MIXED_IN = (  # and the shares of mixed scenes that hold such a turn, where there is room (paper, stage 4)
    ("Proactive", None, 0.3),
    ("EnvironmentAgent", "non_directed_speech", 0.4),
    ("VoiceChat", "history_review", 0.3),
)
_FEWEST_CLIPS, _MOST_CLIPS = 3, 15
_MISFITS = 3  # after so many, a scene is full
_ATTEMPTS = 16  # to find three clips that fit together


@dataclass(frozen=True)
class AbilityScenarios:
    """The scenario of every seed of one ability, or of all of them mixed.

    Raises:
        ScenarioError: for an unknown ability or sub-task.
    """

    ability: str
    world: World
    sub_task: str | None = None
    chunks: tuple[int, int] = (60, 120)  # of mixed scenes, 24 to 48 s; the paper trains on at most 60

    def __post_init__(self) -> None:
        if self.ability != MIXED and self.ability not in ABILITIES:
            raise ScenarioError(
                f"no ability is called {self.ability!r}{did_you_mean(self.ability, [*ABILITIES, MIXED])}"
            )
        if self.ability == MIXED and self.sub_task is not None:
            raise ScenarioError(f"Mixed scenes are of all sub-tasks, {self.sub_task!r} among them; name an ability")
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
        ability, scene = ABILITIES[self.ability], Scene()
        if ability.scene is not None:
            return ability.scene(rng, self.world, self.sub_task)
        ability.sub_tasks[self.sub_task or pick(rng, list(ability.sub_tasks))](rng, self.world, scene)
        _lay_beds(rng, self.world, scene)
        return scene.plan(LAST_WORD_S + float(rng.uniform(0.0, 2.0)))

    def _mixed(self, rng: np.random.Generator) -> ScenePlan:
        """Chain turns of all abilities, 3 to 15 clips, in any order."""
        num_chunks, scene = int(rng.integers(self.chunks[0], self.chunks[1] + 1)), Scene()
        turns = self._turns(rng, num_chunks)
        for index in rng.permutation(len(turns)):
            scene.follow_with(turns[index])
        _lay_beds(rng, self.world, scene)
        return scene.plan(max(num_chunks * CHUNK_S - scene.seconds, LAST_WORD_S))

    def _turns(self, rng: np.random.Generator, num_chunks: int) -> list[Scene]:
        """Draw turns as long as they fit; some scenes have what the paper mixes in, at its rates."""
        for _ in range(_ATTEMPTS):
            turns, misfits, clips = list[Scene](), 0, 0
            room_s = num_chunks * CHUNK_S - LAST_WORD_S
            wanted = [(ability, sub_task) for ability, sub_task, share in _MIXED_IN if rng.random() < share]
            while misfits < _MISFITS and clips < _MOST_CLIPS:
                ability, sub_task = wanted.pop() if wanted else (pick(rng, list(ABILITIES)), None)
                turn = self._turn(rng, ABILITIES[ability], sub_task)
                if turn.ambient and any(other.ambient for other in turns):
                    continue  # each would be about what the other lays under the whole scene
                needed_s = turn.seconds + turn.to_next_chunk_s
                if needed_s > room_s or clips + len(turn.clips) > _MOST_CLIPS:
                    misfits += 1
                else:
                    turns.append(turn)
                    room_s, clips = room_s - needed_s, clips + len(turn.clips)
            if clips >= _FEWEST_CLIPS:
                return turns
        raise ScenarioError(
            f"a mixed scene of {num_chunks} chunks has no room for {_FEWEST_CLIPS} turns; allow more chunks"
        )

    def _turn(self, rng: np.random.Generator, ability: Ability, sub_task: str | None) -> Scene:
        turn = Scene()
        ability.sub_tasks[sub_task or pick(rng, list(ability.sub_tasks))](rng, self.world, turn)
        return turn


def _lay_beds(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Put up to two sounds that deserve silence under the scene, and one of its surroundings where there is none."""
    scene.background += [world.sounds.draw(rng, "IGNORE") for _ in range(int(rng.integers(0, 3)))]
    if not scene.ambient:
        scene.ambient.append(draw_ambience(rng, world))
