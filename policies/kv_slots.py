"""KV memory of the engine: preallocated slots, a ring of columns each, evicted by moving the window.

Column layout of a slot: the prefix, then a ring of stream tokens, then one column for padding to be thrown into.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from policies.modeling_lalm import LALM, ExactRotaryEmbedding, SequenceBatch
from policies.token_layout import NO_AUDIO, TokenColumns

_EMPTY = torch.iinfo(torch.int64).max  # position of an empty column: after every query
_ALWAYS = torch.iinfo(torch.int64).max  # chunk of a prefix column: inside every window


def rotate(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply a rotary rotation to keys [..., D]."""
    half = keys.shape[-1] // 2
    return keys * cos + torch.cat((-keys[..., half:], keys[..., :half]), dim=-1) * sin


@dataclass
class SlotBatch:
    """Which slots one forward pass touches, and where its new tokens go."""

    slots: Tensor  # int64 [B]
    columns: Tensor  # int64 [B, L] destination column of each new token
    used: int  # columns that any of these slots has in use


class KVSlots(Cache):
    """Keys and values of all sessions: per layer [slots, heads, columns, D], in the model's type, on its device."""

    def __init__(self, model: LALM, num_slots: int) -> None:
        config, layout = model.text_model.config, model.layout
        per_chunk = layout.audio_tokens_per_chunk + 3 + layout.tokens_per_chunk
        longest_run = layout.window_chunks + layout.reply_chunks(model.config.max_reply_tokens)
        self.prefix = len(layout.prefix)
        self.ring = (layout.window_chunks + longest_run) * per_chunk + model.config.max_reply_tokens
        self.trash = self.prefix + self.ring
        self.rotary: ExactRotaryEmbedding = model.text_model.rotary_emb
        self.device = model.device
        shape = (num_slots, config.num_key_value_heads, self.trash + 1, self.rotary.head_dim)
        kind = {"dtype": model.dtype, "device": self.device}
        self.keys = [torch.zeros(shape, **kind) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, **kind) for _ in range(config.num_hidden_layers)]
        self.position = torch.full((num_slots, self.trash + 1), _EMPTY, device=self.device)
        self.chunk = torch.zeros((num_slots, self.trash + 1), dtype=torch.int64, device=self.device)
        self.written = [0] * num_slots  # stream tokens ever written
        self.batch: SlotBatch | None = None
        self._fill_prefix(model)

    def _fill_prefix(self, model: LALM) -> None:
        """Compute the prefix once at position 0; it is the same for every session."""
        ids = torch.tensor([model.layout.prefix], device=self.device)
        size = self.prefix
        mask = torch.ones(size, size, dtype=torch.bool, device=self.device).tril()[None, None]
        position = torch.arange(size, device=self.device).unsqueeze(0)
        self.batch = SlotBatch(torch.zeros_like(position[0, :1]), position, size)
        sequence = SequenceBatch(ids, torch.full_like(ids, NO_AUDIO), position, mask)
        with torch.no_grad():
            model.hidden_states(sequence, torch.empty(0), self)
        self.prefix_keys = [k[0, :, :size].to(torch.float32, copy=True) for k in self.keys]  # at positions 0..P-1
        for layer in range(len(self.keys)):
            self.keys[layer][:, :, :size] = self.keys[layer][:1, :, :size]
            self.values[layer][:, :, :size] = self.values[layer][:1, :, :size]
        self.chunk[:, :size] = _ALWAYS
        self.position[:, :size] = -1
        self.batch = None

    def clear(self, slot: int) -> None:
        """Make a slot ready for a new session."""
        self.position[slot, self.prefix :] = _EMPTY
        self.written[slot] = 0
        self.move_prefix(slot, 0)

    def move_prefix(self, slot: int, position: int) -> None:
        """Put the prefix of a slot just before its window: rotary position of its first token."""
        cos, sin = self.rotary(self.prefix_keys[0], torch.tensor([position], device=self.device))
        for layer, keys in enumerate(self.prefix_keys):
            self.keys[layer][slot, :, : self.prefix] = rotate(keys, cos, sin)

    def prepare(self, slots: list[int], pieces: list[TokenColumns], audio_rows: list[list[int]]) -> SequenceBatch:
        """Reserve columns for new tokens and return them as a batch.

        Args:
            slots: The slot of each piece.
            pieces: The new tokens of each session.
            audio_rows: For each piece, the rows of the embeddings that its audio positions take, in order.
        """
        length = max(len(p) for p in pieces)

        def padded(rows: list[list[int]], fill: int) -> Tensor:
            return torch.tensor([row + [fill] * (length - len(row)) for row in rows], device=self.device)

        columns = []
        for slot, piece in zip(slots, pieces, strict=True):
            first = self.written[slot]
            columns.append([self.prefix + (first + i) % self.ring for i in range(len(piece))])
            self.written[slot] = first + len(piece)
        index = torch.tensor(slots, device=self.device)
        destination = padded(columns, self.trash)
        position, chunk = padded([p.position for p in pieces], 0), padded([p.chunk for p in pieces], 0)
        rows = index.unsqueeze(1)
        self.position[rows, destination] = position
        self.chunk[rows, destination] = chunk
        self.position[index, self.trash] = _EMPTY
        used = self.prefix + min(max(self.written[s] for s in slots), self.ring)
        self.batch = SlotBatch(index, destination, used)
        audio = []
        for piece, taken in zip(pieces, audio_rows, strict=True):
            fresh = iter(taken)
            audio.append([NO_AUDIO if a == NO_AUDIO else next(fresh) for a in piece.audio_index])
        return SequenceBatch(
            padded([p.ids for p in pieces], 0),
            padded(audio, NO_AUDIO),
            position,
            self._mask(index, position, padded([p.window_start for p in pieces], 0), used),
        )

    def _mask(self, slots: Tensor, position: Tensor, window_start: Tensor, used: int) -> Tensor:
        """Return bool [B, 1, L, used]: the training mask, read off the columns in use."""
        keys, chunks = self.position[slots, :used], self.chunk[slots, :used]
        causal = keys.unsqueeze(1) <= position.unsqueeze(2)
        return (causal & (chunks.unsqueeze(1) >= window_start.unsqueeze(2))).unsqueeze(1)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Write new keys and values [B, heads, L, D] and return all columns in use (`transformers.Cache`)."""
        if self.batch is None:
            raise RuntimeError("KVSlots.update before prepare")
        slots, columns, used = self.batch.slots, self.batch.columns, self.batch.used
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[slots.unsqueeze(1), :, columns] = key_states.transpose(1, 2)
        values[slots.unsqueeze(1), :, columns] = value_states.transpose(1, 2)
        return keys[slots, :, :used], values[slots, :, :used]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: positions and masks are always given explicitly."""
        return 0
