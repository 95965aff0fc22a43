"""The one home of the token layout of a streamed sample.

`[mode] [language] ( [audio-begin] audio*N [assistant] CONTROL (reply... [end])? )*`, CONTROL being `silent` or
`response` (paper, section on the streaming format). A reply of n tokens, the end token included, lasts
ceil(n / K) chunks; the chunks heard meanwhile follow it as one run of blocks with a single control token after
the last. The engine lays out live sessions with the very class that lays out training samples.

An offline turn is `[offline] [english] instruction... ( [audio-begin] audio*N [assistant] )* response reply... [end]`:
all blocks of a clip in one run, and an instruction, where there is one, in front of them as the paper's system prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

SPECIAL_TOKENS = (
    "<pad>",
    "<online>",
    "<offline>",
    "<english>",
    "<audio_begin>",
    "<audio>",
    "<assistant>",
    "<silent>",
    "<response>",
    "<end>",
)

NO_AUDIO = -1  # in `audio_index`: the position holds a token and no audio embedding
PREFIX_CHUNK = -1  # in `chunk`: the position belongs to the prefix


@dataclass(frozen=True)
class TokenLayout:
    """Ids of the special tokens and the size of a chunk block."""

    pad: int
    online: int
    offline: int
    english: int
    audio_begin: int
    audio: int
    assistant: int
    silent: int
    response: int
    end: int
    audio_tokens_per_chunk: int  # N
    tokens_per_chunk: int  # K, the speaking rate
    window_chunks: int  # W: a segment sees the W chunks that end with its last one, the prefix and the sinks
    sink_chunks: int = 0  # the first chunks of a stream, which stay in sight (attention sinks, Xiao et al. 2024)

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens every sample begins with: mode and language."""
        return (self.online, self.english)

    @property
    def not_speakable(self) -> tuple[int, ...]:
        """Special tokens that can never stand inside a reply."""
        return tuple(getattr(self, name.strip("<>")) for name in SPECIAL_TOKENS if name != "<end>")

    def reply_chunks(self, num_tokens: int) -> int:
        """Return how many chunks a reply of `num_tokens` tokens, the end token included, lasts."""
        return -(-num_tokens // self.tokens_per_chunk)


@dataclass
class TokenColumns:
    """A piece of a token sequence, one list a column, all of the same length."""

    ids: list[int] = field(default_factory=list)
    audio_index: list[int] = field(default_factory=list)  # chunk * N + j, or NO_AUDIO
    position: list[int] = field(default_factory=list)  # rotary position
    chunk: list[int] = field(default_factory=list)  # the chunk block it belongs to, or PREFIX_CHUNK
    window_start: list[int] = field(default_factory=list)  # the first chunk it may attend to

    def __len__(self) -> int:
        return len(self.ids)

    def extend(self, other: "TokenColumns") -> None:
        """Append another piece."""
        self.ids += other.ids
        self.audio_index += other.audio_index
        self.position += other.position
        self.chunk += other.chunk
        self.window_start += other.window_start


class StreamLayout:
    """Lays out one stream piece by piece: a run of blocks, then a control token, then reply tokens.

    A token emitted is pending until the model is fed again: it goes in with the next run of blocks, or alone while a
    reply is being written. What is fed from one drain to the next shares one window, which ends with the run's last
    chunk, so that eviction happens once a drain. The prefix, and the sinks after it, always stand just before the
    window: rotary positions never grow apart however long the stream is. The window begins to move when it has left the
    sinks behind. An instruction belongs to the first chunk, and leaves the window with it.
    """

    def __init__(self, layout: TokenLayout, instruction: Sequence[int] = ()) -> None:
        self.layout = layout
        self._instruction = instruction
        self.next_position = len(layout.prefix)
        self.last_chunk = -1
        self.window_start = 0
        self._sinks = TokenColumns()
        self._block_positions: dict[int, int] = {}  # chunk -> position of its first token
        self._pending: int | None = None

    @property
    def prefix_position(self) -> int:
        """The rotary position of the first prefix token in the present window."""
        if self.window_start == 0:
            return 0
        return self._block_positions[self.window_start] - len(self.layout.prefix) - len(self._sinks)

    @property
    def head(self) -> TokenColumns:
        """What the present window sees beside its chunks: the prefix, and copies of sinks that it has left behind."""
        prefix, sinks = self.layout.prefix, self._sinks if self.window_start else TokenColumns()
        size = len(prefix) + len(sinks)
        first = self.prefix_position
        return TokenColumns(
            [*prefix, *sinks.ids],
            [NO_AUDIO] * len(prefix) + sinks.audio_index,
            list(range(first, first + size)),
            [PREFIX_CHUNK] * size,
            [self.window_start] * size,
        )

    def emit(self, token_id: int) -> None:
        """Note a control or reply token that was emitted; it is laid out by the next `run` or `flush`."""
        self._pending = token_id

    def flush(self) -> TokenColumns:
        """Lay out the pending token, if there is one."""
        columns = TokenColumns()
        if self._pending is not None:
            self._append(columns, self._pending)
            self._pending = None
        return columns

    def run(self, count: int) -> TokenColumns:
        """Move the window, then lay out the pending token and the blocks of the next `count` chunks."""
        layout = self.layout
        start = self.last_chunk + count - layout.window_chunks + 1
        self.window_start = start if start > layout.sink_chunks else 0
        columns = self.flush()
        for _ in range(count):
            self.last_chunk += 1
            self._block_positions[self.last_chunk] = self.next_position
            for token_id in self._instruction if self.last_chunk == 0 else ():
                self._append(columns, token_id)
            first = self.last_chunk * layout.audio_tokens_per_chunk
            self._append(columns, layout.audio_begin)
            for j in range(layout.audio_tokens_per_chunk):
                self._append(columns, layout.audio, first + j)
            self._append(columns, layout.assistant)
        for chunk in [c for c in self._block_positions if c < self.window_start]:
            del self._block_positions[chunk]
        return columns

    def _append(self, columns: TokenColumns, token_id: int, audio_index: int = NO_AUDIO) -> None:
        columns.ids.append(token_id)
        columns.audio_index.append(audio_index)
        columns.position.append(self.next_position)
        columns.chunk.append(self.last_chunk)
        columns.window_start.append(self.window_start)
        if self.window_start == 0 and self.last_chunk < self.layout.sink_chunks:
            self._sinks.ids.append(token_id)
            self._sinks.audio_index.append(audio_index)
        self.next_position += 1
