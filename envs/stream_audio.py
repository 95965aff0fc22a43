"""StreamAudio-2M on disk: its items, and the released trainer's, as scenarios to train on and to be judged by.

An item is `{"id", "stream_scene_type", "num_turns", "turns": [{"user", "assistant", "emotion", "scene_type",
"audio_path"}]}` (paper, section on data). The trainer's own lines are `{"conversation": [{"audio_path", "assistant",
"emotion"}]}` and `{"merge_path", "assistant", "emotion"}`; offline ones are `{"user"?, "assistant", "audio_path"}`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.abilities import MIXED
from envs.abilities.world import LAST_WORD_S, REPLY_S, Scene, reply_to, spoken
from envs.audio import read_audio
from envs.composition import GAP_S, compose
from envs.errors import AudioError, ManifestError, ScenarioError
from envs.records import ALLOW_BROKEN, BrokenRecord, BrokenTally, missing, read_json_records
from envs.scenario import Clip, Scenario
from envs.speech.utterance import Utterance

SILENCE = "<no need to response>"  # what a turn says that deserves no reply
_ABILITIES = {
    "VoiceChat": "chat",
    "InstructionFollowing": "instruction",
    "AudioUnderstanding": "audio understanding",
    "Translation": "translation",
    "SpeechRecognition": "asr|speech recognition",
    "Proactive": "proactive",
    "EnvironmentAgent": "environment",
}
_MOST_MISSES = 100  # broken items in a row, which no corpus with few of them gives


class _UnusableError(ValueError):
    """Why an item cannot be used."""


@dataclass(frozen=True)
class Turn:
    """A clip of an item and what deserves to be said at its end: nothing, where `assistant` is blank."""

    path: str  # in the folder
    user: str
    assistant: str
    sub_task: str


@dataclass(frozen=True)
class Item:
    """One stream of the corpus, and where it stands."""

    file: Path
    line: int
    ability: str
    instruction: str  # of an offline item
    turns: tuple[Turn, ...]

    def broken(self, reason: str) -> BrokenRecord:
        """Return this item as one that cannot be used."""
        return BrokenRecord(self.file, self.line, reason)


class StreamAudioScenarios:
    """The items of a folder or file: the scenario of a seed is item `seed % len`, in noise that follows from the seed.

    Each turn is a foreground clip; its reply is due at the end of the clip.

    Args:
        place: A JSONL file, a file of one JSON list, or a folder of such files; its clips lie beside or below it.
        allow_broken: The share of items that may be broken; corrupt clips show when they are drawn, and the next item
            is played then.

    Raises:
        ManifestError: when there is no such file, a path leads out of the folder, or more than `allow_broken` of the
            items cannot be used; the first of them is named.
    """

    def __init__(self, place: Path, allow_broken: float = ALLOW_BROKEN) -> None:
        self.folder, files = _files(place)
        entries = [entry for file in files for entry in _read(self.folder, file)]
        if not entries:
            raise ManifestError(f"{place}: holds no items")
        self._tally = BrokenTally(place, len(entries), allow_broken)
        self._tally.add(entry for entry in entries if isinstance(entry, BrokenRecord))
        self._tally.warn()
        self.items = tuple(entry for entry in entries if isinstance(entry, Item))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def broken(self) -> tuple[BrokenRecord, ...]:
        """What was left out so far."""
        return tuple(self._tally.found)

    def __call__(self, seed: int) -> Scenario:
        """Return the scenario of `seed`: same seed, same bytes.

        Raises:
            ManifestError: when more items than allowed have proved broken.
        """
        for miss in range(_MOST_MISSES):
            item = self.items[(seed + miss) % len(self.items)]
            try:
                clips = [_clip(self.folder, item, turn) for turn in item.turns]
            except AudioError as error:
                self._tally.meet(item.broken(str(error)))
            else:
                return compose(_scene(item, clips, seed).plan(LAST_WORD_S), seed, item.ability)
        raise ScenarioError(f"{self.folder}: {_MOST_MISSES} items in a row have broken clips; repair them")


def _files(place: Path) -> tuple[Path, list[Path]]:
    """Return the folder of a corpus and the files that hold its items."""
    if place.is_file():
        return place.parent, [place]
    files = sorted(path for path in place.glob("*.json*") if path.suffix in (".json", ".jsonl"))
    if not files:
        raise ManifestError(f"{place}: no such file, and no folder that holds items in .json or .jsonl files")
    return place, files


def _read(folder: Path, file: Path) -> Iterator[Item | BrokenRecord]:
    for found in read_json_records(file):
        if isinstance(found, BrokenRecord):
            yield found
            continue
        line, value = found
        try:
            item = _item(file, line, value)
        except _UnusableError as error:
            yield BrokenRecord(file, line, str(error))
            continue
        gone = [missing(folder, turn.path, f"{file}, line {line}") for turn in item.turns]
        reason = next(filter(None, gone), "")
        yield item.broken(reason) if reason else item


def _item(file: Path, line: int, value: Any) -> Item:
    """Return the item that a JSON value describes, in any of the released forms."""
    if not isinstance(value, dict):
        raise _UnusableError(f"expected an object, got {type(value).__name__}")
    form = next((key for key in ("turns", "conversation", "merge_path", "assistant") if key in value), None)
    if form is None:
        raise _UnusableError(f"expected turns, conversation, merge_path or assistant, got {sorted(value)}")
    turns = value[form] if form in ("turns", "conversation") else [value]
    if not isinstance(turns, list) or not turns:
        raise _UnusableError(f"{form} holds no list of turns")
    if form == "turns" and value.get("num_turns", len(turns)) != len(turns):
        raise _UnusableError(f"num_turns is {value['num_turns']!r}, and there are {len(turns)} turns")
    scene = _text(value, "stream_scene_type")
    key = "merge_path" if form == "merge_path" else "audio_path"
    offline = form == "assistant"
    return Item(
        file,
        line,
        _ability(_text(value, "id"), scene),
        _text(value, "user") if offline else "",
        tuple(_turn(turn, key, scene, offline) for turn in turns),
    )


def _turn(value: Any, key: str, scene: str, offline: bool) -> Turn:
    if not isinstance(value, dict):
        raise _UnusableError(f"a turn is no object but {type(value).__name__}")
    path, assistant = _text(value, key), _text(value, "assistant")
    if not path:
        raise _UnusableError(f"{key} is missing: words alone make no stream")
    if not assistant:
        raise _UnusableError(f"assistant is blank, expected a reply or {SILENCE!r}")
    user = "" if offline else _text(value, "user")
    sub_task = _text(value, "scene_type") or scene
    return Turn(path, user, "" if assistant == SILENCE else assistant, sub_task)


def _text(value: dict[str, Any], key: str) -> str:
    """Return a text of an object; blank where it is missing or null."""
    text = value.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise _UnusableError(f"{key} is {text!r}, expected text")
    return text.strip()


def _ability(*names: str) -> str:
    """Return the ability that the first of several names speaks of: the id, since a scene may be called "Chat Room".

    >>> _ability("voice_chatting_000123", "Office Environment")
    'VoiceChat'
    """
    for name in names:
        words = " ".join(re.findall("[a-z]+", name.lower()))
        for ability, sign in _ABILITIES.items():
            if re.search(rf"\b({sign})", words) or ability.lower() in words:
                return ability
    return MIXED


def _clip(folder: Path, item: Item, turn: Turn) -> Clip:
    """Read a turn's clip.

    Raises:
        AudioError: when it cannot be used, or is silent and yet to be answered.
    """
    audio = read_audio(folder / turn.path)
    if turn.assistant and not audio.any():
        raise AudioError(f"{folder / turn.path}: holds nothing but silence, and its turn has a reply")
    utterance = Utterance(audio, turn.user, (), turn.path)
    answers = [reply_to(utterance.seconds, (turn.assistant,), (), turn.sub_task)] if turn.assistant else []
    # in the domain of speech whatever it holds: a turn is heard to its end, where its reply is due
    clip = spoken(utterance, *answers, directed=bool(answers) and item.ability != "Proactive")
    return clip if turn.user else replace(clip, label="turn", caption=turn.sub_task or "a turn of the stream")


def _scene(item: Item, clips: Sequence[Clip], seed: int) -> Scene:
    """Let the turns follow each other, with room for the replies."""
    rng = np.random.default_rng([seed, 0x5A])
    scene, room_s = Scene(instruction=item.instruction), 0.0
    for clip in clips:
        scene.add(clip, room_s + float(rng.uniform(*GAP_S)))
        room_s = REPLY_S if clip.answers else 0.0
    return scene
