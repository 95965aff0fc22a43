"""InstructionFollowing: the user says first what to do; what deserves a reply later follows from it."""

import numpy as np

from envs.abilities.world import (
    Ability,
    Scene,
    World,
    answered,
    draw_sound,
    in_words,
    name_of,
    pick_labels,
    say,
    silent,
    sound_of,
)
from envs.scenario import Clip
from envs.sound_classes import SOUND_CLASSES
from envs.speech.knowledge import spoken_number
from envs.speech.utterance import Voice

_COUNTABLE = {"dog": "a dog", "cat": "a cat", "doorbell": "the doorbell", "car_horn": "a car horn", "cow": "a cow"}
_OK = ("All right.", "I will.", "Of course.")


def _begin(rng: np.random.Generator, world: World, scene: Scene, text: str, sub_task: str) -> Voice:
    """Let the user give an instruction; it is acknowledged, and known as text, too."""
    voice = world.speech.voice(rng, "en")
    say(scene, world, voice, text, _OK, (), sub_task=sub_task, gap_s=rng.uniform(0.6, 1.5))
    scene.instruction = f"{scene.instruction} {text}".strip()
    return voice


def _describe(clip: Clip) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return replies that name a sound, and the word that they must not miss."""
    return (f"I hear that {clip.caption}.", f"That is the sound of: {in_words(clip.label)}."), (name_of(clip),)


def count_events(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Sounds of one kind are counted among others, and the number is told when it is asked for."""
    (target,) = pick_labels(rng, world, 1, _COUNTABLE)
    name = _COUNTABLE[target]
    voice = _begin(rng, world, scene, f"Count how often you hear {name}. I will ask you later.", "count_events")
    count, others = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    order = rng.permutation([True] * count + [False] * others)
    for is_target in order:
        clip = sound_of(rng, world, target) if is_target else draw_sound(rng, world, [target])
        scene.add(silent(clip), rng.uniform(0.8, 2.0))
    word = spoken_number(count)
    times = "once" if count == 1 else f"{word} times"
    say(
        scene, world, voice, f"How often did you hear {name}?",
        (f"I heard it {times}.", f"{word.capitalize()}."), (f"{word}|{count}|{times}",), sub_task="count_events",
    )  # fmt: skip


def notify_when(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """One kind of sound is waited for; it comes after others, or never."""
    (target,) = pick_labels(rng, world, 1)
    caption = SOUND_CLASSES[target].caption
    _begin(rng, world, scene, f"Tell me as soon as you hear this: {caption}.", "notify_when")
    for _ in range(int(rng.integers(1, 4))):
        scene.add(silent(draw_sound(rng, world, [target])), rng.uniform(0.8, 2.0))
    if rng.random() < 0.8:
        clip = sound_of(rng, world, target)
        replies = (f"Now {caption}.", f"I hear it: {caption}.")
        scene.add(answered(clip, replies, (name_of(clip),), "notify_when"), rng.uniform(0.8, 2.0))


def narrate(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Every sound is described as it comes."""
    _begin(rng, world, scene, "Describe every sound that you hear.", "narrate")
    for _ in range(int(rng.integers(2, 5))):
        clip = draw_sound(rng, world)
        scene.add(answered(clip, *_describe(clip), "narrate"), rng.uniform(1.6, 2.6))


def conditional(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Two kinds of sound, a reply for each; all others deserve silence."""
    first, second = pick_labels(rng, world, 2)
    said = {first: "red", second: "blue"}
    conditions = [f"if {SOUND_CLASSES[label].caption}, say {word}" for label, word in said.items()]
    _begin(rng, world, scene, f"Please {conditions[0]}, and {conditions[1]}.", "conditional")
    labels = [first, second, *(None for _ in range(int(rng.integers(1, 3))))]
    for index in rng.permutation(len(labels)):
        label = labels[index]
        if label is None:
            clip = silent(draw_sound(rng, world, (first, second)))
        else:
            word = said[label]
            clip = answered(sound_of(rng, world, label), (f"{word.capitalize()}.",), (word,), "conditional")
        scene.add(clip, rng.uniform(1.2, 2.2))


def change_of_instruction(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """What is waited for changes on the way; the first kind deserves silence from then on."""
    first, second = pick_labels(rng, world, 2)
    captions = {label: SOUND_CLASSES[label].caption for label in (first, second)}
    task = "change_of_instruction"
    voice = _begin(rng, world, scene, f"Tell me when {captions[first]}.", task)
    clip = sound_of(rng, world, first)
    scene.add(answered(clip, (f"Now {captions[first]}.",), (name_of(clip),), task), rng.uniform(1.2, 2.2))
    text = f"Forget that. From now on tell me when {captions[second]}."
    say(scene, world, voice, text, _OK, (), sub_task=task)
    scene.instruction += f" {text}"
    for label in rng.permutation([first, second]):
        clip = sound_of(rng, world, str(label))
        due = answered(clip, (f"Now {captions[second]}.",), (name_of(clip),), task) if label == second else silent(clip)
        scene.add(due, rng.uniform(1.2, 2.2))


ABILITY = Ability(
    "InstructionFollowing",
    {
        "count_events": count_events,
        "notify_when": notify_when,
        "narrate": narrate,
        "conditional": conditional,
        "change_of_instruction": change_of_instruction,
    },
)
