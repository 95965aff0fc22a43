"""What a client may do, and with which code a connection that may not go on is closed."""

from dataclasses import dataclass
from enum import IntEnum


class Close(IntEnum):
    """Close codes that the server sends; `docs/server.md` says what each means."""

    NOT_TEXT = 1003
    NOT_UTF8 = 1007  # sent by the WebSocket library
    NO_MESSAGE = 1008
    TOO_LARGE = 1009  # sent by the WebSocket library
    ENGINE_FAILED = 1011
    RESTART = 1012
    FULL = 1013
    IDLE = 4000
    LIFETIME = 4001
    AUDIO_BUDGET = 4002
    AUDIO_RATE = 4003
    SLOW_READER = 4004


@dataclass(frozen=True)
class Limits:
    """Limits of a connection, in seconds, bytes or counts."""

    message_bytes: int = 1 << 20  # 16 s of audio
    json_depth: int = 32
    json_marks: int = 20_000  # brackets, braces and commas of a message: what its decoding costs
    audio_budget_s: float = 2 * 3600.0
    audio_rate: float = 8.0  # times real time
    audio_burst_s: float = 30.0  # may come at once
    idle_s: float = 300.0  # without a message
    lifetime_s: float = 3600.0
    send_s: float = 5.0  # for a message to leave
    unsent: int = 4096  # events that may wait for a slow reader
    socket_bytes: int = 1 << 16  # that the system keeps each way: by itself it takes megabytes from who floods it
    linger_s: float = 5.0  # for a slow reader to see why it is closed
    reply_patience_s: float = 0.8  # without sound in a reply: silence takes its place
    speech_lead_s: float = 0.5  # of a spoken reply that may be sent before they are heard
    drain_s: float = 10.0  # for replies to end when the server stops
    items: int = 256  # of a conversation; the oldest are forgotten
    item_chars: int = 16_384  # of an item, as JSON
