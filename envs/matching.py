"""Which reply answers which cue: the one home of the rule, used by rewards and metrics.

One to one in time order: a reply takes the earliest unanswered cue with onset <= t_reply <= deadline.
"""

import math
from collections.abc import Sequence

from envs.scenario import Cue


class Matcher:
    """Matches replies to cues as they come; a cue that has been answered or missed takes no more replies."""

    def __init__(self, cues: Sequence[Cue]) -> None:
        self.cues = cues
        self._open = [True] * len(cues)

    def find(self, reply_s: float) -> int | None:
        """Return the index of the cue that a reply at `reply_s` would answer, or None (a false alarm)."""
        for index, cue in enumerate(self.cues):
            if self._open[index] and cue.onset_s <= reply_s <= cue.deadline_s:
                return index
        return None

    def take(self, reply_s: float) -> int | None:
        """Match a reply that starts at `reply_s` seconds: `find` its cue and close it."""
        index = self.find(reply_s)
        if index is not None:
            self._open[index] = False
        return index

    @property
    def next_deadline_s(self) -> float:
        """The earliest deadline of an unanswered cue; infinity when there is none."""
        return min((cue.deadline_s for i, cue in enumerate(self.cues) if self._open[i]), default=math.inf)

    def expire(self, now_s: float) -> list[int]:
        """Close the unanswered cues whose deadline has come by `now_s`, and return their indices."""
        missed = [i for i, cue in enumerate(self.cues) if self._open[i] and cue.deadline_s <= now_s]
        for index in missed:
            self._open[index] = False
        return missed


def match(reply_times_s: Sequence[float], cues: Sequence[Cue]) -> list[int | None]:
    """Return for each reply, in time order, the index of the cue it answers."""
    matcher = Matcher(cues)
    return [matcher.take(t) for t in reply_times_s]
