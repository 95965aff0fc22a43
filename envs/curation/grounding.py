"""From a scene in words to clips: retrieve three, verify each, mend once, else generate (paper, event curation)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from envs.curation.outline import SubEvent
from envs.curation.retrieval import CandidateIndex
from envs.curation.verification import DURATION, Hearing, Verdict
from envs.foley import Foley
from envs.planning import LONGEST_CLIP_S, fits_scene
from envs.scenario import SPEECH, Clip, Decision
from envs.sources import Candidate
from envs.tfjp import GRID_S, tfjp

Verify = Callable[[SubEvent, Hearing], Verdict]
How = Literal["retrieved", "reprocessed", "generated"]
_LIKE = 0.25  # retrieval score from which a built-in sound may stand for a caption
_ANY_AMBIENCE = "room_noise"  # where nothing built in is like the ambience that was asked for


@dataclass(frozen=True)
class Grounded:
    """A sub-event with the clip that was found for it."""

    event: SubEvent
    clip: Clip
    how: How
    score: float  # of the clip's words against the query


class Grounding:
    """Finds a clip for each sub-event.

    Args:
        candidates: What clips are retrieved from.
        verify: Judges a clip: rules, or a language model.
        counts: Where every outcome is counted: "accepted", "reprocessed: REASON", "rejected: REASON", "generated".
    """

    def __init__(self, candidates: Sequence[Candidate], verify: Verify, counts: Counter[str]) -> None:
        self.verify = verify
        self.counts = counts
        self._index = CandidateIndex(candidates)
        # the paper generates with a text-to-audio model; here the built-in sound nearest to the caption is rendered
        self._built_in = CandidateIndex(Foley().candidates())

    def ground(
        self, event: SubEvent, rng: np.random.Generator, foreground: Sequence[Clip] = (), beds: Sequence[Clip] = ()
    ) -> Grounded | None:
        """Return a clip for a sub-event; None where nothing that can be retrieved or rendered is like it.

        `foreground` and `beds` are the scene's clips so far: of one recording a scene takes one clip, and two short
        sounds of a kind do not follow each other.
        """
        taken = {clip.recording for clip in beds if clip.recording}
        for candidate, score in self._index.search(event.query or event.description, rng):
            if not _may_be(event, candidate.decision):
                self._reject("decision")
                continue
            clip = candidate.take(rng)
            if clip.recording in taken or not _fits(event, clip, foreground):
                self._reject("scene")
            elif (found := self._verified(event, clip, score)) is not None:
                return found
        return self._generated(event, rng, foreground)

    def _verified(self, event: SubEvent, clip: Clip, score: float) -> Grounded | None:
        """Verify a clip, and once more where it can be mended."""
        verdict = self.verify(event, Hearing(clip, score))
        how: How = "retrieved"
        if verdict.kind == "reprocess" and clip.domain != SPEECH:  # what is said keeps its timing
            self.counts[f"reprocessed: {verdict.reason}"] += 1
            clip, how = _reprocess(event, clip), "reprocessed"
            verdict = self.verify(event, Hearing(clip, score))
        if verdict.kind == "accept":
            self.counts["accepted"] += 1
            return Grounded(event, clip, how, score)
        self._reject(verdict.reason)
        return None

    def _generated(self, event: SubEvent, rng: np.random.Generator, foreground: Sequence[Clip]) -> Grounded | None:
        """Render the built-in sound nearest to the caption, of those that may stand there."""
        for candidate, score in self._built_in.ranked(event.caption or event.description):
            if score < _LIKE:
                break
            if _may_be(event, candidate.decision):
                clip = candidate.take(rng)
                if _fits(event, clip, foreground):
                    self.counts["generated"] += 1
                    return Grounded(event, clip, "generated", score)
        if event.whole_scene:  # a scene without ambience is none
            self.counts["generated"] += 1
            return Grounded(event, Foley().draw(rng, "IGNORE", _ANY_AMBIENCE), "generated", 0.0)
        self.counts["dropped: nothing like it"] += 1
        return None

    def _reject(self, reason: str) -> None:
        self.counts[f"rejected: {reason}"] += 1


def _may_be(event: SubEvent, decision: Decision) -> bool:
    """Beds deserve silence; the foreground what was planned for it."""
    return decision == (event.decision or decision) if event.role == "foreground" else decision == "IGNORE"


def _fits(event: SubEvent, clip: Clip, foreground: Sequence[Clip]) -> bool:
    """Return whether a clip may follow the foreground so far, or lie under it."""
    if event.role == "foreground":
        return fits_scene(clip, list(foreground))
    return not clip.recording or all(clip.recording != other.recording for other in foreground)


def _reprocess(event: SubEvent, clip: Clip) -> Clip:
    """Return a clip after TFJP, no longer than what may stand for the sub-event."""
    longest = max(int(DURATION[1] * event.seconds / GRID_S + 1e-9), 1) * GRID_S
    audio = tfjp(clip.audio, min(longest, LONGEST_CLIP_S))
    return replace(clip, audio=audio / max(1.0, float(np.abs(audio).max(initial=0.0))))
