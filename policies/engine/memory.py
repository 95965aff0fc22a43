"""KV memory of the engine: preallocated slots, evicted by whole chunks, whose columns the next tokens take.

Columns of a slot: the prefix, then those of stream tokens in any order. Every column knows the position and the chunk
of its token, and the mask is read off those, so that order means nothing.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.device import sent
from policies.modeling_lalm import LALM, ExactRotaryEmbedding, rotate
from policies.token_layout import NO_AUDIO, PREFIX_CHUNK, TokenColumns, TokenLayout

_EMPTY = torch.iinfo(torch.int64).max  # position of an empty column: after every query
_ALWAYS = torch.iinfo(torch.int64).max  # chunk of a prefix column: inside every window
_DENSE = 0.5  # where this share of the slots between the lowest and the highest has new tokens, all of them are run


@dataclass
class Pass:
    """The new tokens of one forward pass, T of P pieces in B slots, and where they belong.

    `places` and `last_places` say where a token's query stands among the queries of all slots; None: token i is i.
    """

    ids: Tensor  # int64 [T]
    audio: Tensor  # int64 [T] rows of the audio embeddings, or NO_AUDIO
    position: Tensor  # int64 [T]
    last: Tensor  # int64 [P], the last token of each piece
    slots: slice | Tensor  # B slots, ascending; a slice where they lie side by side, so that nothing has to be copied
    rows: Tensor  # int64 [T * heads], where keys and values of the tokens go
    used: int  # columns that any of the pieces' slots has in use
    places: Tensor | None  # int64 [T], among B * L
    mask: Tensor  # float32 [B, L, used], 0 where a query may look and -inf elsewhere
    last_places: Tensor | None  # int64 [P], among B
    last_mask: Tensor  # float32 [B, 1, used]


@dataclass
class NewTokens:
    """The new tokens of P pieces, T in all, which have their columns and are nowhere on the device yet."""

    slots: list[int]  # of each piece, ascending
    lengths: list[int]  # of each piece
    window_start: list[int]  # the first chunk that a piece may attend to
    used: int  # columns that any of the slots has in use
    tokens: list[list[int]]  # six rows of T: ids, rows of the audio embeddings, positions, chunks, slots, columns


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


class KVMemory:
    """Keys and values of all sessions: [layers, slots, heads, columns, D], in the model's type, on its device."""

    def __init__(self, model: LALM, num_slots: int, layout: TokenLayout) -> None:
        config = model.text_model.config
        per_chunk = layout.audio_tokens_per_chunk + 3 + layout.tokens_per_chunk
        self.prefix = len(layout.prefix)
        # A reply that is being said stands in the window's last chunk, and one that has ended in its first.
        longest, chunks = model.config.max_reply_tokens, layout.window_chunks + layout.sink_chunks
        self.capacity = self.prefix + chunks * per_chunk + (2 + layout.sink_chunks) * longest
        self.sink_chunks = layout.sink_chunks
        self._heads: dict[int, Tensor] = {}  # of slots that have left their sinks: keys as they were before
        self.rotary: ExactRotaryEmbedding = model.text_model.rotary_emb
        self.device = model.device
        self.spare = num_slots  # a slot that no session has: what a recorded pass is padded with is written there
        places = num_slots + 1
        shape = (config.num_hidden_layers, places, config.num_key_value_heads, self.capacity, self.rotary.head_dim)
        kind = {"dtype": model.dtype, "device": self.device}
        self.keys, self.values = torch.zeros(shape, **kind), torch.zeros(shape, **kind)
        self.position = torch.full((places, self.capacity), _EMPTY, device=self.device)
        self.chunk = torch.zeros((places, self.capacity), dtype=torch.int64, device=self.device)
        self.columns = [self._columns() for _ in range(num_slots)]
        self._head_ids = torch.arange(config.num_key_value_heads, device=self.device)
        self._prefix_keys = torch.empty(0)  # float32 [layers, 1, heads, P, D], at positions 0, 1, ...

    def prefix_pass(self, prefix: Sequence[int]) -> Pass:
        """Return the pass that computes the prefix, in the first slot; `share_prefix` must follow it."""
        self.columns[0] = SlotColumns(0, self.prefix)
        size = self.prefix
        of_prefix = [PREFIX_CHUNK] * size
        piece = TokenColumns(list(prefix), [NO_AUDIO] * size, list(range(size)), of_prefix, of_prefix)
        batch = self.prepare(self.reserve([0], [piece], [()]))
        self.columns[0] = self._columns()
        return batch

    def share_prefix(self) -> None:
        """Give the prefix in the first slot to all of them: it is the same for every session."""
        size = self.prefix
        self._prefix_keys = self.keys[:, :1, :, :size].to(torch.float32, copy=True)
        for memory in (self.keys, self.values):
            memory[:, :, :, :size] = memory[:, :1, :, :size].clone()
        self.chunk[:, :size] = _ALWAYS
        self.position[:, :size] = -1

    def clear(self, slot: int) -> None:
        """Make a slot ready for a new session."""
        self.position[slot, self.prefix :] = _EMPTY
        self.columns[slot] = self._columns()
        self._heads.pop(slot, None)
        self._move([slot], [0])

    def _columns(self) -> SlotColumns:
        return SlotColumns(self.prefix, self.capacity, self.sink_chunks)

    def move_heads(self, slots: Sequence[int], positions: Sequence[int]) -> None:
        """Put the prefixes and sinks of slots just before their windows: rotary positions of their first tokens."""
        if not self.sink_chunks:
            self._move(slots, positions)
            return
        for slot, position in zip(slots, positions, strict=True):
            size = self.prefix + self.columns[slot].sinks
            if slot not in self._heads:
                self._heads[slot] = self.keys[:, slot, :, :size].to(torch.float32, copy=True)
                self.chunk[slot, :size] = _ALWAYS
                self.position[slot, :size] = -1
            angles = self.rotary(self._prefix_keys, self.ids([position]))  # [1, D]
            self.keys[:, slot, :, :size] = rotate(self._heads[slot], *angles).to(self.keys.dtype)

    def _move(self, slots: Sequence[int], positions: Sequence[int]) -> None:
        """Put the prefix, which is the same in all slots, where it has to be in each of these."""
        angles = self.rotary(self._prefix_keys, self.ids(positions).unsqueeze(1))  # [B, 1, D]
        self.keys[:, self.ids(slots), :, : self.prefix] = rotate(self._prefix_keys, *angles).to(self.keys.dtype)

    def reserve(
        self, slots: Sequence[int], pieces: Sequence[TokenColumns], audio_rows: Sequence[Sequence[int]]
    ) -> NewTokens:
        """Free what the windows have left, and give new tokens their columns.

        Args:
            slots: The slot of each piece, ascending.
            pieces: The new tokens of each session, at least one.
            audio_rows: For each piece, the rows of the embeddings that its audio positions take, in order.
        """
        tokens: list[list[int]] = [[] for _ in range(6)]
        for slot, piece, taken in zip(slots, pieces, audio_rows, strict=True):
            columns, fresh = self.columns[slot], iter(taken)
            columns.evict(piece.window_start[0])
            audio = [NO_AUDIO if a == NO_AUDIO else next(fresh) for a in piece.audio_index]
            where = ([slot] * len(piece), columns.take(piece.chunk))
            for row, values in zip(tokens, (piece.ids, audio, piece.position, piece.chunk, *where), strict=True):
                row.extend(values)
        return NewTokens(
            slots=list(slots),
            lengths=[len(piece) for piece in pieces],
            window_start=[piece.window_start[0] for piece in pieces],
            used=max(self.columns[slot].used for slot in slots),
            tokens=tokens,
        )

    def prepare(self, new: NewTokens) -> Pass:
        """Note where new tokens are, and return them as a pass."""
        slots, lengths = new.slots, new.lengths
        first, end = slots[0], slots[-1] + 1
        dense = len(slots) >= _DENSE * (end - first)
        numbers = [slot - first for slot in slots] if dense else list(range(len(slots)))  # of the slots in the pass
        batch, length = end - first if dense else len(slots), max(lengths)
        where, last = list[int](), list[int]()
        last_place, window_start = [number * length for number in range(batch)], [0] * batch
        for number, size, start in zip(numbers, lengths, new.window_start, strict=True):
            where.extend(range(number * length, number * length + size))
            last.append(len(where) - 1)
            last_place[number], window_start[number] = number * length + size - 1, start
        ids, audio_index, position, chunk, slot_of, column_of, places = torch.tensor(
            [*new.tokens, where], device=self.device
        )
        self.place(slot_of, column_of, position, chunk)
        queries = position.new_zeros(batch * length).index_copy_(0, places, position).view(batch, length)
        chosen = slice(first, end) if dense else self.ids(slots)
        mask = self.mask(chosen, new.used, queries, self.ids(window_start))
        return Pass(
            ids=ids,
            audio=audio_index,
            position=position,
            last=self.ids(last),
            slots=chosen,
            rows=self.rows(slot_of, column_of),
            used=new.used,
            places=None if len(ids) == batch * length else places,
            mask=mask,
            last_places=None if len(slots) == batch else self.ids(numbers),
            last_mask=mask.flatten(0, 1)[self.ids(last_place)].unsqueeze(1),
        )

    def place(self, slot: Tensor, column: Tensor, position: Tensor, chunk: Tensor) -> None:
        """Note the positions and chunks of tokens, int64 [T] each, in their slots and columns."""
        self.position[slot, column] = position
        self.chunk[slot, column] = chunk

    def rows(self, slot: Tensor, column: Tensor) -> Tensor:
        """Return int64 [T * heads], where the keys and values of tokens go, given their slots and columns [T]."""
        heads = slot.unsqueeze(1) * len(self._head_ids) + self._head_ids
        return (heads * self.capacity + column.unsqueeze(1)).flatten()

    def ids(self, numbers: Sequence[int]) -> Tensor:
        """Return numbers as int64 on the device."""
        return sent(torch.tensor(list(numbers), dtype=torch.int64), self.device)

    def mask(self, slots: slice | Tensor, used: int, position: Tensor, window_start: Tensor) -> Tensor:
        """Return float32 [B, L, used]: the training mask, read off the columns in use.

        Args:
            slots: B slots.
            used: How many of their columns matter.
            position: int64 [B, L] of the queries.
            window_start: int64 [B], the first chunk that the queries of a slot may see.
        """
        inside = self.chunk[slots, :used] >= window_start.unsqueeze(1)
        keys = torch.where(inside, self.position[slots, :used], _EMPTY)
        unseen = keys.unsqueeze(1) > position.unsqueeze(2)
        return torch.zeros(unseen.shape, device=self.device).masked_fill_(unseen, -torch.inf)

    def write(self, layer: int, keys: Tensor, values: Tensor, batch: Pass) -> tuple[Tensor, Tensor]:
        """Keep the keys and values [T, heads, D] of a pass; return all columns in use of its slots [B, heads, K, D]."""
        for memory, new in ((self.keys[layer], keys), (self.values[layer], values)):
            memory.view(-1, memory.shape[-1])[batch.rows] = new.flatten(0, 1)
        return self.keys[layer][batch.slots, :, : batch.used], self.values[layer][batch.slots, :, : batch.used]
