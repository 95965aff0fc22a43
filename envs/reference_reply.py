"""What an agent says that decides only when: the reference reply of the open cue, or a canned one."""

import numpy as np
from numpy.typing import NDArray

from envs.episode import RESPOND, TOKENS, WAIT, Episode

CANNED_REPLY = "I heard something. Please check."


class ReferenceReply:
    """Turns one stream's decisions, wait or respond, into actions of the stream environment.

    A response says the first reference reply of the cue that is open at that moment, or the canned reply where none
    is, at K tokens a chunk; what is decided until the reply has ended is ignored.

    Args:
        tokens_per_chunk: K.
        canned: What to say when no cue is open.
    """

    def __init__(self, tokens_per_chunk: int, canned: str = CANNED_REPLY) -> None:
        self.tokens_per_chunk, self.canned = tokens_per_chunk, canned
        self._to_say: list[int] = []

    def action(self, episode: Episode, respond: bool) -> tuple[int, NDArray[np.int64]]:
        """Return the kind of the next action, and its tokens, int64 [K]."""
        kind = WAIT
        if episode.speaking:
            kind = TOKENS
        elif respond:
            kind = RESPOND
            cue = episode.answerable
            self._to_say = [
                *episode.tokenizer.encode(cue.replies[0] if cue else self.canned),
                episode.tokenizer.end_id,
            ]
        tokens = np.full(self.tokens_per_chunk, episode.tokenizer.vocab_size, np.int64)
        if kind != WAIT:
            now, self._to_say = self._to_say[: len(tokens)], self._to_say[len(tokens) :]
            tokens[: len(now)] = now
        return kind, tokens
