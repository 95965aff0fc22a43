"""Whether a clip may stand for a sub-event: identity, cleanliness, duration, continuity (paper, event curation)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from envs.clock import samples
from envs.curation.outline import SubEvent
from envs.planning import LONGEST_CLIP_S
from envs.scenario import Clip
from envs.tfjp import LONGEST_SILENCE_S, frame_power, longest_gap_s

DURATION = (0.5, 2.0)  # times what was asked for
SAME_SOUND = 0.6  # retrieval score from which a caption names the same sound
CLEAN_DB = 3.0  # a recording whose pauses are no quieter than that holds more noise than sound
_EDGE_S = 0.002
_CUT_SHARE = 0.5  # of a clip's level; an end that loud was cut off
REASONS = ("identity", "cleanliness", "duration", "continuity")


@dataclass(frozen=True)
class Verdict:
    """What is to be done with a clip, and for which of the four reasons."""

    kind: Literal["accept", "reprocess", "reject"]
    reason: str = ""


@dataclass(frozen=True)
class Hearing:
    """A clip before its judge: what retrieval says of its words, and what can be measured in its sound."""

    clip: Clip
    score: float  # of its caption against the query, in [0, 1]

    @cached_property
    def clean_db(self) -> float:
        """How far the quietest 5 % of its frames lie below its loud ones, in dB."""
        power = frame_power(self.clip.audio)
        quiet, loud = np.percentile(power, [5, 90])
        return float(10 * np.log10(max(loud, 1e-12) / max(quiet, 1e-12)))

    @cached_property
    def has_gap(self) -> bool:
        """Whether it falls silent between two sounds for longer than TFJP's tau."""
        return longest_gap_s(self.clip.audio) > LONGEST_SILENCE_S

    @cached_property
    def is_cut(self) -> bool:
        """Whether it begins or ends in the middle of a sound."""
        edge = samples(_EDGE_S)
        ends = (self.clip.audio[:edge], self.clip.audio[-edge:])
        return any(float(np.sqrt(np.square(end).mean())) > _CUT_SHARE * self.clip.loudness for end in ends)


def verify_by_rules(event: SubEvent, hearing: Hearing) -> Verdict:
    """Judge a clip without a model; what TFJP can mend is sent there.

    Noise is judged in the foreground only: a bed of rain has no pauses that could be quieter. What lasts the whole
    scene is looped and may be of any length, and no clip is longer than a scene takes of it.
    """
    clip = hearing.clip
    if clip.label not in event.tags and hearing.score < SAME_SOUND:
        return Verdict("reject", "identity")
    asked_s = min(event.seconds, LONGEST_CLIP_S)
    if not event.whole_scene and clip.seconds < DURATION[0] * asked_s:
        return Verdict("reject", "duration")
    if not event.whole_scene and clip.seconds > DURATION[1] * asked_s:
        return Verdict("reprocess", "duration")
    if event.role == "foreground" and hearing.clean_db < CLEAN_DB:
        return Verdict("reprocess", "cleanliness")
    if hearing.has_gap or hearing.is_cut:
        return Verdict("reprocess", "continuity")
    return Verdict("accept")
