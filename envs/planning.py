"""Scenes: which clips stand in the foreground, in which order, over which background (paper, event curation)."""

from dataclasses import dataclass

import numpy as np

from envs.clip_library import ClipLibrary, Recording
from envs.clock import CHUNK_S
from envs.errors import ScenarioError
from envs.scenario import Clip, Decision
from envs.sources import ClipSource

SILENT_SCENES = 0.15  # share of scenes in which nothing deserves a reply
LONGEST_CLIP_S = 5.0
TAIL_S = 2.4  # room for the last deadline
MEAN_GAP_S = 1.2


@dataclass(frozen=True)
class ScenePlan:
    """The clips of one scene, by role."""

    foreground: tuple[Clip, ...]
    background: tuple[Clip, ...]
    ambient: tuple[Clip, ...]
    num_chunks: int


def plan_scene(
    source: ClipSource, rng: np.random.Generator, *, respond_share: float = 0.4, chunks: tuple[int, int] = (40, 60)
) -> ScenePlan:
    """Plan one scene of `chunks` (least, most) chunks.

    Raises:
        ScenarioError: when the source holds no IGNORE clip.
    """
    if not source.has("IGNORE"):
        raise ScenarioError("scenes need IGNORE clips for their background; the clips given hold none")
    num_chunks = int(rng.integers(chunks[0], chunks[1] + 1))
    share = 0.0 if rng.random() < SILENT_SCENES or not source.has("RESPOND") else respond_share
    foreground: list[Clip] = []
    room_s = num_chunks * CHUNK_S - TAIL_S
    for _ in range(24):
        decision: Decision = "RESPOND" if rng.random() < share else "IGNORE"
        clip = source.draw(rng, decision)
        if clip.seconds + MEAN_GAP_S > room_s:
            break
        if _fits_scene(clip, foreground):
            foreground.append(clip)
            room_s -= clip.seconds + MEAN_GAP_S
    background = tuple(source.draw(rng, "IGNORE") for _ in range(int(rng.integers(0, 3))))
    return ScenePlan(tuple(foreground), background, (source.draw(rng, "IGNORE"),), num_chunks)


def _fits_scene(clip: Clip, before: list[Clip]) -> bool:
    """Keep sounds apart that would become another together: two single coughs in a row are a fit."""
    if before and before[-1].label == clip.label:
        return False
    return not clip.recording or all(clip.recording != other.recording for other in before)


def deal(library: ClipLibrary, seed: int, *, respond_share: float = 0.4) -> list[ScenePlan]:
    """Plan scenes in which every clip of the library stands in the foreground at least once.

    Clips of the rarer decision are dealt again, in reshuffled rounds, so that RESPOND keeps its share; two clips of
    one kind in a row are spread as far as the order allows.
    """
    rng = np.random.default_rng([seed, 0xDEA1])
    decks = {d: [r for r in library.recordings if r.decision == d] for d in ("RESPOND", "IGNORE")}
    if not decks["IGNORE"]:
        raise ScenarioError("scenes need IGNORE clips for their background; the clips given hold none")
    order = _interleave(decks["RESPOND"], decks["IGNORE"], respond_share, rng)
    plans, scene, room_s, num_chunks = [], [], 0.0, 0
    for recording in order:
        clip = recording.clip()
        if scene and (clip.seconds + MEAN_GAP_S > room_s or not _fits_scene(clip, scene)):
            plans.append(_dealt(library, scene, num_chunks, rng))
            scene = []
        if not scene:
            num_chunks = int(rng.integers(40, 61))
            room_s = num_chunks * CHUNK_S - TAIL_S
        scene.append(clip)
        room_s -= clip.seconds + MEAN_GAP_S
    plans.append(_dealt(library, scene, num_chunks, rng))
    return plans


def _dealt(library: ClipLibrary, scene: list[Clip], num_chunks: int, rng: np.random.Generator) -> ScenePlan:
    background = tuple(library.draw(rng, "IGNORE") for _ in range(int(rng.integers(0, 3))))
    return ScenePlan(tuple(scene), background, (library.draw(rng, "IGNORE"),), num_chunks)


def _interleave(
    respond: list[Recording], ignore: list[Recording], share: float, rng: np.random.Generator
) -> list[Recording]:
    """Shuffle both decks into one order, dealing either again until both were dealt at least once."""
    order: list[Recording] = []
    decks = {True: respond, False: ignore}
    hands: dict[bool, list[Recording]] = {True: [], False: []}
    dealt = {True: 0, False: 0}
    while dealt[True] < len(respond) or dealt[False] < len(ignore):
        speak = bool(respond) and rng.random() < share
        if not hands[speak]:
            hands[speak] = [decks[speak][i] for i in rng.permutation(len(decks[speak]))]
        order.append(hands[speak].pop())
        dealt[speak] += 1
    return order
