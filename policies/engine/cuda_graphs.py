"""Passes of the engine as CUDA graphs: recorded once for each shape, and launched as one.

A pass of a small model is a hundred kernels of microseconds each, and launching them one by one is what takes the time.
A graph has fixed shapes, so a pass is padded: to a power of four of sessions, to one token each or to the blocks of
one, two, four or eight chunks, and to a multiple of columns. What is padding is written into the memory's spare slot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product, starmap

import numpy as np
import torch
from torch import Tensor

from policies.device import sent
from policies.engine.decoder import Decoder
from policies.engine.memory import KVMemory, NewTokens, Pass
from policies.token_layout import NO_AUDIO

_COLUMNS = 256  # columns that are looked at are rounded up to so many: few shapes, and little that is looked at in vain
_MOST_CHUNKS = 8  # a piece of more is rare, and is run as it is
_TOKEN_ROWS, _PIECE_ROWS = 6, 3
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


@dataclass(frozen=True)
class Shape:
    """Of a pass: so many pieces, of at most so many tokens, that look at so many columns."""

    pieces: int
    length: int
    columns: int


@dataclass(frozen=True)
class _Recorded:
    """Where the inputs of a pass go, and what launches it."""

    numbers: Tensor  # int64 [_TOKEN_ROWS * pieces * length + _PIECE_ROWS * pieces]
    heard: Tensor  # [pieces * most audio tokens of one, hidden]
    replay: Callable[[], None]


class GraphRecorder:
    """Records work on a GPU as CUDA graphs, whose own memory is shared: they run one after another."""

    def __init__(self, device: torch.device) -> None:
        # While it records, CUDA's allocator frees nothing that it keeps of training or of engines that are gone.
        torch.cuda.empty_cache()
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what launches the kernels of `work` again, all at once.

        It is run once before, when libraries load their kernels. Neither run may change what the next one does.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
            # Other threads may go on with the GPU meanwhile. `torch.cuda.graph` would collect all garbage first.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        current.wait_stream(self._stream)
        return graph.replay


class RecordedPasses:
    """Runs passes over a `KVMemory`, each padded to a shape that was recorded.

    Args:
        decoder: The layers.
        memory: Theirs.
        hidden: [slots + 1, hidden], where the last hidden state of each piece goes.
        block: Tokens of a chunk's block and of the pending token before it.
        audio_tokens: Those of them that are embeddings.
        record: Turns work into what launches it.
    """

    def __init__(
        self,
        decoder: Decoder,
        memory: KVMemory,
        hidden: Tensor,
        block: int,
        audio_tokens: int,
        record: Recorder,
    ) -> None:
        self.decoder, self.memory, self.hidden = decoder, memory, hidden
        self.block, self.audio_tokens, self.record = block, audio_tokens, record
        self._recorded: dict[Shape, _Recorded] = {}

    def takes(self, new: NewTokens) -> bool:
        """Return whether a pass is one of those that are recorded: no piece is too long."""
        return max(new.lengths) <= _MOST_CHUNKS * self.block

    def run(self, new: NewTokens, heard: Tensor | None) -> None:
        """Run new tokens, and keep the last hidden state of each piece.

        Args:
            new: They have their columns.
            heard: [rows, hidden], the audio embeddings; None: there are none.
        """
        shape = self._shape(new)
        recorded = self._recorded.get(shape) or self._record(shape)
        recorded.numbers.copy_(sent(torch.from_numpy(self._numbers(new, shape)), self.memory.device))
        if heard is not None:
            recorded.heard[: len(heard)] = heard
        recorded.replay()

    def record_all(self) -> None:
        """Record every shape now, instead of when a session first needs it."""
        slots, capacity = self.memory.spare, self.memory.capacity
        pieces = {min(4**power, slots) for power in range(slots.bit_length())}
        lengths = [1, *(self.block << power for power in range(_MOST_CHUNKS.bit_length()))]
        columns = {min(most, capacity) for most in range(_COLUMNS, capacity + _COLUMNS, _COLUMNS)}
        for shape in starmap(Shape, product(sorted(pieces), lengths, sorted(columns))):
            if shape not in self._recorded:
                self._record(shape)

    def _shape(self, new: NewTokens) -> Shape:
        longest, doubled = max(new.lengths), (len(new.slots) - 1).bit_length()
        pieces = min(1 << (doubled + doubled % 2), self.memory.spare)
        length = 1 if longest == 1 else self.block << ((longest - 1) // self.block).bit_length()
        columns = min(-(-new.used // _COLUMNS) * _COLUMNS, self.memory.capacity)
        return Shape(pieces, length, columns)

    def _numbers(self, new: NewTokens, shape: Shape) -> np.ndarray:
        """Return the tokens and the pieces of a pass, padded: int64, as `_run` reads them."""
        numbers, size = self._padding(shape), shape.pieces * shape.length
        tokens, pieces = np.split(numbers, [_TOKEN_ROWS * size])  # two views
        lengths = np.array(new.lengths)
        firsts = shape.length * np.arange(len(lengths))
        before = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(firsts - before, lengths)
        tokens.reshape(_TOKEN_ROWS, -1)[:, places] = new.tokens
        ends = new.slots, firsts + lengths - 1, new.window_start
        pieces.reshape(_PIECE_ROWS, -1)[:, : len(lengths)] = ends
        return numbers

    def _padding(self, shape: Shape) -> np.ndarray:
        """Return the numbers of a pass that is nothing but padding."""
        token = np.array([0, NO_AUDIO, 0, 0, self.memory.spare, self.memory.capacity - 1])
        firsts = shape.length * np.arange(shape.pieces)
        pieces = np.stack((np.full_like(firsts, self.memory.spare), firsts, np.zeros_like(firsts)))
        return np.concatenate((token.repeat(shape.pieces * shape.length), pieces.ravel()))

    def _record(self, shape: Shape) -> _Recorded:
        chunks = shape.length // (self.block - 1)  # a piece without a pending token has room for one more
        numbers = torch.from_numpy(self._padding(shape)).to(self.memory.device)
        heard = self.hidden.new_zeros(shape.pieces * chunks * self.audio_tokens, self.hidden.shape[-1])
        recorded = _Recorded(numbers, heard, self.record(partial(self._run, shape, numbers, heard)))
        self._recorded[shape] = recorded
        return recorded

    def _run(self, shape: Shape, numbers: Tensor, heard: Tensor) -> None:
        """Run the tokens that the inputs hold: no shape and no branch depends on their values."""
        size = _TOKEN_ROWS * shape.pieces * shape.length
        ids, audio, position, chunk, slot, column = numbers[:size].view(_TOKEN_ROWS, -1)
        slots, last, window_start = numbers[size:].view(_PIECE_ROWS, -1)
        self.memory.place(slot, column, position, chunk)
        mask = self.memory.mask(slots, shape.columns, position.view(shape.pieces, -1), window_start)
        inputs = self.decoder.embed(ids, audio, heard if shape.length > 1 else None)
        batch = Pass(
            ids=ids,
            audio=audio,
            position=position,
            last=last,
            slots=slots,
            rows=self.memory.rows(slot, column),
            used=shape.columns,
            places=None,
            mask=mask,
            last_places=None,
            last_mask=mask.flatten(0, 1)[last].unsqueeze(1),
        )
        self.hidden[slots] = self.decoder.run(inputs, batch)
