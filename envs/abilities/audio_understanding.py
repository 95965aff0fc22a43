"""AudioUnderstanding: sounds first, then a question about them."""

import numpy as np

from envs.abilities.world import Ability, Scene, World, draw_sound, name_of, pick, say, silent
from envs.scenario import Clip
from envs.sound_classes import SOUND_CLASSES
from envs.speech.utterance import Voice

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


def _name(clip: Clip) -> str:
    return clip.label.replace("_", " ")


def _ask(
    rng: np.random.Generator,
    world: World,
    scene: Scene,
    text: str,
    replies: tuple[str, ...],
    facts: tuple[str, ...],
    sub_task: str,
    voice: Voice | None = None,
) -> None:
    speaker = voice or world.speech.voice(rng, "en")
    say(scene, world, speaker, text, replies, facts, sub_task=sub_task, gap_s=rng.uniform(0.4, 1.2))


def describe_event(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """One sound, and the question what it was."""
    clip = draw_sound(rng, world)
    _hear(rng, scene, clip)
    text = pick(rng, ("What was that sound?", "What did you just hear?", "Please describe that sound."))
    _ask(
        rng,
        world,
        scene,
        text,
        (f"I heard that {clip.caption}.", f"That was this: {clip.caption}."),
        (name_of(clip),),
        "describe_event",
    )


def open_question(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Two sounds, and which of them came first or last."""
    first = draw_sound(rng, world)
    second = draw_sound(rng, world, [first.label])
    for clip in (first, second):
        _hear(rng, scene, clip)
    which, clip = pick(rng, (("first", first), ("last", second)))
    text = f"Which sound came {which}?"
    _ask(
        rng,
        world,
        scene,
        text,
        (f"The {which} sound was this: {clip.caption}.", f"{clip.caption.capitalize()}."),
        (name_of(clip),),
        "open_question",
    )


def multiple_choice(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """One sound and three options, of which one letter is right."""
    clip = draw_sound(rng, world)
    _hear(rng, scene, clip)
    known = [label for label in world.sounds.labels if label in SOUND_CLASSES and label != clip.label]
    others = [known[i].replace("_", " ") for i in rng.choice(len(known), 2, replace=False)]
    right = int(rng.integers(3))
    options = [*others[:right], _name(clip), *others[right:]]
    letters = "A B C".split()
    listed = ", ".join(f"{letter}, {option}" for letter, option in zip(letters, options, strict=True))
    letter = letters[right]
    replies = (f"{letter}, {_name(clip)}.", f"The answer is {letter}.")
    _ask(rng, world, scene, f"Was that {listed}?", replies, (letter,), "multiple_choice")


def music(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """A piece of music, and what plays it."""
    labels = [label for label in world.sounds.labels if label in _MUSIC_FACTS]
    label = pick(rng, labels)
    clip = world.sounds.draw(rng, SOUND_CLASSES[label].decision, label)
    _hear(rng, scene, clip)
    _ask(
        rng,
        world,
        scene,
        "What kind of music was that?",
        (f"I heard that {clip.caption}.", f"{clip.caption.capitalize()}."),
        (_MUSIC_FACTS[label],),
        "music",
    )


def scene(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Sounds of one place, and the question where it is."""
    possible = {place: [s for s in sounds if s in world.sounds.labels] for place, sounds in _SCENES.items()}
    place = pick(rng, [place for place, sounds in possible.items() if len(sounds) > 1])
    for label in rng.choice(possible[place], 2, replace=False):
        _hear(rng, scene, world.sounds.draw(rng, SOUND_CLASSES[str(label)].decision, str(label)))
    fact = _SCENE_FACTS.get(place, place.split()[-1])
    _ask(rng, world, scene, "Where am I?", (f"It sounds like {place}.", f"You may be in {place}."), (fact,), "scene")


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
