"""`soundflow serve`: a policy behind an address, until it is told to stop."""

import gc
import logging
import math
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import torch
import uvicorn
from starlette.websockets import WebSocket

from envs.errors import ServerError
from policies.device import pick_device
from policies.engine import Engine
from policies.policy_folder import find_policy, read_policy
from policies.server.access import Access
from policies.server.app import Service, make_app
from policies.server.engine_thread import EngineThread
from policies.server.limits import Limits
from policies.server.protocol import BriefProtocol, PatientProtocol
from policies.server.telemetry import LOGGER, JsonFormatter, is_no_fault_of_a_client
from policies.server.turns import VADKind
from policies.server.workers import Skills, can_speak
from policies.silero import load_detector

KEY_VARIABLE = "SOUNDFLOW_API_KEY"


class Server(uvicorn.Server):
    """Uvicorn over one listening socket, that lets replies end before it stops.

    Args:
        service: Its `abort` becomes this server's.
        listening: A bound socket.
    """

    def __init__(self, service: Service, listening: socket.socket) -> None:
        config = uvicorn.Config(
            make_app(service),
            http=BriefProtocol,
            ws=PatientProtocol,
            ws_max_size=service.limits.message_bytes,
            ws_per_message_deflate=False,  # a small message could become a large one
            log_config=None,
            proxy_headers=False,  # anybody could send them
            access_log=False,  # it would write queries down
            server_header=False,
            timeout_graceful_shutdown=math.ceil(service.limits.send_s),
        )
        super().__init__(config)
        self._service, self._listening = service, listening
        service.abort = self.abort

    def run_on_socket(self) -> None:
        """Serve until a signal comes, or `should_exit` is set."""
        self.run(sockets=[self._listening])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop to accept, let replies end, close with 1012, and then what uvicorn does."""
        for server in self.servers:
            server.close()
        await self._service.drain()
        await super().shutdown(sockets)

    def abort(self, websocket: WebSocket, code: int, linger_s: float) -> None:
        """Close a connection whose client does not read."""
        for protocol in self.server_state.connections:
            if isinstance(protocol, PatientProtocol) and protocol.client == tuple(websocket.scope["client"]):
                protocol.close_unread(code, linger_s)


def make_server(
    policy: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    slots: int = 64,
    key: str | None = None,
    key_variable: str = KEY_VARIABLE,
    origins: Sequence[str] = (),
    limits: Limits | None = None,
    speak: bool = False,
    vad: VADKind = "energy",
    full_duplex: bool = False,
) -> tuple[Server, str]:
    """Return a server that listens already, and its address.

    Args:
        policy: A policy folder.
        host: An address of this machine.
        port: 0 takes a free one.
        slots: Sessions at once.
        key: What a client has to know; None: nothing.
        key_variable: Where that came from, for messages.
        origins: Pages of other servers that may connect.
        limits: Of a connection.
        speak: Replies are spoken, unless a client asks for text.
        vad: How speech is told from other sounds.
        full_duplex: The model decides in the middle of replies, too, and may cut them.

    Raises:
        ServerError: when the address cannot be had or needs a key, or what is to speak is not installed.
        PolicyError: when the folder or the detector of voices cannot be used.
    """
    if speak and not can_speak():
        raise ServerError("--speak needs espeak-ng: uv sync --extra speech")
    if vad == "silero":
        load_detector()
    Access.to(host, port, key, key_variable, origins)  # before anything is loaded
    model, tokenizer, _ = read_policy(find_policy(policy, None))
    limits = limits or Limits()
    engine = Engine(model.to(pick_device()), slots, chunks_per_step=1, full_duplex=full_duplex)
    engine.warm_up()  # before anybody can connect
    listening = _bind(host, port)
    for kept in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        listening.setsockopt(socket.SOL_SOCKET, kept, limits.socket_bytes)  # those it accepts inherit it
    port = listening.getsockname()[1]
    service = Service(
        EngineThread(engine),
        tokenizer,
        policy.name,
        limits,
        Access.to(host, port, key, key_variable, origins),
        _no_abort,
        Skills("audio" if speak else "text", vad),
    )
    return Server(service, listening), f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(
    policy: Path,
    host: str,
    port: int,
    slots: int,
    key_variable: str,
    origins: Sequence[str],
    out: TextIO = sys.stdout,
    *,
    speak: bool = False,
    vad: VADKind = "energy",
    full_duplex: bool = False,
) -> None:
    """Serve a policy until SIGTERM or SIGINT; its address goes to `out`, its log to stderr as JSON lines.

    The arguments are those of `make_server`.

    Raises:
        ServerError, PolicyError: as `make_server`.
    """
    key = os.environ.get(key_variable) or None
    server, address = make_server(
        policy,
        host,
        port,
        slots=slots,
        key=key,
        key_variable=key_variable,
        origins=origins,
        speak=speak,
        vad=vad,
        full_duplex=full_duplex,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(is_no_fault_of_a_client)
    for logger, level in ((LOGGER, logging.INFO), (logging.getLogger("uvicorn.error"), logging.WARNING)):
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    # A core is left to the event loop: torch's threads spin while they wait for each other, and it would wait for them.
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - 1)))
    # What is there now stays: to look through all of it for garbage holds every session up for half a second.
    gc.collect()
    gc.freeze()
    print(f"listening on {address}", file=out, flush=True)
    server.run_on_socket()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ServerError(f"{host}:{port} cannot be listened on: {error.strerror}; choose another --port") from error


def _no_abort(websocket: WebSocket, code: int, linger_s: float) -> None:
    raise AssertionError("a service is served by a Server")
