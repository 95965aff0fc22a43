"""The process: what it prints, its health, its log, how it stops; and a stock client."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from openai import AsyncOpenAI
from websockets.exceptions import InvalidStatus

from policies.server.limits import Close, Limits
from policies.silero import load_detector
from tests.policies.server.conftest import PATIENT_S, client, pcm, run, running
from tests.policies.server.test_limits import closed
from trainers.cli import main


def test_health_and_numbers(address: str) -> None:
    assert httpx2.get(f"{address}/healthz").text == "ok\n"
    assert httpx2.get(f"{address}/readyz").text == "ready\n"
    metrics = httpx2.get(f"{address}/metrics").text
    assert "soundflow_slots 16\n" in metrics
    assert "# TYPE soundflow_connections gauge" in metrics
    page = httpx2.get(f"{address}/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    for part in ("style.css", "main.js", "protocol.js", "plots.js", "voice.js", "capture.js", "favicon.svg"):
        assert httpx2.get(f"{address}/page/{part}").status_code == 200
    assert httpx2.get(f"{address}/page/../serve.py").status_code == 404


def test_serve_prints_its_address_drains_a_reply_and_stops(policy: Path) -> None:
    """SIGTERM in the middle of a reply: it ends, the client is told to come back, and nothing private was logged."""
    command = [sys.executable, "-m", "trainers.cli", "serve", "--policy", str(policy), "--port", "0"]
    environment = {**os.environ, "SOUNDFLOW_API_KEY": "s3cret"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        url = line.split()[-1]

        async def talk() -> None:
            with pytest.raises(InvalidStatus, match="401"):
                async with client(url, additional_headers={"Authorization": "Bearer a guess"}):
                    pass
            key = {"Authorization": "Bearer s3cret"}
            async with client(url, additional_headers=key) as broken:
                await broken.socket.send(b"\xff", text=True)
                assert await closed(broken) == (Close.NOT_UTF8, [])
            async with client(url, additional_headers=key) as talker:
                await talker.send("session.update", session={"soundflow": {"threshold": 0}})
                await talker.send("input_audio_buffer.append", audio=pcm(0.4))
                await talker.until("response.output_item.added")
                process.send_signal(signal.SIGTERM)
                assert await closed(talker) == (Close.RESTART, [])
                assert talker.seen[-1]["response"]["status"] == "completed"

        try:
            run(talk)
            _, log = process.communicate(timeout=PATIENT_S)
        finally:
            process.kill()  # else one that hangs would be waited for
    lines = [json.loads(entry) for entry in log.splitlines()]
    told = [entry["event"] for entry in lines]
    assert told[:3] == ["connection refused", "session opened", "session closed"]  # faults of clients are no errors
    assert told[3:] == ["session opened", "draining", "session closed"]
    assert lines[-1]["code"] == "1012"
    assert "s3cret" not in log


def test_serve_keeps_its_process_free_for_clients(policy: Path) -> None:
    """The model is no business of the garbage collector's, and torch leaves a core to the event loop."""
    script = """
import gc, os, pathlib, sys, torch
from policies.server import serve
torch.set_num_threads(os.cpu_count())
serve.Server.run_on_socket = lambda self: print(len(gc.get_objects()), torch.get_num_threads())
serve.serve(pathlib.Path(sys.argv[1]), "127.0.0.1", 0, 1, "UNSET", ())
"""
    out = subprocess.run([sys.executable, "-c", script, policy], text=True, stdout=subprocess.PIPE, check=True).stdout
    objects, threads = map(int, out.splitlines()[-1].split())
    assert objects < 10_000  # a model, and the modules that it needs, are 400,000
    assert threads == max(1, (os.cpu_count() or 1) - 1)


def test_a_stop_waits_no_longer_than_it_may(policy: Path) -> None:
    """A reply that does not end, since nothing steps any more, is left after the time to drain."""

    async def talk() -> None:
        async with client(url) as talker:
            await talker.until("session.created")
            server._service.thread.stop()
            await talker.send("response.create")
            await talker.until("response.created")
            assert (await asyncio.to_thread(httpx2.get, f"{url}/readyz")).status_code == 503
            server.should_exit = True
            assert await closed(talker) == (Close.RESTART, [])

    with running(policy, Limits(drain_s=0.1)) as (server, url):
        run(talk)


def test_nobody_is_let_in_where_nothing_steps_any_more(policy: Path) -> None:
    async def talk() -> None:
        assert (await asyncio.to_thread(httpx2.get, f"{url}/readyz")).status_code == 200
        server._service.thread.stop()
        with pytest.raises(InvalidStatus) as refused:
            async with client(url):
                pass
        assert refused.value.response.status_code == 503
        assert b"engine_failed" in (refused.value.response.body or b"")

    with running(policy) as (server, url):
        run(talk)


def test_a_reply_that_cannot_go_on_does_not_keep_others_from_being_told_of_a_stop(policy: Path) -> None:
    async def talk() -> None:
        async with client(url) as hurt, client(url) as other:
            await other.until("session.created")
            await hurt.send("session.update", session={"soundflow": {"threshold": 0}})
            await hurt.send("input_audio_buffer.append", audio=pcm(0.4))
            await hurt.until("response.output_item.added")
            service = server._service
            (replying,) = (c.session for c in service.connections if c.session.response is not None)
            service.thread.close(replying._engine_id)  # as where a step has just failed, and nobody knows
            server.should_exit = True
            assert await closed(other) == (Close.RESTART, [])
            assert await closed(hurt) == (Close.RESTART, ["audio_backlog"])

    with running(policy, Limits(drain_s=0.1, reply_patience_s=PATIENT_S)) as (server, url):
        run(talk)


@pytest.mark.parametrize("options", [["--port", "70000"], ["--slots", "0"]])
def test_serve_refuses_bad_options(options: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", *options])


def test_serve_refuses_to_be_reached_without_a_key(
    policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    assert main(["serve", "--policy", str(policy), "--host", "0.0.0.0", "--api-key-env", "MY_KEY"]) == 2
    assert "the variable MY_KEY holds no key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "package", "remedy"),
    [
        (["--speak"], "espeakng_loader", "uv sync --extra speech"),
        (["--vad", "silero"], "silero_vad", "uv sync --extra vad"),
    ],
)
def test_serve_names_the_extra_that_it_lacks(
    policy: Path,
    options: list[str],
    package: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load_detector.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", "--policy", str(policy), "--port", "0", *options]) == 2
    assert remedy in capsys.readouterr().err


def test_the_openai_client_has_a_turn(policy: Path) -> None:
    async def talk() -> None:
        openai = AsyncOpenAI(
            api_key="s3cret", base_url=f"{url}/v1", websocket_base_url=url.replace("http", "ws") + "/v1"
        )
        async with openai.realtime.connect(model="tiny", websocket_connection_options={"proxy": None}) as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            await connection.input_audio_buffer.append(audio=pcm(0.5))
            await connection.input_audio_buffer.commit()
            await connection.response.create(response={"metadata": {"turn": "1"}})
            text, kinds = "", list[str]()
            async for event in connection:
                kinds.append(event.type)
                if event.type == "response.output_text.delta":
                    text += event.delta
                elif event.type == "response.done":
                    assert event.response.status == "completed"
                    assert event.response.metadata == {"turn": "1"}
                    assert event.response.output[0].content[0].text == text
                    break
            assert kinds[0] == "session.created"
            assert "input_audio_buffer.committed" in kinds

    with running(policy, key="s3cret") as (_, url):
        run(talk)
