"""When a sound that is being recognised is answered, and that it is answered once while it lasts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.canned_reply import NO_REPLY


@dataclass(frozen=True)
class Trigger:
    """What it takes to answer a sound.

    Attributes:
        threshold: Probability from which a label counts as heard.
        confirm: Chunks in a row for which the same label has to lead.
        hold: Chunks below the threshold that a sound which was answered may pause for without being a new one.
    """

    threshold: float = 0.3
    confirm: int = 2
    hold: int = 8


class Debounce:
    """The state of a trigger over a batch of streams."""

    def __init__(self, trigger: Trigger, num_slots: int, num_labels: int) -> None:
        self.trigger = trigger
        self.leading = np.full(num_slots, NO_REPLY)  # the label that led at the last chunk, where one was heard
        self.run = np.zeros(num_slots, np.int64)  # for how many chunks it has
        self.unheard = np.zeros((num_slots, num_labels), np.int64)  # chunks since a label was last heard
        self.answered = np.zeros((num_slots, num_labels), bool)

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Forget what was heard and answered where `mask` [B] is True."""
        self.leading[mask] = NO_REPLY
        for array in (self.run, self.unheard, self.answered):
            array[mask] = 0

    def step(self, probabilities: NDArray[np.float64], free: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the label that each stream answers now, or `NO_REPLY`.

        Args:
            probabilities: float64 [B, labels], of the newest chunk.
            free: bool [B]; who is saying something cannot begin anything else.
        """
        rows, best = np.arange(len(probabilities)), probabilities.argmax(axis=1)
        heard = probabilities >= self.trigger.threshold
        self.unheard = np.where(heard, 0, self.unheard + 1)
        self.answered &= self.unheard <= self.trigger.hold
        on = heard[rows, best]
        self.run = np.where(on, np.where(best == self.leading, self.run + 1, 1), 0)
        self.leading = np.where(on, best, NO_REPLY)
        fires = free & on & (self.run >= self.trigger.confirm) & ~self.answered[rows, best]
        self.answered[rows[fires], best[fires]] = True
        return np.where(fires, best, NO_REPLY)
