"""Clients that break the rules, to see that they harm nobody else; `run_rounds` fills a process with them."""

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from envs.clock import CHUNK_S
from policies.server.limits import Close, Limits
from trainers.server_load import connected, encode_pcm, event_text, make_sound

_CHUNK = event_text("input_audio_buffer.append", audio=encode_pcm(make_sound(CHUNK_S, 0)))
_ITEM = event_text(
    "conversation.item.create",
    item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 15_000}]},
)
_PATIENCE_S = 30.0  # after which an offender gives the server up
_FULL_S = 0.2  # until one that found all slots taken tries again
_SMALL_BUFFER = 4096  # bytes that a slow reader's kernel takes for it
_JUNK: dict[str, str] = {  # and the error that answers it
    '{"type":"input_audio_buffer.append","audio":': "invalid_json",
    '{"type":"input_audio_buffer.append","audio":NaN}': "invalid_json",
    "[" * 5000: "invalid_json",
    f'{{"type":"input_audio_buffer.append","audio":[{"[]," * 300_000}[]]}}': "invalid_json",  # dear to decode
    "[]": "invalid_json",
    "{}": "invalid_event",
    '{"type":"input_audio_buffer.appendix"}': "unknown_event",
    '{"type":"input_audio_buffer.append","audio":"?!"}': "invalid_audio",
    '{"type":"input_audio_buffer.append","audio":"AAAA"}': "invalid_audio",  # three bytes: half a sample is left
    '{"type":"input_audio_buffer.append","audio":7}': "invalid_audio",
    '{"type":"session.update","session":7}': "invalid_value",
}


@dataclass(frozen=True)
class Rounds:
    """Offences: every round commits each kind once.

    Attributes:
        count: How many rounds.
        at_once: How many of them.
        slow_s: How long one that does not read waits to be closed.
    """

    count: int
    at_once: int
    slow_s: float = 2 * Limits().send_s + Limits().linger_s


@dataclass(frozen=True)
class Offences:
    """What offenders did and met.

    Attributes:
        committed: How often each kind was carried out.
        unexpected: What the server did to an offender other than its documentation says, by kind, and how often.
    """

    committed: dict[str, int]
    unexpected: dict[str, int]


def run_rounds(address: str, rounds: Rounds) -> Offences:
    """Commit offences against a server, and wait until all are over."""
    return asyncio.run(_rounds(address, rounds))


async def _rounds(address: str, rounds: Rounds) -> Offences:
    committed, unexpected = Counter[str](), Counter[str]()
    turn = asyncio.Semaphore(rounds.at_once)

    async def commit(kind: str, offence: "Offence", number: int) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                wrong = await offence(address, rounds, random.Random(number))
        except TimeoutError:
            wrong = f"nothing came within {_PATIENCE_S:.0f} s"
        except (OSError, WebSocketException) as error:
            wrong = f"{type(error).__name__}: {error}"
        committed[kind] += 1
        if wrong is not None:
            unexpected[f"{kind}: {wrong}"] += 1

    async def round_of(number: int) -> None:
        async with turn:
            await asyncio.gather(*(commit(kind, offence, number) for kind, offence in _OFFENCES.items()))

    await asyncio.gather(*(round_of(number) for number in range(rounds.count)))
    return Offences(dict(committed), dict(unexpected))


class _Let:
    """A connection that was let in: where all slots are taken it waits, since those who left may not be gone yet."""

    def __init__(self, address: str, **options: Callable[[], Any]) -> None:
        self._address, self._options = address, options  # an option is made anew for each attempt

    async def __aenter__(self) -> ClientConnection:
        while True:
            made = connected(self._address, **{name: make() for name, make in self._options.items()})
            self._socket = await made
            event = json.loads(await self._socket.recv())
            if event["type"] == "session.created":
                return self._socket
            await self._socket.close()
            await asyncio.sleep(_FULL_S)

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()


async def _until(client: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(await client.recv())
        if event["type"] == kind:
            return event


async def _error(client: ClientConnection) -> str:
    return str((await _until(client, "error"))["error"]["code"])


async def _closed(client: ClientConnection) -> int:
    """Read to the end; return the close code."""
    try:
        while True:
            await client.recv()
    except ConnectionClosed as end:
        return 1006 if end.rcvd is None else end.rcvd.code


async def _die_in_a_reply(address: str, _: Rounds, __: random.Random) -> str | None:
    """Be killed in the middle of a reply: the kernel of such a client answers with a reset."""
    async with _Let(address) as client:
        await client.send(event_text("session.update", session={"soundflow": {"threshold": 0}}))
        await client.send(_CHUNK)
        await _until(client, "response.content_part.added")
        _reset(client)
    return None


def _reset(client: ClientConnection) -> None:
    """End a connection with a TCP reset."""
    raw = client.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()


async def _commit_nothing(address: str, _: Rounds, __: random.Random) -> str | None:
    """Commit an empty buffer; the session goes on."""
    async with _Let(address) as client:
        await client.send(event_text("input_audio_buffer.commit"))
        code = await _error(client)
        await client.send(_CHUNK)
        while json.loads(await client.recv())["type"] not in ("response.listen", "response.speak"):
            pass
    return None if code == "input_audio_buffer_commit_empty" else f"answered by {code}"


async def _send_junk(address: str, _: Rounds, rng: random.Random) -> str | None:
    """Send what is no event, each of which is answered, and then a frame that ends the connection."""
    async with _Let(address) as client:
        for message in rng.sample(list(_JUNK), len(_JUNK)):
            await client.send(message)
            if (code := await _error(client)) != _JUNK[message]:
                return f"{message[:40]!r} answered by {code}"
        binary = rng.random() < 0.5
        last = rng.randbytes(1000) if binary else "x" * (Limits().message_bytes + 1)
        with suppress(ConnectionClosed):  # in the middle of a frame that is too large
            await client.send(last)
        end, expected = await _closed(client), Close.NOT_TEXT if binary else Close.TOO_LARGE
    return None if end == expected else f"{'a binary' if binary else 'a huge'} frame closed with {end}"


async def _never_read(address: str, rounds: Rounds, _: random.Random) -> str | None:
    """Ask for much and read nothing, until the server ends it."""
    async with _Let(address, sock=lambda: _small_socket(address)) as client:
        client.transport.pause_reading()
        try:
            async with asyncio.timeout(rounds.slow_s):
                while True:
                    await client.send(_ITEM)
                    await asyncio.sleep(0)  # a send that need not wait lets nobody else run
        except TimeoutError:
            _reset(client)
            return "not closed in time" if rounds.slow_s >= Rounds.slow_s else None
        except ConnectionClosed:
            return None


def _small_socket(address: str) -> socket.socket:
    """Return a connected socket whose kernel takes little for it."""
    host, port = address.removeprefix("http://").rsplit(":", 1)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
    small.connect((host, int(port)))
    small.setblocking(False)
    return small


Offence = Callable[[str, Rounds, random.Random], Awaitable[str | None]]  # returns what was not as documented
_OFFENCES: dict[str, Offence] = {
    "killed_in_a_reply": _die_in_a_reply,
    "empty_commit": _commit_nothing,
    "junk_frames": _send_junk,
    "slow_reader": _never_read,
}
