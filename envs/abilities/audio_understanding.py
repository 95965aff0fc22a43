"""AudioUnderstanding: sounds first, then a question about them."""

from collections.abc import Sequence

import numpy as np

from envs.abilities.world import (
    Ability,
    Scene,
    World,
    draw_sound,
    in_words,
    name_of,
    pick,
    pick_labels,
    say,
    silent,
    sound_of,
)
from envs.scenario import Clip

_SCENES = {
    "a kitchen": ("dishes", "faucet", "kettle_whistle"),
    "an office": ("typing", "switch", "paper"),
    "a farm": ("cow", "sheep", "chicken", "donkey"),
    "a street": ("engine", "car_horn", "siren"),
    "a forest": ("bird", "cricket", "flowing_water"),
    "a railway": ("train", "cart"),
}
_SCENE_FACTS = {"a railway": "rail|train"}
_MUSIC_FACTS = {"guitar": "guitar", "note": "note|tone", "music": "music|melod", "whistling": "whistl"}


def _hear(rng: np.random.Generator, scene: Scene, clip: Clip) -> None:
    scene.add(silent(clip), rng.uniform(0.8, 2.0))


def _ask(
    rng: np.random.Generator, world: World, scene: Scene, sub_task: str, text: str, replies: Sequence[str], fact: str
) -> None:
    voice = world.speech.voice(rng, "en")
    say(scene, world, voice, text, replies, (fact,), sub_task=sub_task, gap_s=rng.uniform(0.4, 1.2))


def describe_event(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """One sound, and the question what it was."""
    clip = draw_sound(rng, world)
    _hear(rng, scene, clip)
    text = pick(rng, ("What was that sound?", "What did you just hear?", "Please describe that sound."))
    replies = (f"I heard that {clip.caption}.", f"That was this: {clip.caption}.")
    _ask(rng, world, scene, "describe_event", text, replies, name_of(clip))


def open_question(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Two sounds, and which of them came first or last."""
    first = draw_sound(rng, world)
    second = draw_sound(rng, world, [first.label])
    for clip in (first, second):
        _hear(rng, scene, clip)
    which, clip = pick(rng, (("first", first), ("last", second)))
    replies = (f"The {which} sound was this: {clip.caption}.", f"{clip.caption.capitalize()}.")
    _ask(rng, world, scene, "open_question", f"Which sound came {which}?", replies, name_of(clip))


def multiple_choice(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """One sound and three options, of which one letter is right."""
    clip = draw_sound(rng, world)
    _hear(rng, scene, clip)
    others = [in_words(label) for label in pick_labels(rng, world, 2, without=clip.label)]
    right = int(rng.integers(3))
    options = [*others[:right], in_words(clip.label), *others[right:]]
    listed = ", ".join(f"{letter}, {option}" for letter, option in zip("ABC", options, strict=True))
    letter = "ABC"[right]
    replies = (f"{letter}, {in_words(clip.label)}.", f"The answer is {letter}.")
    _ask(rng, world, scene, "multiple_choice", f"Was that {listed}?", replies, letter)


def music(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """A piece of music, and what plays it."""
    (label,) = pick_labels(rng, world, 1, _MUSIC_FACTS)
    clip = sound_of(rng, world, label)
    _hear(rng, scene, clip)
    replies = (f"I heard that {clip.caption}.", f"{clip.caption.capitalize()}.")
    _ask(rng, world, scene, "music", "What kind of music was that?", replies, _MUSIC_FACTS[label])


def scene(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Sounds of one place, and the question where it is."""
    held = {place: [sound for sound in sounds if sound in world.sounds.labels] for place, sounds in _SCENES.items()}
    place = pick(rng, [place for place, sounds in held.items() if len(sounds) > 1] or list(held))
    for label in pick_labels(rng, world, 2, _SCENES[place]):
        _hear(rng, scene, sound_of(rng, world, label))
    fact = _SCENE_FACTS.get(place, place.split()[-1])
    _ask(rng, world, scene, "scene", "Where am I?", (f"It sounds like {place}.", f"You may be in {place}."), fact)


ABILITY = Ability(
    "AudioUnderstanding",
    {
        "describe_event": describe_event,
        "open_question": open_question,
        "multiple_choice": multiple_choice,
        "music": music,
        "scene": scene,
    },
)
