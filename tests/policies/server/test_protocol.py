"""Clients that do not stop when they are told to, or do not read: nobody waits for them, and they are cut off."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from policies.server import protocol
from policies.server.limits import Close, Limits
from policies.server.protocol import PatientProtocol
from policies.server.serve import Server
from tests.policies.server.conftest import PATIENT_S, Client, client, hears, run, running

TEXT = {"type": "input_text", "text": "x" * 15_000}
ITEM = {"type": "message", "role": "user", "content": [TEXT]}


@pytest.mark.parametrize("close", [Close.NOT_TEXT, Close.SLOW_READER])
def test_who_floods_a_closed_connection_is_read_slowly(
    policy: Path, close: Close, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, receive = list[int](), PatientProtocol.data_received

    def count(self: PatientProtocol, data: bytes) -> None:
        if self.close_sent:
            reads.append(len(data))
        receive(self, data)

    monkeypatch.setattr(PatientProtocol, "data_received", count)
    monkeypatch.setattr(protocol, "PAUSE_S", PATIENT_S)

    async def flood(flooder: Client) -> None:
        if close is Close.NOT_TEXT:
            await flooder.socket.send(b"no text")
        while True:
            await flooder.send("conversation.item.create", item=ITEM)
            await asyncio.sleep(0)  # a send that need not wait lets nobody else run

    async def talk() -> None:
        async with client(url) as flooder, client(url) as bystander:
            await flooder.until("session.created")
            flooder.socket.transport.pause_reading()
            sending = asyncio.create_task(flood(flooder))
            while f'closes_total{{code="{int(close)}"}} 1' not in httpx2.get(f"{url}/metrics").text:
                await hears(bystander)
            for _ in range(20):
                await hears(bystander)
            sending.cancel()
            flooder.socket.transport.abort()
        assert len(reads) <= 1

    with running(policy, Limits(send_s=0.2, linger_s=PATIENT_S, audio_burst_s=1e6)) as (_, url):
        run(talk)


@asynccontextmanager
async def deaf(server: Server, url: str) -> AsyncIterator[tuple[Client, PatientProtocol]]:
    """A client that does not read what it is sent, and the server's side of it."""
    with connect(url) as unread:
        async with client(url, sock=unread) as talker:
            await talker.until("session.created")
            talker.socket.transport.pause_reading()
            (connection,) = connections(server)
            connection.close_timeout = 0.5
            yield talker, connection
            talker.socket.transport.abort()


def connect(url: str) -> socket.socket:
    """Connect without a request, and with room for little of the answer."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
    end.setblocking(False)
    return end


def connections(server: Server) -> list[PatientProtocol]:
    return [one for one in server.server_state.connections if isinstance(one, PatientProtocol)]


async def all_gone(server: Server) -> None:
    while server.server_state.connections:
        await asyncio.sleep(0)  # else nothing would end the test


def send_at_once(talker: Client) -> None:
    """Send what the protocol has written, in one piece."""
    talker.socket.transport.write(b"".join(talker.socket.protocol.data_to_send()))


async def fill(talker: Client, connection: PatientProtocol) -> None:
    """Have the server answer more pings than its system keeps answers for an unread connection."""
    for _ in range(3000):
        talker.socket.protocol.send_ping(b"x" * 125)
    send_at_once(talker)
    while connection.writable.is_set():
        await asyncio.sleep(0)


@pytest.mark.parametrize("last", ["a binary frame", "a huge frame", "its own close", "an end of file"])
def test_who_does_not_read_the_end_is_cut_off(policy: Path, last: str) -> None:
    async def talk() -> None:
        async with deaf(server, url) as (talker, connection):
            await fill(talker, connection)
            connection.loop.call_soon_threadsafe(connection.resume_writing)  # else it is closed for not reading, before
            if last == "its own close":
                talker.socket.protocol.send_close(1000)
                send_at_once(talker)
            elif last == "an end of file":
                talker.socket.transport.write_eof()
            else:
                await talker.socket.send(b"no text" if last == "a binary frame" else "x" * (Limits().message_bytes + 1))
            await all_gone(server)

    with running(policy) as (server, url):
        run(talk)


def test_who_closes_after_it_is_closed_and_does_not_read_is_cut_off(policy: Path) -> None:
    async def talk() -> None:
        async with deaf(server, url) as (talker, connection):
            await fill(talker, connection)
            await talker.send("what has an answer")
            while not connection.close_sent:
                await asyncio.sleep(0)
            talker.socket.protocol.send_close(1000)
            send_at_once(talker)
            await all_gone(server)

    with running(policy, Limits(send_s=0.1, linger_s=PATIENT_S)) as (server, url):
        run(talk)


def test_who_closes_and_does_not_read_while_more_is_to_be_sent_has_left(policy: Path) -> None:
    async def talk() -> None:
        async with deaf(server, url) as (talker, connection):
            await fill(talker, connection)
            for _ in range(100):  # more answers than may wait: nothing more is read
                talker.socket.protocol.send_text(b"{}")
            talker.socket.protocol.send_close(1000)
            send_at_once(talker)
            await all_gone(server)
        while server._service.telemetry.connections:
            await asyncio.sleep(0)
        assert server._service.telemetry.counters["closes"].total() == 1

    with running(policy, Limits(send_s=0.1)) as (server, url):
        run(talk)


def test_a_server_stops_while_a_client_does_not_read_the_answer_to_its_close(policy: Path) -> None:
    async def talk() -> None:
        async with deaf(server, url) as (talker, connection):
            connection.close_timeout = PATIENT_S
            await fill(talker, connection)
            talker.socket.protocol.send_close(1000)
            send_at_once(talker)
            while not connection.transport.is_closing():
                await asyncio.sleep(0)
            server.should_exit = True
            while server._service.thread.alive:
                await asyncio.sleep(0)

    with running(policy, Limits(send_s=0.1)) as (server, url):
        run(talk)


def test_a_close_behind_text_that_is_no_utf8_has_its_answer(policy: Path) -> None:
    async def talk() -> None:
        async with client(url) as talker:
            await talker.until("session.created")
            talker.socket.protocol.send_text(b"\xff")
            talker.socket.protocol.send_close(1000)
            send_at_once(talker)
            await talker.socket.wait_closed()
            assert talker.socket.close_code == 1000

    with running(policy) as (_, url):
        run(talk)


@pytest.mark.parametrize("spare", ["pings", "pongs", "fragments"])
def test_frames_without_a_message_come_to_an_end(policy: Path, spare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SPARE_FRAMES", 10)

    async def send(talker: Client, frames: int) -> None:
        writer = talker.socket.protocol
        for i in range(frames):
            if spare == "fragments":
                writer.send_continuation(b"", fin=False) if i else writer.send_text(b"{}", fin=False)
            elif spare == "pings":
                writer.send_ping(b"")
            else:
                writer.send_pong(b"")
        if spare == "fragments" and frames == 10:
            writer.send_continuation(b"", fin=True)
        send_at_once(talker)

    async def talk() -> None:
        async with client(url) as talker:
            await talker.until("session.created")
            for _ in range(3):
                await send(talker, 10)
                await hears(talker)
            await send(talker, 12)
            await talker.socket.wait_closed()
            assert talker.socket.close_code == Close.NO_MESSAGE

    with running(policy) as (_, url):
        run(talk)


@pytest.mark.parametrize(
    "request_of", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"]
)
def test_who_does_not_finish_a_request_is_cut_off(
    policy: Path, request_of: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "REQUEST_S", 0.5)

    async def talk() -> None:
        async with client(url) as talker:  # began before, and goes on
            with connect(url) as end:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(end, request_of)
                with suppress(ConnectionError):
                    while await loop.sock_recv(end, 1 << 16):
                        if b"Length" in request_of:
                            await drip(end)
            await hears(talker)

    async def drip(end: socket.socket) -> None:
        while True:  # what comes within the time that uvicorn keeps a connection renews it
            await asyncio.get_running_loop().sock_sendall(end, b"x")
            await asyncio.sleep(0)

    with running(policy) as (_, url):
        run(talk)


def test_who_does_not_read_an_answer_is_cut_off(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REQUEST_S", 0.5)

    async def talk() -> None:
        with connect(url) as end:
            asks = b"GET /page/main.js HTTP/1.1\r\nHost: x\r\n\r\n"
            await asyncio.get_running_loop().sock_sendall(end, 100 * asks)
            while not server.server_state.total_requests:
                await asyncio.sleep(0)
            await all_gone(server)

    with running(policy) as (server, url):
        run(talk)
