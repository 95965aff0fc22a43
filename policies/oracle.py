"""The policy that knows the scenario: it says what the timeline says, when the timeline says it."""

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_S
from envs.episode import RESPOND, TOKENS, WAIT
from envs.scenario import Scenario
from envs.tokenizer import TextTokenizer
from policies.base import Actions, Observations


class OraclePolicy:
    """Follows the timelines of the scenarios it is told of: a way to see what a stream wants.

    It makes no mistake, and yet does not earn the most: a timeline answers when a sound has ended, and many could be
    answered earlier. A reply that is due while another is being said begins when that one has ended.

    Args:
        scenario_of: Returns the scenario that slot i plays; asked at every reset.
        num_slots: Streams at once.
        tokenizer: The environment's.
        tokens_per_chunk: The environment's.
    """

    def __init__(
        self, scenario_of: Callable[[int], Scenario], num_slots: int, tokenizer: TextTokenizer, tokens_per_chunk: int
    ) -> None:
        self.scenario_of, self.num_slots = scenario_of, num_slots
        self.tokenizer, self.tokens_per_chunk = tokenizer, tokens_per_chunk
        self.due = [deque[tuple[int, list[int]]]() for _ in range(num_slots)]  # (chunk, ids) still to be said
        self.saying: list[list[int]] = [[] for _ in range(num_slots)]

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Read the timelines of new streams where `mask` is True."""
        for slot in np.flatnonzero(mask).tolist():
            timeline = self.scenario_of(slot).timeline
            self.due[slot] = deque((e.chunk, [*self.tokenizer.encode(e.text), self.tokenizer.end_id]) for e in timeline)
            self.saying[slot] = []

    def act(self, observations: Observations) -> Actions:
        """Go on with replies, and begin those that are due."""
        kinds = np.full(self.num_slots, WAIT, np.int64)
        tokens = np.full((self.num_slots, self.tokens_per_chunk), self.tokenizer.vocab_size, np.int64)
        newest = np.rint(observations["elapsed"][:, 0] / CHUNK_S).astype(int) - 1
        for slot, chunk in enumerate(newest.tolist()):
            if self.saying[slot]:
                kinds[slot] = TOKENS
            elif self.due[slot] and self.due[slot][0][0] <= chunk:
                kinds[slot] = RESPOND
                self.saying[slot] = self.due[slot].popleft()[1]
            else:
                continue
            now, self.saying[slot] = (
                self.saying[slot][: self.tokens_per_chunk],
                self.saying[slot][self.tokens_per_chunk :],
            )
            tokens[slot, : len(now)] = now
        return {"kind": kinds, "tokens": tokens}

    @property
    def response_probabilities(self) -> list[float | None]:
        """None everywhere: it does not weigh, it knows."""
        return [None] * self.num_slots
