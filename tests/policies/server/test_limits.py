"""Who is let in, what ends a connection and with which code, and that nobody else is harmed."""

import asyncio
import json
import random
import socket
import string
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from envs.errors import ServerError
from policies.engine import Engine
from policies.server.access import Access
from policies.server.audio_allowance import AllowanceError, AudioAllowance
from policies.server.limits import Close, Limits
from policies.server.serve import make_server
from policies.server.turns import TurnDetector
from tests.policies.server.conftest import PATIENT_S, Client, client, hears, pcm, run, running


async def closed(talker: Client) -> tuple[int, list[str]]:
    """Read to the end; return the close code, and the codes of the errors before it."""
    with pytest.raises(ConnectionClosed) as end:
        await talker.until("the end", count=1)
    assert end.value.rcvd is not None
    return end.value.rcvd.code, [e["error"]["code"] for e in talker.seen if e["type"] == "error"]


def test_an_address_that_others_reach_needs_a_key(policy: Path) -> None:
    with pytest.raises(ServerError, match=r"--host 0\.0\.0\.0 can be reached.*SOUNDFLOW_API_KEY holds no key"):
        make_server(policy, "0.0.0.0", 0)
    with pytest.raises(ServerError, match="printable ASCII"):
        Access.to("127.0.0.1", 1, "two words", "KEY", ())


@pytest.mark.parametrize("origin", ["sound.example.org", "*", "https://*", "null", "https://sound.example.org/page"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ServerError, match=r"--allow-origin .* is no origin"):
        Access.to("127.0.0.1", 1, None, "KEY", [origin])
    assert Access.to("127.0.0.1", 1, None, "KEY", ["https://Sound.example.org/"]).allows_origin(
        "https://sound.example.org"
    )


def test_a_port_that_is_taken_is_named(policy: Path, address: str) -> None:
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(ServerError, match=f"{port} cannot be listened on.*choose another --port"):
        make_server(policy, port=port)


def test_nobody_connects_before_the_engine_is_warm(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client would wait for it, and a port that was bound would stay so where it fails."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def warm_up(_: Engine) -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Engine, "warm_up", warm_up)
    with pytest.raises(RuntimeError, match="out of memory"):
        make_server(policy, port=port)


def test_keys_and_origins(policy: Path) -> None:
    async def status(url: str, **options: Any) -> int:
        try:
            async with client(url, **options) as talker:
                await talker.until("session.created")
                assert talker.socket.subprotocol in (None, "realtime")
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    async def talk() -> None:
        good = {"Authorization": "Bearer s3cret"}
        assert await status(url) == 401
        assert await status(url, additional_headers={"Authorization": "Bearer s3cres"}) == 401
        assert await status(url, additional_headers=good) == 101
        assert await status(url, subprotocols=["realtime", "openai-insecure-api-key.s3cret"]) == 101
        assert await status(url, subprotocols=["realtime", "openai-insecure-api-key."]) == 401
        assert await status(url, additional_headers=good, origin="https://evil.example") == 403
        assert await status(url, additional_headers=good, origin="https://mine.example") == 101
        assert await status(url, additional_headers=good, origin=url) == 101
        assert httpx2.get(f"{url}/metrics").status_code == 401
        metrics = httpx2.get(f"{url}/metrics", headers=good).text
        assert 'soundflow_refusals_total{reason="invalid_api_key"} 3' in metrics
        assert "s3cret" not in metrics

    with running(policy, key="s3cret", origins=["https://mine.example"]) as (_, url):
        run(talk)


def test_one_session_too_many_is_told_so_and_the_others_go_on(policy: Path) -> None:
    async def talk() -> None:
        async with client(url) as first:
            async with client(url) as second:
                assert await closed(second) == (Close.FULL, ["session_limit_reached"])
            await hears(first)
        while "soundflow_connections 0\n" not in httpx2.get(f"{url}/metrics").text:
            await asyncio.sleep(0)  # else nothing would end the test
        async with client(url) as third:  # the slot is free
            await hears(third)
            assert "soundflow_connections 1\n" in httpx2.get(f"{url}/metrics").text

    with running(policy, slots=1) as (_, url):
        run(talk)


BREACHES: dict[str, tuple[Limits, Callable[[Client], Any], int, list[str]]] = {
    "bytes": (Limits(), lambda c: c.socket.send(b"x"), Close.NOT_TEXT, ["invalid_event"]),
    "large": (Limits(message_bytes=100), lambda c: c.socket.send("x" * 101), Close.TOO_LARGE, []),
    "utf8": (Limits(), lambda c: c.socket.send(b"\xff\xfe", text=True), Close.NOT_UTF8, []),
    "rate": (
        Limits(audio_burst_s=1.0),
        lambda c: c.send("input_audio_buffer.append", audio=pcm(1.5)),
        Close.AUDIO_RATE,
        ["audio_rate_exceeded"],
    ),
    "budget": (
        Limits(audio_budget_s=1.0),
        lambda c: c.send("input_audio_buffer.append", audio=pcm(1.5)),
        Close.AUDIO_BUDGET,
        ["audio_budget_exceeded"],
    ),
    "idle": (Limits(idle_s=0.05), lambda _: asyncio.sleep(0), Close.IDLE, ["idle_timeout"]),
    "lifetime": (Limits(lifetime_s=0.05), lambda _: asyncio.sleep(0), Close.LIFETIME, ["session_expired"]),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_ends_with_its_code(policy: Path, breach: str) -> None:
    limits, commit, code, errors = BREACHES[breach]

    async def talk() -> None:
        async with client(url) as talker:
            await talker.until("session.created")
            await commit(talker)
            assert await closed(talker) == (code, errors)

    with running(policy, limits) as (_, url):
        run(talk)


def test_the_bucket_fills_at_a_multiple_of_real_time() -> None:
    now = [0.0]
    allowance = AudioAllowance(Limits(audio_rate=2.0, audio_burst_s=10.0, audio_budget_s=14.0), lambda: now[0])
    allowance.take(10.0)
    with pytest.raises(AllowanceError, match="10 s at once, and 2 s a second"):
        allowance.take(0.1)
    now[0] = 1.5
    allowance.take(3.0)
    now[0] = 100.0
    with pytest.raises(AllowanceError, match="may send 14 s"):
        allowance.take(2.0)


def test_a_client_that_does_not_read_is_closed_and_nobody_else_is_harmed(policy: Path) -> None:
    async def talk() -> None:
        async with client(url, max_queue=1) as slow, client(url) as other:
            await slow.until("session.created")
            text = [{"type": "input_text", "text": "x" * 15_000}]
            item = {"type": "message", "role": "user", "content": text}
            send = asyncio.create_task(_flood(slow, item))
            while 'closes_total{code="4004"} 1' not in (await http.get(f"{url}/metrics")).text:
                await hears(other)
            code, _ = await closed(slow)
            assert code == Close.SLOW_READER
            await send
            await hears(other)

    async def _flood(slow: Client, item: dict[str, Any]) -> None:
        try:
            while True:
                await slow.send("conversation.item.create", item=item)
                await asyncio.sleep(0)  # a send that need not wait lets nobody else run
        except ConnectionClosed:
            return

    async def main() -> None:
        nonlocal http
        async with httpx2.AsyncClient() as http:
            await talk()

    http: Any = None
    with running(policy, Limits(send_s=0.2, linger_s=PATIENT_S, audio_burst_s=1e6)) as (_, url):
        run(main)


def test_nobody_waits_for_the_work_of_those_that_have_gone(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    monkeypatch.setattr(TurnDetector, "push", lambda _, samples: iter(heard.append(len(samples)) or ()))

    async def talk() -> None:
        hearing, busy = server._service.skills.hearing, threading.Event()
        hearing.submit(busy.wait, PATIENT_S)
        async with client(url) as talker:
            await talker.send("session.update", session={"turn_detection": {"type": "server_vad"}})
            for _ in range(5):
                await talker.send("input_audio_buffer.append", audio=pcm(0.4))
            await talker.until("response.listen", 5)
        while "soundflow_connections 0\n" not in httpx2.get(f"{url}/metrics").text:
            await asyncio.sleep(0)  # else nothing would end the test
        busy.set()
        await asyncio.wrap_future(hearing.submit(lambda: None))
        assert not heard

    with running(policy, vad="silero") as (server, url):
        run(talk)


def test_what_is_not_yet_judged_is_bounded_and_nothing_is_lost(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = 100

    async def talk() -> None:
        hearing, busy, handed_over = server._service.skills.hearing, threading.Event(), list[Any]()
        submit = hearing.submit
        submit(busy.wait, PATIENT_S)
        monkeypatch.setattr(hearing, "submit", lambda *work: handed_over.append(work) or submit(*work))
        async with client(url) as talker, client(url) as bystander:
            vad = {"type": "server_vad"}
            await talker.send("session.update", session={"turn_detection": vad, "soundflow": {"threshold": 1}})
            for _ in range(chunks):
                await talker.send("input_audio_buffer.append", audio=pcm(0.4))
            await talker.until("response.listen", 64)
            await hears(bystander)
            assert len(handed_over) <= 65
            busy.set()
            await talker.until("response.listen", chunks - 64)
            assert len(handed_over) == chunks

    with running(policy, Limits(audio_burst_s=1e6), vad="silero") as (server, url):
        run(talk)


EVENTS = [
    '{"type":"session.update","session":{"turn_detection":{"type":"server_vad"},"soundflow":{"threshold":0.5}}}',
    '{"type":"input_audio_buffer.append","audio":"' + pcm(0.05) + '"}',
    '{"type":"input_audio_buffer.commit"}',
    '{"type":"input_audio_buffer.clear","event_id":"e"}',
    '{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text"}]}}',
    '{"type":"conversation.item.retrieve","item_id":"x"}',
    '{"type":"conversation.item.delete","item_id":null}',
    '{"type":"response.create","response":{"metadata":{"a":"b"}}}',
    '{"type":"response.cancel"}',
]
PIECES = [
    '"',
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "1e400",
    "9" * 400,
    "-1",
    "NaN",
    "\\ud800",
    "\x00",
    "é",
    "true",
    "type",
    "[" * 50,
]


def mutated(rng: random.Random) -> str:
    """Return a frame: a client event with some of it replaced, swapped or cut, or noise."""
    if rng.random() < 0.1:
        return "".join(rng.choices(string.printable, k=rng.randrange(200)))
    frame = rng.choice(EVENTS)
    for _ in range(rng.randrange(4)):
        at, end = sorted(rng.randrange(len(frame) + 1) for _ in range(2))
        end = min(end, at + 20)
        frame = frame[:at] + rng.choice([*PIECES, frame[at:end] * 2, ""]) + frame[end:]
    return frame


async def answered(talker: Client, event_id: str) -> int | None:
    """Read until an event has its answer, and return None; or until the server closes, and return its code."""
    try:
        while (await talker.next()).get("error", {}).get("event_id") != event_id:
            pass
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else 1006
    return None


def test_thousands_of_broken_frames_end_in_typed_errors_and_the_engine_goes_on(policy: Path) -> None:
    codes = set[str]()

    async def fuzz(seed: int, frames: int) -> None:
        """Send frames, connecting again when the server has closed; at the end it still answers."""
        rng, sent = random.Random(seed), 0
        while sent < frames:
            async with client(url) as talker:
                reader = asyncio.create_task(answered(talker, "the end"))
                binary = False
                while sent < frames and not binary:
                    sent, binary = sent + 1, rng.random() < 0.002
                    await talker.socket.send(rng.randbytes(20) if binary else mutated(rng))
                if not binary:
                    await talker.send("the.end", event_id="the end")
                code = await reader
                assert code == (Close.NOT_TEXT if binary else None)
                codes.update(e["error"]["code"] for e in talker.seen if e["type"] == "error")

    async def talk() -> None:
        async with client(url) as other:
            await other.until("session.created")
            attackers = asyncio.gather(*(fuzz(seed, 5000) for seed in range(2)))
            while not attackers.done():
                await hears(other)
            await attackers
            await hears(other)
            assert other.kinds().count("error") == 0
            assert httpx2.get(f"{url}/readyz").status_code == 200
        assert {"invalid_json", "invalid_event", "unknown_event", "invalid_audio", "invalid_value"} <= codes
        assert "server_error" not in codes

    with running(policy, Limits(reply_patience_s=0.01, audio_burst_s=1e6), slots=16) as (_, url):
        run(talk)


def test_a_step_that_fails_ends_its_sessions_with_an_error_and_new_ones_are_served(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    async def talk() -> None:
        async with client(url) as hurt, client(url) as safe:
            with monkeypatch.context() as patch:
                patch.setattr(server._service.thread.engine.model, "encode", fail)
                await hurt.send("input_audio_buffer.append", audio=pcm(0.4))
                assert await closed(hurt) == (Close.ENGINE_FAILED, ["server_error"])
                assert "memory" not in json.dumps(hurt.seen)
                assert [e["error"]["type"] for e in hurt.seen if e["type"] == "error"] == ["server_error"]
            await hears(safe)

    with running(policy) as (server, url):
        run(talk)
