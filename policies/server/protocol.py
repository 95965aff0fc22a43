"""The WebSocket protocol of uvicorn, for clients that do not stop when they are told to, or do not read."""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PAUSE_S = 0.1  # between two reads of a closed connection


class PatientProtocol(WebSocketsSansIOProtocol):
    """Takes its time with a connection that is closed, and then cuts it off.

    What still comes is parsed and thrown away, up to the client's own close: one that goes on at full speed would
    have the event loop to itself, and all other sessions would be late, so it is read slowly. And what is still to be
    sent keeps a transport open for as long as the client does not read, so that is aborted in the end.
    """

    _cut: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take in what has come."""
        super().data_received(data)
        self._end_in_time()
        if self.close_sent and not self.transport.is_closing():
            self.transport.pause_reading()
            self.loop.call_later(PAUSE_S, self._read_on)

    async def send(self, message: Any) -> None:
        """Send what the application wants sent."""
        await super().send(message)
        self._end_in_time()

    def keepalive_timeout(self) -> None:
        """Close a connection whose client does not answer."""
        super().keepalive_timeout()
        self._end_in_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was to be done later."""
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def close_unread(self, code: int, linger_s: float) -> None:
        """Close a connection whose client does not read; one that wakes up within `linger_s` gets the code.

        ASGI's own close would wait for the client. The close frame lies behind what is unread.
        """
        self.conn.send_close(code)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:  # else its own close frame is never read
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self._cut = self.loop.call_later(linger_s, self.transport.abort)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _end_in_time(self) -> None:
        if self._cut is None and (self.close_sent or self.transport.is_closing()):
            self._cut = self.loop.call_later(self.close_timeout, self.transport.abort)
