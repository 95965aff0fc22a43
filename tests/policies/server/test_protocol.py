"""Clients that do not stop when they are told to, or do not read: nobody waits for them, and they are cut off."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import httpx2
import pytest

from policies.server import protocol
from policies.server.limits import Close, Limits
from policies.server.protocol import PatientProtocol
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


@pytest.mark.parametrize("last", ["a binary frame", "a huge frame", "its own close"])
def test_who_does_not_read_the_end_is_cut_off(policy: Path, last: str) -> None:
    async def talk() -> None:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        deaf.setblocking(False)
        async with client(url, sock=deaf) as talker:
            await talker.until("session.created")
            talker.socket.transport.pause_reading()
            (connection,) = connections()
            connection.close_timeout = 0.1
            connection.transport.set_write_buffer_limits(high=1 << 24)  # else it is closed for not reading, before
            while not connection.transport.get_write_buffer_size():
                await talker.send("conversation.item.create", item=ITEM)
            if last == "its own close":
                talker.socket.protocol.send_close(1000)
                talker.socket.transport.write(b"".join(talker.socket.protocol.data_to_send()))
            else:
                await talker.socket.send(b"no text" if last == "a binary frame" else "x" * (Limits().message_bytes + 1))
            while connections():
                await asyncio.sleep(0)  # else nothing would end the test
            talker.socket.transport.abort()

    def connections() -> list[Any]:
        return [one for one in server.server_state.connections if isinstance(one, PatientProtocol)]

    with running(policy) as (server, url):
        run(talk)
