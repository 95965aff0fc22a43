"""Scenes: which clips stand in the foreground, in which order, over what (paper, event curation)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.clip_library import ClipLibrary
from envs.clock import CHUNK_S, chunks_to_cover
from envs.errors import ScenarioError
from envs.scenario import SPEECH, Clip, Decision
from envs.sources import ClipSource

RESPOND_SHARE = 0.4  # of the foreground sounds
BACKGROUND = (0, 2)  # sounds that lie under the foreground
SILENT_SCENES = 0.15  # share of scenes in which nothing deserves a reply
LONGEST_CLIP_S = 5.0
TAIL_S = 2.4  # room for the last deadline
MEAN_GAP_S = 1.2  # what a scene is filled by; composition squeezes gaps where their draw comes out longer
MOST_FOREGROUND = 8
SHORT_S = 2.0
_MISFITS = 3  # after so many, the scene is full
_LOOK_AHEAD = 24
_MOST_DRAWS = 32  # for the beds of a scene; then a recording may come again: a small library may hold no other


@dataclass(frozen=True)
class ScenePlan:
    """The clips of one scene, by role."""

    foreground: tuple[Clip, ...]
    background: tuple[Clip, ...]
    ambient: tuple[Clip, ...]
    num_chunks: int
    gaps_s: tuple[float, ...] = ()  # of quiet before each foreground clip; empty: drawn by composition
    instruction: str = ""  # what the user asked for, where it is said in the stream
    whole_scene: tuple[Clip, ...] = ()  # ambience that lasts from the first chunk to the last: its clips are looped


def heard_s(clip: Clip) -> float:
    """Return how many seconds of a clip a scene takes: all of what is said, at most five of any other sound."""
    return clip.seconds if clip.domain == SPEECH else min(clip.seconds, LONGEST_CLIP_S)


def plan_scene(
    source: ClipSource,
    rng: np.random.Generator,
    *,
    respond_share: float = RESPOND_SHARE,
    chunks: tuple[int, int] = (40, 60),
    background: tuple[int, int] = BACKGROUND,
) -> ScenePlan:
    """Plan one scene of `chunks` (least, most) chunks, with `background` (least, most) sounds under its foreground.

    Raises:
        ScenarioError: when the source holds no IGNORE clip.
    """
    if not source.has("IGNORE"):
        raise ScenarioError("scenes need IGNORE clips for their background; the clips given hold none")
    num_chunks = int(rng.integers(chunks[0], chunks[1] + 1))
    share = 0.0 if rng.random() < SILENT_SCENES or not source.has("RESPOND") else respond_share
    foreground: list[Clip] = []
    room_s, misfits = num_chunks * CHUNK_S - TAIL_S, list[Clip]()
    while len(misfits) < _MISFITS and len(foreground) < MOST_FOREGROUND:
        decision: Decision = "RESPOND" if rng.random() < share else "IGNORE"
        clip = source.draw(rng, decision)
        if clip.seconds + MEAN_GAP_S <= room_s and fits_scene(clip, foreground):
            foreground.append(clip)
            room_s -= clip.seconds + MEAN_GAP_S
        else:
            misfits.append(clip)
    return _with_beds(source, foreground, num_chunks, rng, misfits, background)


def fits_scene(clip: Clip, before: list[Clip]) -> bool:
    """Keep sounds apart that would become another together: two single coughs in a row are a fit."""
    if before and before[-1].label == clip.label and _is_short(clip) and _is_short(before[-1]):
        return False
    return not clip.recording or all(clip.recording != other.recording for other in before)


def _is_short(clip: Clip) -> bool:
    return clip.decision == "IGNORE" and clip.seconds < SHORT_S


def _with_beds(
    source: ClipSource,
    foreground: list[Clip],
    num_chunks: int,
    rng: np.random.Generator,
    spare: Sequence[Clip] = (),
    background: tuple[int, int] = BACKGROUND,
) -> ScenePlan:
    """Choose what lies under a foreground: `background` (least, most) background clips, one or two ambient ones.

    `spare` clips that deserve silence are used first: they were drawn by the same odds, and to draw is to synthesise.
    """
    num_background, num_ambient = int(rng.integers(background[0], background[1] + 1)), int(rng.integers(1, 3))
    heard = {clip.recording for clip in foreground if clip.recording}
    beds = [clip for clip in spare if clip.decision == "IGNORE" and clip.recording not in heard]
    beds = beds[: num_background + num_ambient]
    draws = 0
    while len(beds) < num_background + num_ambient:
        clip, draws = source.draw(rng, "IGNORE"), draws + 1
        if clip.recording not in heard or draws > _MOST_DRAWS:
            beds.append(clip)
    return ScenePlan(tuple(foreground), tuple(beds[:num_background]), tuple(beds[num_background:]), num_chunks)


def deal(
    library: ClipLibrary, seed: int, *, respond_share: float = RESPOND_SHARE, chunks: tuple[int, int] = (40, 60)
) -> list[ScenePlan]:
    """Plan scenes in which every clip of the library stands in the foreground at least once.

    Clips of the rarer decision are dealt again, in reshuffled rounds, so that RESPOND keeps its share; at a share of
    0 or 1 only those of one decision are dealt.

    Raises:
        ScenarioError: when the library holds no IGNORE clip, or none that may stand in the foreground.
    """
    if not library.has("IGNORE"):
        raise ScenarioError("scenes need IGNORE clips for their background; the clips given hold none")
    rng = np.random.default_rng([seed, 0xDEA1])
    clips = [recording.clip for recording in library.recordings]
    respond = [clip for clip in clips if clip.decision == "RESPOND" and respond_share > 0]
    ignore = [clip for clip in clips if clip.decision == "IGNORE" and respond_share < 1]
    if not respond and not ignore:
        raise ScenarioError(f"no clip may stand in the foreground at a respond share of {respond_share}")
    waiting = _interleave(respond, ignore, respond_share, rng)[::-1]
    plans = []
    while waiting:
        scene: list[Clip] = [waiting.pop()]
        least = chunks_to_cover(heard_s(scene[0]) + MEAN_GAP_S + TAIL_S)
        num_chunks = max(int(rng.integers(chunks[0], chunks[1] + 1)), least)
        room_s = num_chunks * CHUNK_S - TAIL_S - scene[0].seconds - MEAN_GAP_S
        while len(scene) < MOST_FOREGROUND and (place := _next_fit(waiting, scene, room_s)) is not None:
            scene.append(waiting.pop(place))
            room_s -= scene[-1].seconds + MEAN_GAP_S
        plans.append(_with_beds(library, scene, num_chunks, rng))
    return plans


def _next_fit(waiting: list[Clip], scene: list[Clip], room_s: float) -> int | None:
    """Return the place of the next clip (from the end, not too far) that fits the scene."""
    for place in range(len(waiting) - 1, max(len(waiting) - 1 - _LOOK_AHEAD, -1), -1):
        if waiting[place].seconds + MEAN_GAP_S <= room_s and fits_scene(waiting[place], scene):
            return place
    return None


def _interleave(respond: list[Clip], ignore: list[Clip], share: float, rng: np.random.Generator) -> list[Clip]:
    """Shuffle both decks into one order, dealing either again until both were dealt at least once."""
    order: list[Clip] = []
    decks = {True: respond, False: ignore}
    hands: dict[bool, list[Clip]] = {True: [], False: []}
    dealt = {True: 0, False: 0}
    while dealt[True] < len(respond) or dealt[False] < len(ignore):
        speak = bool(respond) and rng.random() < share
        if not hands[speak]:
            hands[speak] = [decks[speak][i] for i in rng.permutation(len(decks[speak]))]
        order.append(hands[speak].pop())
        dealt[speak] += 1
    return order
