"""A real server on a free port with a tiny random model, and a client that says what came."""

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from policies.policy_folder import write_policy
from policies.server.limits import Limits
from policies.server.serve import Server, make_server
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model

Event = dict[str, Any]
PATIENT_S = 60.0  # after which a test gives up


@pytest.fixture(scope="session")
def policy(tokenizer: ReplyTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_talker(tmp_path_factory.mktemp("served") / "tiny", tokenizer)


def write_talker(folder: Path, tokenizer: ReplyTokenizer, reply_tokens: int = 8) -> Path:
    model = tiny_model(tokenizer, seed=2)
    decisions = (model.layout.silent, model.layout.response)
    words = [i for i in range(tokenizer.vocab_size) if i in decisions or tokenizer.decode([i]).strip().isalpha()]
    others = np.setdiff1d(np.arange(tokenizer.vocab_size), words)
    model.lm_head.weight.data[others] = 0.0  # the end token, too: replies are of letters, as long as they may be
    model.config.max_reply_tokens = reply_tokens
    write_policy(folder, model, tokenizer)
    return folder


@pytest.fixture(scope="session")
def talkative(tokenizer: ReplyTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy whose replies are longer than any test wants to hear."""
    return write_talker(tmp_path_factory.mktemp("talkative") / "talkative", tokenizer, reply_tokens=60)


@contextmanager
def running(policy: Path, limits: Limits | None = None, **options: Any) -> Iterator[tuple[Server, str]]:
    server, address = make_server(policy, port=0, limits=limits, **options)
    thread = threading.Thread(target=server.run_on_socket, daemon=True)
    thread.start()
    try:
        yield server, address
    finally:
        server.should_exit = True
        thread.join(PATIENT_S)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def address(policy: Path) -> Iterator[str]:
    """A server that many tests share."""
    with running(policy, Limits(audio_burst_s=1e6, reply_patience_s=0.05), slots=16) as (_, found):
        yield found


def pcm(seconds: float, seed: int = 0, level: float = 0.1) -> str:
    samples = level * np.random.default_rng(seed).standard_normal(round(24_000 * seconds))
    return base64.b64encode((samples.clip(-1, 1) * 32767).astype("<i2").tobytes()).decode()


class Client:
    """Sends client events, and keeps what came until somebody asks for it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen: list[Event] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def next(self) -> Event:
        event: Event = json.loads(await asyncio.wait_for(self.socket.recv(), PATIENT_S))
        self.seen.append(event)
        return event

    async def until(self, kind: str, count: int = 1) -> Event:
        """Read until so many events of a kind have come; return the last."""
        while True:
            event = await self.next()
            count -= event["type"] == kind
            if not count:
                return event

    def kinds(self, *without: str) -> list[str]:
        return [e["type"] for e in self.seen if e["type"] not in without]


async def hears(talker: Client) -> None:
    """Check that a session takes a decision."""
    await talker.send("input_audio_buffer.append", audio=pcm(0.4))
    while (await talker.next())["type"] not in ("response.listen", "response.speak"):
        pass


@asynccontextmanager
async def client(address: str, **options: Any) -> AsyncIterator[Client]:
    url = address.replace("http", "ws") + "/v1/realtime?model=tiny"
    async with connect(url, proxy=None, **options) as socket:
        talker = Client(socket)
        yield talker


def run(talk: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(talk(), 2 * PATIENT_S))
