"""One WebSocket: what comes in goes to its session, what the session sends goes out, and limits end it."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from envs.errors import SessionError
from policies.engine import StepEvent
from policies.server.audio_allowance import AllowanceError, AudioAllowance
from policies.server.engine_thread import EngineThread
from policies.server.limits import Close, Limits
from policies.server.messages import Event, ProtocolError, dump_event, event_id_of, parse_event
from policies.server.realtime import RealtimeSession, new_id
from policies.server.telemetry import LOGGER, Telemetry, log
from policies.server.workers import Helpers, Skills
from policies.tokenizer import ReplyTokenizer

T = TypeVar("T")
Abort = Callable[[WebSocket, int, float], None]  # closes one whose client does not read, within so many seconds
_CROWDED = 64  # unsent events, or errands, from which on nothing more is read


class Connection:
    """Serves one client that was let in.

    Args:
        websocket: Accepted.
        thread: Has the engine.
        tokenizer: Of the policy.
        model: Its name, for clients.
        limits: Of the connection.
        telemetry: Counts.
        abort: Closes the connection of a client that does not read.
        skills: Of the server.

    Raises:
        CapacityError: when the engine is full.
    """

    def __init__(
        self,
        websocket: WebSocket,
        thread: EngineThread,
        tokenizer: ReplyTokenizer,
        model: str,
        limits: Limits,
        telemetry: Telemetry,
        abort: Abort,
        skills: Skills,
    ) -> None:
        self._websocket, self._limits, self._telemetry, self._abort = websocket, limits, telemetry, abort
        self._loop = asyncio.get_running_loop()
        self._unsent: asyncio.Queue[str] = asyncio.Queue()
        self._over: asyncio.Future[Close | None] = self._loop.create_future()  # None: the client has gone
        self._draining = False
        self._errands = set[asyncio.Future[Any]]()  # work for it in other threads
        self.left = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._begun, self._allowance = time.monotonic(), AudioAllowance(limits)
        expires_at = int(time.time() + limits.lifetime_s)
        helpers = Helpers(partial(self._aside, skills.speaking), partial(self._aside, skills.hearing), self._later)
        self.session = RealtimeSession(
            thread,
            tokenizer,
            model,
            limits,
            self._send,
            self._listen,
            self._allowance,
            expires_at,
            skills,
            helpers,
        )

    async def serve(self) -> None:
        """Talk until the client leaves or a limit ends it."""
        tasks = [asyncio.create_task(work) for work in (self._read(), self._write())]
        for task in tasks:
            task.add_done_callback(self._finished)
        lifetime = self._loop.call_later(self._limits.lifetime_s, self._expire)
        log("session opened", session=self.session.id)
        try:
            self.session.begin()
            close = await self._over
        finally:
            lifetime.cancel()
            self._wait_for_sound(False)
            self.session.close()
            for errand in list(self._errands):  # other sessions wait for what has not begun
                errand.cancel()
            tasks[0].cancel()
            await self._leave(tasks[1], self._over.result() if self._over.done() else None)
            self._telemetry.audio_s += self._allowance.used_s
            await asyncio.gather(*tasks, return_exceptions=True)
            self.left.set()
        code = "client" if close is None else str(int(close))
        self._telemetry.counters["closes"][code] += 1
        lasted = round(time.monotonic() - self._begun, 3)
        log("session closed", session=self.session.id, code=code, seconds=lasted, audio_s=self._allowance.used_s)

    def drain(self) -> None:
        """End as soon as the reply that is being said has ended; nothing more is heard."""
        self._draining = True
        self._carry_on(self.session.finish_soon)

    def end(self, close: Close) -> None:
        """End now."""
        self._end(close)

    def _aside(self, executor: Executor, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Have work done in another thread, and go on with its result."""

        def go_on(done: asyncio.Future[T]) -> None:
            if not self._over.done() and not done.cancelled() and done.exception() is None:
                self._carry_on(lambda: then(done.result()))

        future = self._loop.run_in_executor(executor, work)
        self._errands.add(future)
        future.add_done_callback(self._errands.discard)
        future.add_done_callback(self._finished)
        future.add_done_callback(go_on)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._loop.call_later(seconds, self._carry_on, call)

    def _carry_on(self, call: Callable[[], None]) -> None:
        """Let the session do something of its own accord, unless it has ended."""
        if self._over.done():
            return
        try:
            call()
        except ProtocolError as error:
            self._error(error, None)
        self._after()

    def _after(self) -> None:
        """See what is left to do when something has happened."""
        self._wait_for_sound()
        if self._draining and self.session.response is None:
            self._end(Close.RESTART)

    def _finished(self, task: asyncio.Future[Any]) -> None:
        """End when reading, writing or work elsewhere has failed, which is a fault of ours."""
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error("connection failed", exc_info=error, extra={"fields": {"session": self.session.id}})
            self._refuse(Close.ENGINE_FAILED, "server_error", "the server failed")

    def _end(self, close: Close | None) -> None:
        if not self._over.done():
            self._over.set_result(close)

    def _refuse(self, close: Close, code: str, message: str) -> None:
        """Say why, and end."""
        self._error(ProtocolError(code, message), None)
        self._end(close)

    def _error(self, error: ProtocolError, client_event_id: str | None) -> None:
        self._telemetry.counters["errors"][error.code] += 1
        self._send(error.event(client_event_id))

    def _send(self, event: Event) -> None:
        self._unsent.put_nowait(dump_event({"event_id": new_id("event"), **event}))
        if self._unsent.qsize() > self._limits.unsent:
            self._end(Close.SLOW_READER)

    def _expire(self) -> None:
        lifetime = f"a session lasts at most {self._limits.lifetime_s:.0f} s; connect again"
        self._refuse(Close.LIFETIME, "session_expired", lifetime)

    async def _read(self) -> None:
        """Take client events one by one."""
        while not self._over.done():
            try:
                async with asyncio.timeout(self._limits.idle_s):  # wait_for would make a task of each message
                    text = await self._receive()
            except TimeoutError:
                self._refuse(Close.IDLE, "idle_timeout", f"nothing came for {self._limits.idle_s:.0f} s")
                return
            if text is None or self._draining:
                return
            self._take(text)
            await self._hold_back()

    async def _hold_back(self) -> None:
        """Read nothing while too much is unsent or undone: it waits on the client's side then."""
        if self._unsent.qsize() > _CROWDED:
            await self._unsent.join()
        while len(self._errands) > _CROWDED:
            await asyncio.wait(self._errands, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)  # others first: what has come already is received without giving way, from 3.12 on

    async def _receive(self) -> str | None:
        """Return the next message; None: there is none any more."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            self._end(None)
            return None
        text: str | None = message.get("text")
        if text is None:
            self._refuse(Close.NOT_TEXT, "invalid_event", "expected text frames; audio is base64 in JSON")
        return text

    def _take(self, text: str) -> None:
        """Carry out one client event, or answer what is wrong with it."""
        client_event_id = None
        try:
            event = parse_event(text, self._limits.json_depth, self._limits.json_marks)
            client_event_id = event.get("event_id")
            self.session.receive(event)
        except ProtocolError as error:
            self._error(error, client_event_id or event_id_of(text, self._limits.json_marks))
        except AllowanceError as error:
            self._refuse(error.close, error.code, str(error))
        self._wait_for_sound()

    def _listen(self, step: StepEvent | None) -> None:
        """Bring an event out of the engine's thread."""
        self._loop.call_soon_threadsafe(self._hear, step)

    def _hear(self, step: StepEvent | None) -> None:
        if self._over.done():
            return
        if step is None:
            self.session.steered()
            return
        try:
            self.session.hear(step)
        except ProtocolError as error:
            self._error(error, None)
        except SessionError as error:
            log("engine ended a session", session=self.session.id, error=type(error.__cause__ or error).__name__)
            self._refuse(Close.ENGINE_FAILED, "server_error", "the engine could not go on with this session")
            return
        self._after()

    def _wait_for_sound(self, go_on: bool = True) -> None:
        """In a reply, let silence take the place of sound that does not come."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if go_on and self.session.awaits_sound:
            self._patience = self._loop.call_later(self._limits.reply_patience_s, self._go_on_in_silence)

    def _go_on_in_silence(self) -> None:
        try:
            self.session.go_on_in_silence()
        except ProtocolError as error:  # the engine has just ended the session, and will say so
            self._error(error, None)

    async def _write(self) -> None:
        """Send what there is to send, each message within its time."""
        while True:
            text = await self._unsent.get()
            try:
                async with asyncio.timeout(self._limits.send_s):
                    await self._websocket.send_text(text)
            except TimeoutError:
                self._end(Close.SLOW_READER)
                return
            except (RuntimeError, WebSocketDisconnect):  # it left, or the WebSocket library has just closed it
                self._end(None)
                return
            finally:
                self._unsent.task_done()

    async def _leave(self, writer: asyncio.Task[None], close: Close | None) -> None:
        """Send what is still unsent, and the close; a client that does not read is cut off."""
        try:
            if close is not None and close is not Close.SLOW_READER:
                async with asyncio.timeout(self._limits.send_s):
                    sent = asyncio.create_task(self._unsent.join())
                    await asyncio.wait({sent, writer}, return_when=asyncio.FIRST_COMPLETED)
                    await self._websocket.close(int(close))
                return
        except TimeoutError:
            close = Close.SLOW_READER
        except (RuntimeError, WebSocketDisconnect):  # it left in the same moment
            return
        finally:
            writer.cancel()
        if close is not None:
            self._abort(self._websocket, int(close), self._limits.linger_s)
