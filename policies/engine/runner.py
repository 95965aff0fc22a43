"""The model's part of a step: chunks into embeddings, new tokens into hidden states. Tensors live here only."""

from collections.abc import Sequence

import torch
from torch import Tensor

from policies.engine.memory import KVMemory
from policies.engine.session import Session
from policies.modeling_lalm import LALM
from policies.token_layout import TokenColumns

_DENSE = 0.5  # where this share of the slots between the lowest and the highest has new tokens, all of them are run
_NOTHING = TokenColumns()


class ModelRunner:
    """Runs the model over sessions, whatever their positions; their numbers do not depend on who else is there."""

    def __init__(self, model: LALM, num_slots: int) -> None:
        self.model = model
        self.features = model.make_features()
        self.memory = KVMemory(model, num_slots)
        self._short = model.layout.audio_tokens_per_chunk + 3  # one block and a pending token

    def encode(self, owners: Sequence[Session], windows: Sequence[Tensor]) -> None:
        """Encode chunks of sessions, in the order of each, and queue their embeddings."""
        samples = torch.stack(list(windows)).to(self.model.device)
        features = self.features(samples, [owner.audio for owner in owners])
        for owner, embedding in zip(owners, self.model.encode(features), strict=True):
            owner.queue.append(embedding)
            owner.last_embedding = embedding

    def begin(self, sessions: Sequence[Session]) -> None:
        """Make the slots of sessions that run for the first time ready."""
        for session in sessions:
            if session.fresh:
                self.memory.clear(session.slot)
                session.fresh = False

    def run_blocks(self, sessions: Sequence[Session], counts: Sequence[int]) -> None:
        """Move each session's window, and feed its pending token with `count` blocks of its queue; 0: the token alone.

        What is longer than a single block is fed in passes of its own, so that nobody is padded to it.
        """
        pieces, moved = [], [list[int](), list[int]()]
        for session, count in zip(sessions, counts, strict=True):
            pieces.append(session.stream.run(count) if count else session.stream.flush())
            if count and session.stream.window_start > 0:
                moved[0].append(session.slot)
                moved[1].append(session.stream.prefix_position)
        if moved[0]:
            self.memory.move_heads(*moved)
        audio = [[session.queue.popleft() for _ in range(n)] for session, n in zip(sessions, counts, strict=True)]
        groups: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            groups.setdefault(max(0, (len(piece) - 1) // self._short).bit_length(), []).append(i)
        for members in groups.values():
            self._feed([sessions[i] for i in members], [pieces[i] for i in members], [audio[i] for i in members])

    def _feed(self, sessions: list[Session], pieces: list[TokenColumns], audio: list[list[Tensor]]) -> None:
        """Run the language model over new tokens and keep each session's last hidden state."""
        flat = [embedding for taken in audio for embedding in taken]
        rows, first = [], 0
        for taken in audio:
            count = sum(len(embedding) for embedding in taken)
            rows.append(range(first, first + count))
            first += count
        embeddings = torch.cat(flat) if flat else torch.empty(0)
        by_slot = {session.slot: i for i, session in enumerate(sessions)}
        lowest, highest = min(by_slot), max(by_slot)
        dense = len(by_slot) >= _DENSE * (highest - lowest + 1)
        slots = list(range(lowest, highest + 1)) if dense else sorted(by_slot)
        order = [by_slot.get(slot) for slot in slots]
        batch = self.memory.prepare(
            slots,
            [_NOTHING if i is None else pieces[i] for i in order],
            [() if i is None else rows[i] for i in order],
        )
        hidden = self.model.hidden_states(batch, embeddings, self.memory)
        for row, i in enumerate(order):
            if i is not None:
                sessions[i].hidden = hidden[row, len(pieces[i]) - 1]
