"""What scenes are made of, and the few moves that all abilities plan them with."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from envs.clock import CHUNK_S
from envs.errors import ScenarioError
from envs.planning import RESPOND_SHARE, ScenePlan, heard_s
from envs.scenario import GRACE_S, SPEECH, Answer, Clip, Decision
from envs.sound_classes import SOUND_CLASSES
from envs.sources import ClipSource, OfSubTask
from envs.speech.utterance import SpeechSource, Utterance, Voice

AMBIENCE = tuple(
    "applause clock_tick cricket engine fan flowing_water music rain speech_babble train typing vacuum".split()
)
REPLY_S = 2.4  # of quiet after a question: the agent's turn
T = TypeVar("T")
ANSWER_GRACE_S = 3.0  # from the end of a question to its deadline
LAST_WORD_S = ANSWER_GRACE_S + 0.2  # room for the last deadline of a scene
URGENCY = 0.5  # of an answer in a talk: to be late is a pity and no danger


@dataclass(frozen=True)
class World:
    """Where sounds and speech come from."""

    sounds: ClipSource
    speech: SpeechSource
    _of_sub_task: dict[str, OfSubTask] = field(default_factory=dict, compare=False, repr=False)

    def sounds_of(self, sub_task: str) -> OfSubTask:
        """Return its sounds without those that deserve a reply of another sub-task.

        Raises:
            ScenarioError: when none that deserves a reply is left.
        """
        if sub_task not in self._of_sub_task:
            self._of_sub_task[sub_task] = OfSubTask(self.sounds, sub_task)
        return self._of_sub_task[sub_task]


@dataclass
class Scene:
    """A scene being planned: what is heard one after another, with the quiet before each, and what lies under it."""

    clips: list[Clip] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    background: list[Clip] = field(default_factory=list)
    ambient: list[Clip] = field(default_factory=list)  # all through the scene
    instruction: str = ""

    def add(self, clip: Clip, gap_s: float) -> None:
        """Let a clip follow after `gap_s` seconds."""
        self.clips.append(clip)
        self.gaps_s.append(gap_s)

    def follow_with(self, other: "Scene") -> None:
        """Let another scene's clips follow from the next chunk on, over its beds and under its instruction."""
        first, *rest = other.gaps_s
        self.gaps_s += [self.to_next_chunk_s + first, *rest]
        self.clips += other.clips
        self.background += other.background
        self.ambient += other.ambient
        self.instruction = f"{self.instruction} {other.instruction}".strip()

    @property
    def seconds(self) -> float:
        """Length so far."""
        return sum(heard_s(clip) for clip in self.clips) + sum(self.gaps_s)

    @property
    def to_next_chunk_s(self) -> float:
        """From the end so far to where the next chunk begins."""
        return math.ceil(self.seconds / CHUNK_S - 1e-9) * CHUNK_S - self.seconds

    def plan(self, tail_s: float) -> ScenePlan:
        """Return the plan of the scene, with `tail_s` seconds after its last clip."""
        chunks = math.ceil((self.seconds + tail_s) / CHUNK_S)
        return ScenePlan(
            tuple(self.clips),
            tuple(self.background),
            (),
            chunks,
            tuple(self.gaps_s),
            self.instruction,
            whole_scene=tuple(self.ambient),
        )


SubTask = Callable[[np.random.Generator, World, Scene], None]  # adds its turns to a scene


@dataclass(frozen=True)
class Ability:
    """A kind of task, with the sub-tasks it is made of.

    Attributes:
        name: As in the environment's id.
        sub_tasks: Each adds its turns to a scene.
        scene: Plans a whole scene of this ability alone, of one sub-task or of all; None: by the turns of a sub-task.
    """

    name: str
    sub_tasks: dict[str, SubTask]
    scene: Callable[[np.random.Generator, World, str | None], ScenePlan] | None = None


def spoken(utterance: Utterance, *answers: Answer, directed: bool = True) -> Clip:
    """Return an utterance as a clip; `directed`: the user speaks to the agent, and not to somebody else."""
    return Clip(
        audio=utterance.audio,
        label="speech",
        caption=f'a person says: "{utterance.text}"',
        domain=SPEECH,
        decision="RESPOND" if answers else "IGNORE",
        origin=utterance.speaker,
        answers=answers,
        directed=directed,
    )


def reply_to(
    seconds: float, replies: Sequence[str], facts: Sequence[str], sub_task: str, grace_s: float = ANSWER_GRACE_S
) -> Answer:
    """Return the answer that is due when `seconds` of a clip have been heard, which is when it can be known."""
    return Answer(
        replies=tuple(replies),
        key_facts=tuple(facts),
        urgency=URGENCY,
        criterion="",
        sub_task=sub_task,
        evidence_s=seconds,
        grace_s=grace_s,
    )


def say(
    scene: Scene,
    world: World,
    voice: Voice,
    text: str,
    replies: Sequence[str] = (),
    facts: Sequence[str] = (),
    *,
    sub_task: str,
    gap_s: float = REPLY_S,
) -> None:
    """Let the user say something after `gap_s`, which deserves one of `replies`, or nothing."""
    utterance = world.speech.say(text, voice)
    answers = [reply_to(utterance.seconds, replies, facts, sub_task)] if replies else []
    scene.add(spoken(utterance, *answers), gap_s)


def silent(clip: Clip) -> Clip:
    """Return a sound that deserves no word here, whatever it deserves elsewhere."""
    return replace(clip, decision="IGNORE", answers=())


def answered(clip: Clip, replies: Sequence[str], facts: Sequence[str], sub_task: str) -> Clip:
    """Return a sound that deserves these replies here: as soon as it can be known, and at the latest soon after it."""
    evidence_s = clip.answers[0].evidence_s if clip.answers else min(1.2, clip.seconds)
    return replace(clip, decision="RESPOND", answers=(reply_to(evidence_s, replies, facts, sub_task, GRACE_S),))


def draw_ambience(rng: np.random.Generator, world: World) -> Clip:
    """Draw a sound that goes on and on; any that deserves silence, where the world holds none."""
    labels = [label for label in AMBIENCE if label in world.sounds.labels_of("IGNORE")]
    return world.sounds.draw(rng, "IGNORE", pick(rng, labels) if labels else None)


def draw_sound(rng: np.random.Generator, world: World, without: Sequence[str] = ()) -> Clip:
    """Draw a foreground sound of any kind whose label is none of `without`."""
    for _ in range(64):
        clip = world.sounds.draw(rng, "RESPOND" if rng.random() < RESPOND_SHARE else "IGNORE")
        if clip.label not in without:
            return clip
    return clip


def sound_of(rng: np.random.Generator, world: World, label: str) -> Clip:
    """Draw a sound by its label, whatever it deserves elsewhere."""
    decision: Decision = "RESPOND" if label in world.sounds.labels_of("RESPOND") else "IGNORE"
    return world.sounds.draw(rng, decision, label)


def pick_labels(
    rng: np.random.Generator, world: World, count: int, among: Iterable[str] = SOUND_CLASSES, without: str = ""
) -> list[str]:
    """Draw different labels of the world's sounds, of built-in classes: what those are called is known.

    Raises:
        ScenarioError: when the world holds too few.
    """
    held = [label for label in among if label in world.sounds.labels and label != without]
    if len(held) < count:
        raise ScenarioError(
            f"such scenes need {count} kinds of sound out of {', '.join(among)}; the sounds given hold {len(held)};"
            " add recordings with these labels, or mix in the built-in sounds"
        )
    return [held[i] for i in rng.choice(len(held), count, replace=False).tolist()]


def in_words(label: str) -> str:
    """Return a label as it is said."""
    return label.replace("_", " ")


def name_of(clip: Clip) -> str:
    """Return what a sound may be called, as a key fact: the beginnings of its label's and caption's words."""
    words = [*clip.label.split("_"), *clip.caption.split()]
    return "|".join(dict.fromkeys(word[:4].lower() for word in words if len(word) > 3))


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """Draw one of several."""
    return items[int(rng.integers(len(items)))]
