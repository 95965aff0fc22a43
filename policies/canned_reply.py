"""What policies without a model share: they decide when, and say texts that were chosen beforehand."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.episode import RESPOND, TOKENS, WAIT
from envs.reference_reply import CANNED_REPLY
from envs.tokenizer import TextTokenizer
from policies.base import Actions, Observations

NO_REPLY = -1


class ReplyChoicePolicy:
    """Decides by `choose` which of its texts to begin, and says it, K tokens a chunk.

    Args:
        num_slots: Streams at once.
        tokenizer: The environment's.
        tokens_per_chunk: The environment's.
        texts: What it may say.
    """

    def __init__(self, num_slots: int, tokenizer: TextTokenizer, tokens_per_chunk: int, texts: Sequence[str]) -> None:
        self.num_slots = num_slots
        self.padding = np.full(tokens_per_chunk, tokenizer.vocab_size, np.int64)
        self.replies = [_rows(text, tokenizer, tokens_per_chunk) for text in texts]
        self.to_say = [self.padding[None, :][:0]] * num_slots  # [chunks, K] of the present reply, still to be said

    @property
    def speaking(self) -> NDArray[np.bool_]:
        """Which slots are in the middle of a reply: bool [B]."""
        return np.array([len(rows) > 0 for rows in self.to_say])

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Begin new streams where `mask` is True."""
        for slot in np.flatnonzero(mask):
            self.to_say[slot] = self.to_say[slot][:0]

    def choose(self, audio: NDArray[np.float32]) -> NDArray[np.int64]:
        """Decide from the newest chunks, float32 [B, 6400], which text to begin, [B]; `NO_REPLY` for none.

        What is chosen for a slot in the middle of a reply is ignored.
        """
        raise NotImplementedError(f"{type(self).__name__} must choose what to say")

    def act(self, observations: Observations) -> Actions:
        """Begin a reply where wanted and go on with those begun."""
        chosen = self.choose(observations["audio"])
        kinds = np.full(self.num_slots, WAIT, np.int64)
        tokens = np.tile(self.padding, (self.num_slots, 1))
        for slot in range(self.num_slots):
            if len(self.to_say[slot]):
                kinds[slot] = TOKENS
            elif chosen[slot] != NO_REPLY:
                kinds[slot], self.to_say[slot] = RESPOND, self.replies[chosen[slot]]
            else:
                continue
            tokens[slot], self.to_say[slot] = self.to_say[slot][0], self.to_say[slot][1:]
        return {"kind": kinds, "tokens": tokens}

    @property
    def response_probabilities(self) -> list[float | None]:
        """None everywhere, unless a policy has such a number."""
        return [None] * self.num_slots


class CannedReplyPolicy(ReplyChoicePolicy):
    """Decides by `wants_to_speak`, one override each, and says one canned reply."""

    def __init__(
        self,
        num_slots: int,
        tokenizer: TextTokenizer,
        tokens_per_chunk: int,
        seed: int = 0,
        text: str = CANNED_REPLY,
    ) -> None:
        super().__init__(num_slots, tokenizer, tokens_per_chunk, [text])
        self.seed = seed

    def wants_to_speak(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Decide from the newest chunks: float32 [B, 6400] -> bool [B]."""
        raise NotImplementedError(f"{type(self).__name__} must say when it wants to speak")

    def choose(self, audio: NDArray[np.float32]) -> NDArray[np.int64]:
        """Choose the canned reply where it wants to speak."""
        return np.where(self.wants_to_speak(audio), 0, NO_REPLY)


def _rows(text: str, tokenizer: TextTokenizer, tokens_per_chunk: int) -> NDArray[np.int64]:
    """Return the ids of a reply and its end, padded: int64 [chunks, K]."""
    ids = [*tokenizer.encode(text), tokenizer.end_id]
    ids += [tokenizer.vocab_size] * (-len(ids) % tokens_per_chunk)
    return np.array(ids, np.int64).reshape(-1, tokens_per_chunk)
