"""EnvironmentAgent: what surrounds the talk decides whether and how to speak."""

import numpy as np

from envs.abilities.world import (
    Ability,
    Scene,
    World,
    draw_ambience,
    draw_sound,
    name_of,
    pick,
    pick_labels,
    say,
    silent,
    sound_of,
    spoken,
)
from envs.speech.knowledge import ask

_LOUD = ("vacuum", "engine", "train", "rain", "applause", "speech_babble")


def adapt_to_noise(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """A question in loud surroundings: the answer comes short and says that it is loud."""
    (loud,) = pick_labels(rng, world, 1, _LOUD)
    scene.ambient.append(silent(sound_of(rng, world, loud)))
    question = ask(rng)
    fact = question.facts[0].split("|")[0]
    say(
        scene, world, world.speech.voice(rng, "en"), question.text,
        (f"It is loud, so in short: {fact}.", f"In this noise, briefly: {fact}."),
        (*question.facts, "loud|nois"), sub_task="adapt_to_noise", gap_s=rng.uniform(1.0, 2.0),
    )  # fmt: skip


def question_about_background(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """The user asks what can be heard behind the talk."""
    bed = draw_ambience(rng, world)
    scene.ambient.append(bed)
    text = pick(rng, ("What is that noise in the background?", "What do you hear around me?"))
    replies = (f"In the background {bed.caption}.", f"I hear that {bed.caption}.")
    say(
        scene, world, world.speech.voice(rng, "en"), text, replies, (name_of(bed),),
        sub_task="question_about_background", gap_s=rng.uniform(2.0, 4.0),
    )  # fmt: skip


def non_directed_speech(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Two people talk to each other, and the agent stays silent; half of the time it is asked at the end."""
    voices = [world.speech.voice(rng, "en"), world.speech.voice(rng, "en")]
    for turn in range(int(rng.integers(2, 5))):
        question = ask(rng)
        text = question.text if turn % 2 == 0 else question.replies[0]
        name = pick(rng, ("Anna, ", "Tom, ", "")) if turn % 2 == 0 else ""
        scene.add(spoken(world.speech.say(name + text, voices[turn % 2]), directed=False), rng.uniform(0.3, 0.8))
    if rng.random() < 0.5:
        question = ask(rng)
        say(
            scene, world, voices[0], f"Computer, {question.text}", question.replies, question.facts,
            sub_task="non_directed_speech", gap_s=rng.uniform(1.0, 2.0),
        )  # fmt: skip
    else:
        scene.add(silent(draw_sound(rng, world)), rng.uniform(1.0, 2.0))


ABILITY = Ability(
    "EnvironmentAgent",
    {
        "adapt_to_noise": adapt_to_noise,
        "question_about_background": question_about_background,
        "non_directed_speech": non_directed_speech,
    },
)
