"""Who may come in: slots are given out one by one, the lowest first, so that those in use lie side by side."""

import heapq

from envs.errors import CapacityError


class Admission:
    """Gives out the numbers 0 .. capacity - 1."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = list(range(capacity))  # a heap

    def admit(self) -> int:
        """Give out the lowest free slot.

        Raises:
            CapacityError: when there is none.
        """
        if not self._free:
            raise CapacityError(
                f"the engine's {self.capacity} slots are all taken; close a session or ask for more slots"
            )
        return heapq.heappop(self._free)

    def release(self, slot: int) -> None:
        """Take a slot back."""
        heapq.heappush(self._free, slot)
