"""Translation: what is said in one language is to be said in the other, sentence by sentence."""

from dataclasses import replace

import numpy as np

from envs.abilities.world import Ability, Scene, World, reply_to, spoken
from envs.speech.utterance import Utterance


def _hear(rng: np.random.Generator, scene: Scene, utterance: Utterance, sub_task: str, gap_s: float) -> None:
    facts = utterance.translation_facts
    answer = reply_to(utterance.seconds, (utterance.translation,), facts, sub_task)
    scene.add(spoken(utterance, answer), gap_s)


def en_zh(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """English sentences, each translated into Chinese."""
    for _ in range(int(rng.integers(2, 5))):
        _hear(rng, scene, world.speech.translated(rng, "en"), "en_zh", rng.uniform(2.0, 3.2))


def zh_en(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Chinese sentences, each translated into English."""
    for _ in range(int(rng.integers(2, 5))):
        _hear(rng, scene, world.speech.translated(rng, "zh"), "zh_en", rng.uniform(2.0, 3.2))


def consecutive(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Two sentences in a row; both are translated when the speaker pauses."""
    for _ in range(int(rng.integers(1, 3))):
        first, second = world.speech.translated(rng, "en"), world.speech.translated(rng, "en")
        scene.add(spoken(first), rng.uniform(2.4, 3.2))
        joined = replace(
            second,
            translation=first.translation + second.translation,
            translation_facts=(*first.translation_facts, *second.translation_facts),
        )
        _hear(rng, scene, joined, "consecutive", rng.uniform(0.2, 0.5))


ABILITY = Ability("Translation", {"en_zh": en_zh, "zh_en": zh_en, "consecutive": consecutive})
