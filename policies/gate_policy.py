"""A trained gate as a `Policy`: it decides when, and says a canned reply."""

import numpy as np
from numpy.typing import NDArray

from envs.episode import WAIT
from envs.reference_reply import CANNED_REPLY
from envs.tokenizer import TextTokenizer
from policies.base import Actions, Observations
from policies.canned_reply import CannedReplyPolicy
from policies.gate import Gate, GateMemory


class GatePolicy(CannedReplyPolicy):
    """Speaks when the gate's P(response) reaches a threshold.

    Args:
        gate: A trained one.
        num_slots: Streams at once.
        tokenizer: The environment's.
        tokens_per_chunk: The environment's.
        threshold: 0.5 decides as the gate does when it is not exploring.
        text: What it says.
    """

    def __init__(
        self,
        gate: Gate,
        num_slots: int,
        tokenizer: TextTokenizer,
        tokens_per_chunk: int,
        threshold: float = 0.5,
        text: str = CANNED_REPLY,
    ) -> None:
        super().__init__(num_slots, tokenizer, tokens_per_chunk, text=text)
        self.gate, self.threshold = gate, threshold
        self.memory = GateMemory(gate.encoder, gate.chunks, num_slots)
        self.spoke = np.zeros(num_slots, bool)  # whether a reply sounded while the newest chunk was heard
        self.probabilities: list[float | None] = [None] * num_slots

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Forget what was heard and said."""
        super().reset(mask)
        self.memory.reset(mask)
        self.spoke[mask] = False
        for slot in np.flatnonzero(mask):
            self.probabilities[slot] = None

    def wants_to_speak(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Ask the gate."""
        speaking = self.speaking
        p = self.gate.probabilities(self.memory.hear(audio, self.spoke, speaking))
        self.probabilities = [None if busy else float(x) for busy, x in zip(speaking, p, strict=True)]
        return p >= self.threshold

    def act(self, observations: Observations) -> Actions:
        """Begin a reply where the gate responds and go on with those begun."""
        actions = super().act(observations)
        self.spoke = actions["kind"] != WAIT
        return actions

    @property
    def response_probabilities(self) -> list[float | None]:
        """P(response) of the last step; None in the middle of a reply."""
        return self.probabilities
