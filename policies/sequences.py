"""Whole streams as padded tensors: how training and PPO present what the engine saw token by token."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from policies.modeling_lalm import SequenceBatch
from policies.token_layout import NO_AUDIO, PREFIX_CHUNK, StreamLayout, TokenColumns, TokenLayout


@dataclass(frozen=True)
class Turn:
    """What the policy did after hearing chunk `chunk`: `reply` is None for silence, else ids with the end token.

    A reply that the stream's end cut off has no end token.
    """

    chunk: int
    reply: tuple[int, ...] | None


@dataclass
class StreamSequence:
    """One stream laid out with all its decisions. The token at a target's index is predicted one position before."""

    columns: TokenColumns
    decisions: list[int] = field(default_factory=list)  # indices of control tokens (the `stream` targets)
    contents: list[int] = field(default_factory=list)  # indices of reply tokens with the end (the `lm` targets)

    def __len__(self) -> int:
        return len(self.columns)


def lay_out(layout: TokenLayout, turns: Sequence[Turn], instruction: Sequence[int] = ()) -> StreamSequence:
    """Lay out a stream whose decisions were taken after the chunks named by `turns`, in order.

    An `instruction` stands between the prefix and the first chunk; it is no target.

    The chunks between two turns become one run of blocks. For streams longer than the window, the prefix and the sinks
    are there once for every window, so that one forward pass equals what the engine computes with eviction.
    """
    stream, body, decisions, contents = StreamLayout(layout, instruction), TokenColumns(), [], []
    heads: dict[int, TokenColumns] = {}  # by window start
    for turn in turns:
        body.extend(stream.run(turn.chunk - stream.last_chunk))
        heads[stream.window_start] = stream.head
        decisions.append(len(body))
        stream.emit(layout.silent if turn.reply is None else layout.response)
        for token in turn.reply or ():
            body.extend(stream.flush())
            contents.append(len(body))
            stream.emit(token)
    body.extend(stream.flush())
    columns = TokenColumns()
    for head in heads.values():
        columns.extend(head)
    offset = len(columns)
    columns.extend(body)
    return StreamSequence(columns, [i + offset for i in decisions], [i + offset for i in contents])


def attention_mask(position: Tensor, chunk: Tensor, window_start: Tensor, valid: Tensor) -> Tensor:
    """Return who may look at whom in whole sequences: bool [B, 1, L, L].

    A query sees the prefix of its own window and every earlier token of the chunks in its window. Padding sees
    everything, so that no row is empty.
    """
    query_start, key_chunk = window_start.unsqueeze(2), chunk.unsqueeze(1)
    prefix_key = (key_chunk == PREFIX_CHUNK) & (window_start.unsqueeze(1) == query_start)
    in_window = prefix_key | ((key_chunk >= query_start) & (key_chunk != PREFIX_CHUNK))
    causal = position.unsqueeze(1) <= position.unsqueeze(2)
    return (in_window & causal & valid.unsqueeze(1) | ~valid.unsqueeze(2)).unsqueeze(1)


def collate(sequences: Sequence[StreamSequence], num_chunks: Sequence[int], audio_per_chunk: int) -> SequenceBatch:
    """Pad sequences into one batch; audio rows are numbered stream after stream, `num_chunks * N` rows each."""
    length = max(len(s) for s in sequences)
    offsets, total = [], 0
    for count in num_chunks:
        offsets.append(total)
        total += count * audio_per_chunk

    def column(name: str, fill: int) -> Tensor:
        rows = [getattr(s.columns, name) + [fill] * (length - len(s)) for s in sequences]
        return torch.tensor(rows, dtype=torch.int64)

    audio_index = column("audio_index", NO_AUDIO)
    audio_index = torch.where(audio_index == NO_AUDIO, NO_AUDIO, audio_index + torch.tensor(offsets).unsqueeze(1))
    valid = torch.arange(length) < torch.tensor([len(s) for s in sequences]).unsqueeze(1)
    position = column("position", 0)
    mask = attention_mask(position, column("chunk", 0), column("window_start", 0), valid)
    return SequenceBatch(column("ids", 0), audio_index, position, mask)
