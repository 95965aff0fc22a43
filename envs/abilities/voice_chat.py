"""VoiceChat: the user talks to the agent, and each of the user's turns deserves a reply."""

import numpy as np

from envs.abilities.world import Ability, Scene, World, pick, say
from envs.speech.knowledge import ask
from envs.speech.utterance import Voice

_NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Laura", "Martin")
_TOWNS = ("London", "Boston", "Sydney", "Dublin", "Toronto", "Glasgow", "Denver", "Bristol")
_PETS = ("a dog", "a cat", "a parrot", "a rabbit", "a horse")
_FEELINGS = (
    ("sad", ("I lost my keys and I feel awful.", "My best friend moved away and I miss her."),
     ("I am sorry to hear that. I am here for you.", "That is sad. I am sorry."), ("sorry",)),
    ("happy", ("I passed my exam today, I am so happy!", "We are getting married, I am so happy!"),
     ("Congratulations! That is wonderful.", "How wonderful! Congratulations."), ("congratulation|wonderful",)),
    ("angry", ("My train was late again, I am so angry!", "They broke my bike and I am furious!"),
     ("That is annoying. I understand that you are angry.", "I understand. That would make anyone angry."),
     ("understand",)),
    ("afraid", ("I have to fly tomorrow and I am scared.", "There is a test on Monday and I am afraid."),
     ("It will be all right. Breathe slowly, you can do this.", "Do not worry, you can do this."), ("you can",)),
)  # fmt: skip
_PROSODY = {"sad": (130, 35, 30), "happy": (190, 65, 80), "angry": (195, 60, 85), "afraid": (180, 70, 45)}


def single_question(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """One question out of the blue."""
    question = ask(rng)
    voice = world.speech.voice(rng, "en")
    say(
        scene, world, voice, question.text, question.replies, question.facts,
        sub_task="single_question", gap_s=rng.uniform(0.8, 2.5),
    )  # fmt: skip


def multi_turn(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """Three to five questions by one speaker, each after the reply to the last."""
    voice = world.speech.voice(rng, "en")
    for turn in range(int(rng.integers(3, 6))):
        question = ask(rng)
        lead = pick(rng, ("And ", "Good. ", "Thank you. ", "")) if turn else ""
        say(scene, world, voice, lead + question.text, question.replies, question.facts, sub_task="multi_turn")


def emotional(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """A user who tells of a feeling, in a voice that shows it, wants to be understood."""
    feeling, texts, replies, facts = pick(rng, _FEELINGS)
    rate, pitch, span = _PROSODY[feeling]
    voice = world.speech.voice(rng, "en")
    moved = Voice(voice.name, rate, pitch, span)
    say(scene, world, moved, pick(rng, texts), replies, facts, sub_task="emotional", gap_s=rng.uniform(0.8, 2.5))


def interruption(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """The user asks, and asks something else while the answer is being said."""
    voice = world.speech.voice(rng, "en")
    first, second = ask(rng), ask(rng)
    say(scene, world, voice, first.text, first.replies, first.facts, sub_task="interruption", gap_s=1.2)
    text = pick(rng, ("Stop. ", "Wait. ", "No, sorry. ")) + second.text
    say(scene, world, voice, text, second.replies, second.facts, sub_task="interruption", gap_s=rng.uniform(0.6, 1.2))


def history_review(rng: np.random.Generator, world: World, scene: Scene) -> None:
    """A late question whose answer was told at least three rounds before."""
    voice = world.speech.voice(rng, "en")
    kind, told, asked = pick(
        rng,
        (
            ("name", "My name is {}.", "What did I say my name was?"),
            ("town", "I come from {}.", "Where did I say I come from?"),
            ("pet", "At home I have {}.", "Which animal did I say I have?"),
        ),
    )
    value = pick(rng, {"name": _NAMES, "town": _TOWNS, "pet": _PETS}[kind])
    fact = value.split()[-1]
    say(
        scene, world, voice, told.format(value), (f"Nice. I will remember {value}.", "Good to know."), (),
        sub_task="history_review", gap_s=1.2,
    )  # fmt: skip
    for _ in range(3):
        question = ask(rng)
        say(scene, world, voice, question.text, question.replies, question.facts, sub_task="history_review")
    say(scene, world, voice, asked, (f"You said {value}.", f"It was {value}."), (fact,), sub_task="history_review")


ABILITY = Ability(
    "VoiceChat",
    {
        "single_question": single_question,
        "multi_turn": multi_turn,
        "emotional": emotional,
        "interruption": interruption,
        "history_review": history_review,
    },
)
