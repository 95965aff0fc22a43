"""The protocols of uvicorn, for clients that do not stop when they are told to, do not read, or send nothing of use."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame

from policies.server.limits import Close

PAUSE_S = 0.1  # between two reads of a closed connection
REQUEST_S = 10.0  # for a plain request to come, and for its answer to be read
SPARE_FRAMES = 4096  # pings, pongs and fragments that may come between two messages


class PatientProtocol(WebSocketsSansIOProtocol):
    """Takes its time with a connection that is closed, and then cuts it off.

    What still comes is parsed and thrown away, up to the client's own close: one that goes on at full speed would
    have the event loop to itself, and all other sessions would be late, so it is read slowly. And what is still to be
    sent keeps a transport open for as long as the client does not read, so that is aborted in the end.

    Messages wait until the application takes them; control frames and fragments wait for nobody, so they are counted.
    """

    _cut: asyncio.TimerHandle | None = None
    _spare = 0

    def data_received(self, data: bytes) -> None:
        """Take in what has come."""
        if self.close_sent:  # all that comes is spare now, and a polite client may have sent much of it
            self._spare = 0
        try:
            super().data_received(data)
        except InvalidState:  # text that is no UTF-8, and behind it the client's own close, which has its answer
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        self._end_in_time()
        if self.close_sent and not self.transport.is_closing():
            self.transport.pause_reading()
            self.loop.call_later(PAUSE_S, self._read_on)

    def eof_received(self) -> None:
        """Close a connection whose client sends nothing any more."""
        self.transport.close()
        self._end_in_time()

    def handle_ping(self) -> None:
        """Answer a ping."""
        super().handle_ping()
        self._count_spare()

    def handle_pong(self, event: Frame) -> None:
        """Take an answer to a ping, or what looks like one."""
        super().handle_pong(event)
        self._count_spare()

    def handle_cont(self, event: Frame) -> None:
        """Add to a message."""
        self._count_spare()
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Hand over a message that is complete."""
        super().send_receive_event_to_app()
        if self.close_sent:
            self._count_spare()
        else:
            self._spare = 0

    async def send(self, message: Any) -> None:
        """Send what the application wants sent."""
        await super().send(message)
        self._end_in_time()

    def keepalive_timeout(self) -> None:
        """Close a connection whose client does not answer."""
        super().keepalive_timeout()
        self._end_in_time()

    def shutdown(self) -> None:
        """Close because the server stops; a client that has closed already is told nothing."""
        if not self.transport.is_closing():
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was to be done later."""
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def close_unread(self, code: int, linger_s: float) -> None:
        """Close a connection whose client does not read; one that wakes up within `linger_s` gets the code.

        ASGI's own close would wait for the client. The close frame lies behind what is unread.
        """
        if self.transport.is_closing():  # by the client, which does not read the answer to its close
            return
        self.conn.send_close(code)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:  # else its own close frame is never read
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(linger_s, self.transport.abort)  # that the client's close cancels
        self._end_in_time()

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _count_spare(self) -> None:
        """Count a frame that gives the application nothing, and close at the last that is borne with."""
        self._spare += 1
        if self._spare > SPARE_FRAMES and not self.transport.is_closing():
            self.conn.fail(Close.NO_MESSAGE, f"{SPARE_FRAMES} frames without a message")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()

    def _end_in_time(self) -> None:
        if self._cut is None and (self.close_sent or self.transport.is_closing()):
            self._cut = self.loop.call_later(self.close_timeout, self.transport.abort)


class BriefProtocol(H11Protocol):
    """Cuts off a connection whose client does not ask, or does not read the answer: uvicorn waits for it."""

    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._end_in_time()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        if not self.transport.is_closing():
            self._end_in_time()
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Leave the connection to the other protocol."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was to be done later."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _end_in_time(self) -> None:
        self._stop_waiting()
        self._cut = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
