"""SpeechRecognition: a partial transcript after every chunk in which a word has ended."""

import math
from dataclasses import replace

import numpy as np

from envs.abilities.world import Ability, Scene, World, draw_ambience, reply_to, spoken
from envs.clock import CHUNK_S
from envs.scenario import Answer
from envs.speech.utterance import Utterance, Word

_GRACE_S = 1.2  # three chunks: what comes later is no live transcript


def _partials(utterance: Utterance, sub_task: str) -> tuple[Answer, ...]:
    """Return an answer for every chunk in which words end; the utterance begins with a chunk."""
    by_chunk: dict[int, list[Word]] = {}
    for word in utterance.words:
        by_chunk.setdefault(math.ceil(word.end_s / CHUNK_S - 1e-9), []).append(word)
    answers = []
    for chunk, words in by_chunk.items():
        heard_s = min(chunk * CHUNK_S, utterance.seconds)
        texts = [word.text for word in words]
        answer = reply_to(heard_s, (" ".join(texts),), texts, sub_task, _GRACE_S)
        answers.append(replace(answer, onset_s=min(words[0].start_s, heard_s - 0.01), due_s=heard_s))
    return tuple(answers)


def _speak(rng: np.random.Generator, world: World, scene: Scene, sub_task: str, sentences: int) -> None:
    for _ in range(sentences):
        utterance = world.speech.sentence(rng, "en")
        gap_s = scene.to_next_chunk_s + CHUNK_S * int(rng.integers(2, 5))
        scene.add(spoken(utterance, *_partials(utterance, sub_task)), gap_s)


def clean(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """One speaker in quiet."""
    _speak(rng, world, scene, "clean", int(rng.integers(1, 4)))


def noisy(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """One speaker over noise of the household or the street."""
    scene.ambient += [draw_ambience(rng, world) for _ in range(2)]
    _speak(rng, world, scene, "noisy", int(rng.integers(1, 4)))


def multi_speaker(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Several speakers, one after another."""
    _speak(rng, world, scene, "multi_speaker", int(rng.integers(2, 5)))


ABILITY = Ability("SpeechRecognition", {"clean": clean, "noisy": noisy, "multi_speaker": multi_speaker})
