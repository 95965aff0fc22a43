"""KV memory of the engine: preallocated slots, evicted by whole chunks, whose columns the next tokens take.

Columns of a slot: the prefix, then those of stream tokens in any order, then one that padding is thrown into. Every
column knows the position and the chunk of its token, and the mask is read off those, so that order means nothing.
"""

import heapq
from collections import deque
from collections.abc import Sequence
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
class Rows:
    """Which slots one forward pass touches, and where its new tokens go."""

    slots: slice | Tensor  # a slice where they lie side by side, so that nothing has to be copied
    index: Tensor  # int64 [B], the same slots
    columns: Tensor  # int64 [B, L] destination column of each new token
    used: int  # columns that any of these slots has in use


class SlotColumns:
    """The columns of one slot: which are free, and which chunk's tokens lie where."""

    def __init__(self, first: int, last: int, sink_chunks: int = 0) -> None:
        self._first = first
        self._sink_chunks = sink_chunks
        self.sinks = 0  # tokens of sinks; they came first, and have the first columns for ever
        self.used = first  # one more than the highest column in use
        self._free = list(range(first, last))  # a heap: the lowest first, so that few columns are ever looked at
        self._chunks: deque[tuple[int, list[int]]] = deque()

    def evict(self, window_start: int) -> None:
        """Free the columns of chunks before the window; sinks are kept."""
        if window_start > 0:
            self._sink_chunks = 0  # a token that comes later for the last of them is none
        highest = -1
        while self._chunks and self._chunks[0][0] < window_start:
            columns = self._chunks.popleft()[1]
            highest = max(highest, *columns)
            for column in columns:
                heapq.heappush(self._free, column)
        if highest + 1 == self.used:
            kept = self._first + self.sinks
            self.used = max((max(columns) for _, columns in self._chunks), default=kept - 1) + 1

    def take(self, chunks: Sequence[int]) -> list[int]:
        """Return a column for each token, given the chunk it belongs to (never less than that of the one before)."""
        taken = []
        for chunk in chunks:
            column = heapq.heappop(self._free)
            taken.append(column)
            self.used = max(self.used, column + 1)
            if chunk < self._sink_chunks:
                self.sinks += 1
                continue
            if not self._chunks or self._chunks[-1][0] != chunk:
                self._chunks.append((chunk, []))
            self._chunks[-1][1].append(column)
        return taken


class KVMemory(Cache):
    """Keys and values of all sessions: per layer [slots, heads, columns, D], in the model's type, on its device."""

    def __init__(self, model: LALM, num_slots: int) -> None:
        config, layout = model.text_model.config, model.layout
        per_chunk = layout.audio_tokens_per_chunk + 3 + layout.tokens_per_chunk
        self.prefix = len(layout.prefix)
        # A reply that is being said stands in the window's last chunk, and one that has ended in its first.
        longest, chunks = model.config.max_reply_tokens, layout.window_chunks + layout.sink_chunks
        self.trash = self.prefix + chunks * per_chunk + (2 + layout.sink_chunks) * longest
        self.sink_chunks = layout.sink_chunks
        self._heads: dict[int, list[Tensor]] = {}  # of slots that have left their sinks: keys as they were before
        self.rotary: ExactRotaryEmbedding = model.text_model.rotary_emb
        self.device = model.device
        shape = (num_slots, config.num_key_value_heads, self.trash + 1, self.rotary.head_dim)
        kind = {"dtype": model.dtype, "device": self.device}
        self.keys = [torch.zeros(shape, **kind) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, **kind) for _ in range(config.num_hidden_layers)]
        self.position = torch.full((num_slots, self.trash + 1), _EMPTY, device=self.device)
        self.chunk = torch.zeros((num_slots, self.trash + 1), dtype=torch.int64, device=self.device)
        self.columns = [self._columns() for _ in range(num_slots)]
        self.rows: Rows | None = None
        self._fill_prefix(model)

    def _fill_prefix(self, model: LALM) -> None:
        """Compute the prefix once at position 0; it is the same for every session."""
        ids = torch.tensor([model.layout.prefix], device=self.device)
        size = self.prefix
        mask = torch.ones(size, size, dtype=torch.bool, device=self.device).tril()[None, None]
        position = torch.arange(size, device=self.device).unsqueeze(0)
        self.rows = Rows(slice(0, 1), position[0, :1], position, size)
        sequence = SequenceBatch(ids, torch.full_like(ids, NO_AUDIO), position, mask)
        with torch.no_grad():
            model.hidden_states(sequence, torch.empty(0), self)
        self.prefix_keys = [k[0, :, :size].to(torch.float32, copy=True) for k in self.keys]  # at positions 0..P-1
        for layer in range(len(self.keys)):
            self.keys[layer][:, :, :size] = self.keys[layer][:1, :, :size]
            self.values[layer][:, :, :size] = self.values[layer][:1, :, :size]
        self.chunk[:, :size] = _ALWAYS
        self.position[:, :size] = -1
        self.rows = None

    def clear(self, slot: int) -> None:
        """Make a slot ready for a new session."""
        self.position[slot, self.prefix :] = _EMPTY
        self.columns[slot] = self._columns()
        self._heads.pop(slot, None)
        self._move([slot], [0])

    def _columns(self) -> SlotColumns:
        return SlotColumns(self.prefix, self.trash, self.sink_chunks)

    def move_heads(self, slots: Sequence[int], positions: Sequence[int]) -> None:
        """Put the prefixes and sinks of slots just before their windows: rotary positions of their first tokens."""
        if not self.sink_chunks:
            self._move(slots, positions)
            return
        for slot, position in zip(slots, positions, strict=True):
            size = self.prefix + self.columns[slot].sinks
            if slot not in self._heads:
                self._heads[slot] = [keys[slot, :, :size].to(torch.float32, copy=True) for keys in self.keys]
                self.chunk[slot, :size] = _ALWAYS
                self.position[slot, :size] = -1
            cos, sin = self.rotary(self.prefix_keys[0], torch.tensor([[position]], device=self.device))
            for own, keys in zip(self._heads[slot], self.keys, strict=True):
                keys[slot, :, :size] = rotate(own, cos[0], sin[0]).to(keys.dtype)

    def _move(self, slots: Sequence[int], positions: Sequence[int]) -> None:
        """Put the prefix, which is the same in all slots, where it has to be in each of these."""
        index = torch.tensor(list(slots), device=self.device)
        position = torch.tensor(list(positions), device=self.device).unsqueeze(1)
        cos, sin = (angle.unsqueeze(1) for angle in self.rotary(self.prefix_keys[0], position))  # [B, 1, 1, D]
        for layer, keys in enumerate(self.prefix_keys):
            self.keys[layer][index, :, : self.prefix] = rotate(keys, cos, sin).to(self.keys[layer].dtype)

    def prepare(
        self, slots: Sequence[int], pieces: Sequence[TokenColumns], audio_rows: Sequence[Sequence[int]]
    ) -> SequenceBatch:
        """Free what the windows have left, reserve columns for new tokens and return those as a batch.

        Args:
            slots: The slot of each piece, ascending; a piece may be empty.
            pieces: The new tokens of each session.
            audio_rows: For each piece, the rows of the embeddings that its audio positions take, in order.
        """
        length = max(len(piece) for piece in pieces)
        fields: list[list[list[int]]] = [[], [], [], [], [], []]
        for slot, piece, taken in zip(slots, pieces, audio_rows, strict=True):
            own = self.columns[slot]
            if len(piece):
                own.evict(piece.window_start[0])
            fresh = iter(taken)
            audio = [NO_AUDIO if a == NO_AUDIO else next(fresh) for a in piece.audio_index]
            values = (piece.ids, audio, piece.position, piece.chunk, piece.window_start, own.take(piece.chunk))
            gap = length - len(piece)
            for rows, values_row, fill in zip(fields, values, (0, NO_AUDIO, 0, 0, 0, self.trash), strict=True):
                rows.append(values_row + [fill] * gap)
        packed = torch.tensor(fields, device=self.device)  # one transfer
        ids, audio_index, position, chunk, window_start, columns = packed.unbind(0)
        index = torch.tensor(list(slots), device=self.device)
        row = index.unsqueeze(1)
        self.position[row, columns] = position
        self.chunk[row, columns] = chunk
        self.position[index, self.trash] = _EMPTY
        side_by_side = slots[-1] - slots[0] + 1 == len(slots)
        where = slice(slots[0], slots[-1] + 1) if side_by_side else index
        used = max(self.columns[slot].used for slot, piece in zip(slots, pieces, strict=True) if len(piece))
        self.rows = Rows(where, index, columns, used)
        return SequenceBatch(ids, audio_index, position, self._mask(position, window_start))

    def _mask(self, position: Tensor, window_start: Tensor) -> Tensor:
        """Return bool [B, 1, L, used]: the training mask, read off the columns in use."""
        assert self.rows is not None
        slots, used = self.rows.slots, self.rows.used
        causal = self.position[slots, :used].unsqueeze(1) <= position.unsqueeze(2)
        return (causal & (self.chunk[slots, :used].unsqueeze(1) >= window_start.unsqueeze(2))).unsqueeze(1)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Write new keys and values [B, heads, L, D] and return all columns in use (`transformers.Cache`)."""
        if self.rows is None:
            raise RuntimeError("KVMemory.update before prepare")
        slots, index, columns, used = self.rows.slots, self.rows.index, self.rows.columns, self.rows.used
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[index.unsqueeze(1), :, columns] = key_states.transpose(1, 2)
        values[index.unsqueeze(1), :, columns] = value_states.transpose(1, 2)
        return keys[slots, :, :used], values[slots, :, :used]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: positions and masks are always given explicitly."""
        return 0
