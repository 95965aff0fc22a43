"""The model's part of a step: chunks into embeddings, new tokens into hidden states. Tensors live here only."""

from collections.abc import Sequence

import torch
from torch import Tensor

from policies.device import sent
from policies.engine.cuda_graphs import GraphRecorder, RecordedPasses, Recorder
from policies.engine.decoder import Decoder
from policies.engine.memory import KVMemory
from policies.engine.session import Session
from policies.modeling_lalm import LALM
from policies.token_layout import TokenColumns, TokenLayout


class ModelRunner:
    """Runs the model over sessions, whatever their positions; their numbers do not depend on who else is there.

    Args:
        model: The model.
        num_slots: Sessions at once.
        layout: Of their tokens.
        record: Passes of few chunks are padded and recorded by it; default: as CUDA graphs on a GPU, and not on a CPU.
    """

    def __init__(self, model: LALM, num_slots: int, layout: TokenLayout, record: Recorder | None = None) -> None:
        if record is None and model.device.type == "cuda":
            record = GraphRecorder(model.device)
        self.model = model
        self.features = model.make_features()
        self.memory = KVMemory(model, num_slots, layout)
        self.decoder = Decoder(model, self.memory)
        # Of each slot, at the position that predicts its next token.
        self.hidden = torch.zeros(
            num_slots + 1, model.text_model.config.hidden_size, dtype=model.dtype, device=model.device
        )
        with torch.inference_mode():
            prefix = self.memory.prefix_pass(layout.prefix)
            self.decoder.run(self.decoder.embed(prefix.ids, prefix.audio, None), prefix)
            self.memory.share_prefix()
        self._short = layout.audio_tokens_per_chunk + 3  # one block and a pending token
        self._recorded: RecordedPasses | None = None
        if record is not None:
            self._recorded = RecordedPasses(
                self.decoder, self.memory, self.hidden, self._short, layout.audio_tokens_per_chunk, record
            )

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Record all passes that are recorded at all."""
        if self._recorded is not None:
            self._recorded.record_all()

    def encode(self, owners: Sequence[Session], windows: Sequence[Tensor]) -> None:
        """Encode chunks of sessions, in the order of each, and queue their embeddings."""
        samples = sent(torch.stack(list(windows)), self.model.device)
        features = self.features(samples, [owner.audio for owner in owners])
        for owner, embedding in zip(owners, self.model.encode(features), strict=True):
            owner.queue.append(embedding)
            owner.last_embedding = embedding

    def hidden_of(self, sessions: Sequence[Session]) -> Tensor:
        """Return the hidden states [B, hidden] that predict the next tokens of sessions."""
        return self.hidden[self.memory.ids([session.slot for session in sessions])]

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
        rows, first = [], 0
        for taken in audio:
            count = sum(len(embedding) for embedding in taken)
            rows.append(range(first, first + count))
            first += count
        order = sorted(range(len(sessions)), key=lambda i: sessions[i].slot)
        slots = [sessions[i].slot for i in order]
        new = self.memory.reserve(slots, [pieces[i] for i in order], [rows[i] for i in order])
        heard = torch.cat([embedding for taken in audio for embedding in taken]) if first else None
        if self._recorded is not None and self._recorded.takes(new):
            self._recorded.run(new, heard)
            return
        batch = self.memory.prepare(new)
        inputs = self.decoder.embed(batch.ids, batch.audio, heard)
        self.hidden[self.memory.ids(slots)] = self.decoder.run(inputs, batch)
