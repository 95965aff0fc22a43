"""The server's addresses: `/v1/realtime`, its health, its numbers, and a page to try it with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from envs.errors import CapacityError
from policies.server.access import SUBPROTOCOL, Access
from policies.server.connection import Abort, Connection
from policies.server.engine_thread import EngineThread
from policies.server.limits import Close, Limits
from policies.server.messages import ProtocolError, dump_event
from policies.server.realtime import new_id
from policies.server.telemetry import Telemetry, log
from policies.server.workers import Skills
from policies.tokenizer import ReplyTokenizer

PAGE = Path(__file__).parent / "page"
_PAGE_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; object-src 'none'; base-uri 'none';"
    " frame-ancestors 'none'"
)


@dataclass
class Service:
    """What all connections share.

    Attributes:
        access: Who may connect.
        abort: Closes the connection of a client that does not read.
        skills: What it can beside what its policy can.
        draining: Nobody is let in any more.
    """

    thread: EngineThread
    tokenizer: ReplyTokenizer
    model: str
    limits: Limits
    access: Access
    abort: Abort
    skills: Skills
    telemetry: Telemetry = field(default_factory=Telemetry)
    connections: set[Connection] = field(default_factory=set)
    draining: bool = False

    async def realtime(self, websocket: WebSocket) -> None:
        """Let a client in, or say why not."""
        refusal = self._refusal(websocket)
        if refusal is not None:
            status, reason = refusal
            self.telemetry.counters["refusals"][reason] += 1
            log("connection refused", reason=reason)
            error = {"error": {"type": "invalid_request_error", "code": reason, "message": reason.replace("_", " ")}}
            await websocket.send_denial_response(JSONResponse(error, status))
            return
        offered = websocket.scope["subprotocols"]
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            connection = Connection(
                websocket,
                self.thread,
                self.tokenizer,
                self.model,
                self.limits,
                self.telemetry,
                self.abort,
                self.skills,
            )
        except CapacityError as error:
            await self._turn_away(websocket, str(error))
            return
        self.connections.add(connection)
        self.telemetry.connections += 1
        try:
            await connection.serve()
        finally:
            self.connections.discard(connection)
            self.telemetry.connections -= 1

    async def drain(self) -> None:
        """Let replies that are being said end, and then everybody leave."""
        self.draining = True
        log("draining", connections=len(self.connections))
        for connection in list(self.connections):
            connection.drain()
        await self._left(self.limits.drain_s)
        for connection in list(self.connections):
            connection.end(Close.RESTART)
        await self._left(self.limits.send_s)

    async def _left(self, seconds: float) -> None:
        """Wait until everybody has left, for so long at most."""
        waits = [asyncio.ensure_future(connection.left.wait()) for connection in self.connections]
        if waits:
            await asyncio.wait(waits, timeout=seconds)

    def _refusal(self, websocket: WebSocket) -> tuple[int, str] | None:
        """Return status and code for a client that is not let in."""
        if not self.access.allows_origin(websocket.headers.get("origin")):
            return 403, "origin_not_allowed"
        if not self.access.allows_key(websocket.headers, websocket.scope["subprotocols"]):
            return 401, "invalid_api_key"
        if self.draining:
            return 503, "server_stopping"
        if not self.thread.alive:
            return 503, "engine_failed"
        return None

    async def _turn_away(self, websocket: WebSocket, message: str) -> None:
        """Close the connection of one too many."""
        self.telemetry.counters["refusals"]["session_limit_reached"] += 1
        log("connection refused", reason="session_limit_reached")
        error = ProtocolError("session_limit_reached", message).event(None)
        await websocket.send_text(dump_event({"event_id": new_id("event"), **error}))
        await websocket.close(int(Close.FULL))

    async def health(self, _: Request) -> Response:
        """Whether the process answers."""
        return PlainTextResponse("ok\n")

    async def ready(self, _: Request) -> Response:
        """Whether it takes sessions."""
        ready = self.thread.alive and not self.draining
        return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Numbers for Prometheus."""
        if not self.access.allows_key(request.headers):
            return PlainTextResponse("invalid api key\n", 401)
        return PlainTextResponse(self.telemetry.prometheus(self.thread.engine.stats))

    async def page(self, _: Request) -> Response:
        """A page to try it with."""
        return FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": _PAGE_POLICY})


def make_app(service: Service) -> Starlette:
    """Return the application; its engine runs while it does."""

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        service.thread.start()
        yield
        await asyncio.to_thread(service.thread.stop)
        await asyncio.to_thread(service.skills.close)

    routes = [
        WebSocketRoute("/v1/realtime", service.realtime),
        Route("/healthz", service.health),
        Route("/readyz", service.ready),
        Route("/metrics", service.metrics),
        Route("/", service.page),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    return Starlette(routes=routes, lifespan=running)
