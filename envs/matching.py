"""Which reply answers which cue: the one home of the rule, used by rewards and metrics.

One to one in time order: a reply takes the earliest unanswered cue with onset <= t_reply <= deadline.
"""

import math
from collections.abc import Sequence

from envs.scenario import Cue


class Matcher:
    """Matches replies to cues as they come; a cue that has been answered or missed takes no more replies.

    Attributes:
        next_deadline_s: The earliest deadline of an unanswered cue; infinity when there is none.
    """

    def __init__(self, cues: Sequence[Cue]) -> None:
        self.cues = cues
        self._open = list(range(len(cues)))
        self._close([])

    def find(self, reply_s: float) -> int | None:
        """Return the index of the cue that a reply at `reply_s` would answer, or None (a false alarm)."""
        for index in self._open:
            if self.cues[index].onset_s <= reply_s <= self.cues[index].deadline_s:
                return index
        return None

    def take(self, reply_s: float) -> int | None:
        """Match a reply that starts at `reply_s` seconds: `find` its cue and close it."""
        index = self.find(reply_s)
        if index is not None:
            self._close([index])
        return index

    def expire(self, now_s: float) -> list[int]:
        """Close the unanswered cues whose deadline has come by `now_s`, and return their indices."""
        if now_s < self.next_deadline_s:
            return []
        missed = [index for index in self._open if self.cues[index].deadline_s <= now_s]
        self._close(missed)
        return missed

    def _close(self, closed: Sequence[int]) -> None:
        self._open = [index for index in self._open if index not in closed]
        self.next_deadline_s = min((self.cues[index].deadline_s for index in self._open), default=math.inf)


def match(reply_times_s: Sequence[float], cues: Sequence[Cue]) -> list[int | None]:
    """Return for each reply, in time order, the index of the cue it answers."""
    matcher = Matcher(cues)
    return [matcher.take(t) for t in reply_times_s]
