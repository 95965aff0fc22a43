"""Whole turns over a real socket: who decides to speak, what comes in which order, and what is refused."""

import base64
import threading
from pathlib import Path
from typing import Any

import pytest

from envs.scenario import Audio
from policies.engine import StepEvent
from policies.server.engine_thread import EngineThread
from tests.policies.server.conftest import PATIENT_S, Client, client, pcm, run

TURN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.created",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]


async def only_when_asked(talker: Client) -> None:
    await talker.until("session.created")
    await talker.send("session.update", session={"soundflow": {"threshold": 2}})
    await talker.until("session.updated")
    talker.seen.clear()


def once(kinds: list[str]) -> list[str]:
    """Return kinds without those that follow themselves."""
    return [kind for i, kind in enumerate(kinds) if kind != "".join(kinds[i - 1 : i])]


def test_a_session_is_shown_in_both_shapes_and_unknown_fields_are_ignored(address: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            created = await talker.next()
            assert created["type"] == "session.created"
            session = created["session"]
            assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
            assert session["input_audio_format"] == "pcm16"
            assert session["turn_detection"] is None
            beta = {"turn_detection": {"type": "server_vad", "threshold": 0.3}, "voice": "alloy", "tracing": {"a": []}}
            await talker.send("session.update", session=beta)
            session = (await talker.next())["session"]
            assert session["audio"]["input"]["turn_detection"]["threshold"] == 0.3
            ga = {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}, "noise_reduction": {"type": "x"}}}}
            await talker.send("session.update", session={**ga, "max_output_tokens": 5})
            session = (await talker.next())["session"]
            assert session["turn_detection"]["type"] == "semantic_vad"
            assert session["max_response_output_tokens"] == 5

    run(talk)


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"input_audio_format": "g711_ulaw"}, "session.input_audio_format"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}}}, "session.audio.input.format"),
        ({"audio": {"input": 3}}, "session.audio.input"),
        ({"audio": []}, "session.audio"),
        ({"turn_detection": {"type": "psychic"}}, "session.turn_detection.type"),
        ({"turn_detection": {"type": "server_vad", "threshold": 2}}, "session.turn_detection"),
        ({"soundflow": {"threshhold": 0.5}}, "session.soundflow.threshhold"),
        ({"soundflow": {"top_p": 0}}, "session.soundflow"),
        ({"soundflow": {"bias": "x"}}, "session.soundflow.bias"),
        ({"max_output_tokens": True}, "session.max_output_tokens"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
    ],
)
def test_a_setting_that_cannot_be_had_changes_nothing(address: str, session: dict[str, Any], param: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            before = (await talker.next())["session"]
            await talker.send("session.update", session={"soundflow": {"bias": 1}, **session}, event_id="mine")
            error = (await talker.next())["error"]
            assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", param, "mine")
            await talker.send("session.update", session={})
            assert (await talker.next())["session"] == before

    run(talk)


def test_a_turn_that_the_client_asks_for(address: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            await only_when_asked(talker)
            await talker.send("input_audio_buffer.append", audio=pcm(1.0))
            await talker.send("input_audio_buffer.commit")
            committed = await talker.until("input_audio_buffer.committed")
            await talker.send("response.create", response={"metadata": {"client_event_id": "7"}, "voice": "x"})
            done = (await talker.until("response.done"))["response"]
            assert done["status"] == "completed"
            assert (done["metadata"], done["max_output_tokens"]) == ({"client_event_id": "7"}, "inf")
            kinds = talker.kinds("response.listen", "response.speak")
            assert once(kinds[kinds.index("response.created") :]) == TURN
            text = "".join(e["delta"] for e in talker.seen if e["type"] == "response.output_text.delta")
            assert text == done["output"][0]["content"][0]["text"] != ""
            spoken = [e for e in talker.seen if e["type"] in ("response.listen", "response.speak")]
            assert [e["chunk_index"] for e in spoken] == list(range(len(spoken)))
            first = [e["type"] for e in spoken].index("response.speak")
            assert first in (2, 3)  # 1 s is three chunks; where all were decided on already, silence is the fourth
            assert all(0 <= e["probability"] <= 1 and e["decision_latency_ms"] >= 0 for e in spoken[:3])
            item = committed["item_id"]
            await talker.send("conversation.item.retrieve", item_id=item)
            assert (await talker.until("conversation.item.retrieved"))["item"]["id"] == item
            await talker.send("conversation.item.delete", item_id=item)
            await talker.until("conversation.item.deleted")
            await talker.send("conversation.item.retrieve", item_id=item)
            assert (await talker.until("error"))["error"]["code"] == "item_retrieve_invalid_item_id"
            assert len({e["event_id"] for e in talker.seen}) == len(talker.seen)

    run(talk)


def test_an_engine_faster_than_the_server_responds_to_the_chunk_that_it_was_asked_for(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push, tell = EngineThread.push, EngineThread._tell
    decided = threading.Semaphore(0)

    def push_and_wait(thread: EngineThread, session: int, samples: Audio) -> None:
        push(thread, session, samples)
        assert decided.acquire(timeout=PATIENT_S)

    def tell_and_release(thread: EngineThread, event: StepEvent) -> None:
        tell(thread, event)
        decided.release()

    async def talk() -> None:
        async with client(address) as talker:
            await only_when_asked(talker)
            await talker.send("input_audio_buffer.append", audio=pcm(1.0))
            await talker.send("input_audio_buffer.commit")
            await talker.until("response.listen", count=3)
            await talker.send("response.create")
            await talker.until("response.done")
            assert next(e["chunk_index"] for e in talker.seen if e["type"] == "response.speak") == 3

    monkeypatch.setattr(EngineThread, "push", push_and_wait)
    monkeypatch.setattr(EngineThread, "_tell", tell_and_release)
    run(talk)


def test_a_response_that_there_is_no_room_for_fails_and_the_next_one_does_not(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            await only_when_asked(talker)
            with monkeypatch.context() as patch:
                patch.setattr("policies.engine.engine.MOST_WAITING_S", 0.3)
                await talker.send("response.create", event_id="mine")
                done = (await talker.until("response.done"))["response"]
                assert (done["status"], done["status_details"]["error"]["code"]) == ("failed", "audio_backlog")
                error = (await talker.until("error"))["error"]
                assert (error["code"], error["event_id"]) == ("audio_backlog", "mine")
            await talker.send("response.create")
            assert (await talker.until("response.done"))["response"]["status"] == "completed"

    run(talk)


def test_the_model_decides_and_goes_on_where_the_client_falls_silent(address: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            await talker.send("session.update", session={"soundflow": {"threshold": 0}, "max_output_tokens": 5})
            await talker.until("session.updated")
            await talker.send("input_audio_buffer.append", audio=pcm(0.4))
            done = (await talker.until("response.done"))["response"]
            assert (done["status"], done["metadata"], done["max_output_tokens"]) == ("completed", None, 5)
            assert done["usage"]["output_tokens"] == 5
            assert once(talker.kinds("session.created", "session.updated", "response.speak")) == TURN

    run(talk)


def test_a_reply_is_cancelled_and_the_next_one_begins_anew(address: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            await only_when_asked(talker)
            await talker.send("response.cancel", event_id="early")
            error = (await talker.until("error"))["error"]
            assert (error["code"], error["event_id"]) == ("response_cancel_not_active", "early")
            assert error["message"].startswith("Cancellation failed")
            for _ in range(5):
                await talker.send("input_audio_buffer.append", audio=pcm(0.1))
                await talker.send("response.create")
                await talker.send("response.create")
                created = await talker.until("response.created")
                assert (await talker.until("error"))["error"]["code"] == "conversation_already_has_active_response"
                await talker.send("response.cancel", response_id=created["response"]["id"])
                answer = await talker.until("response.done")
                assert answer["response"]["id"] == created["response"]["id"]
                assert answer["response"]["status"] in ("cancelled", "completed")  # it may have been quicker
                if answer["response"]["status"] == "completed":
                    assert (await talker.until("error"))["error"]["code"] == "response_cancel_not_active"
            talker.seen.clear()
            await talker.send("response.create")
            done = (await talker.until("response.done"))["response"]
            assert done["status"] == "completed"
            assert once(talker.kinds("response.listen", "response.speak")) == TURN

    run(talk)


def test_server_vad_finds_a_turn_and_answers_it(address: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            vad = {"type": "server_vad", "silence_duration_ms": 300}
            await talker.send("session.update", session={"turn_detection": vad, "soundflow": {"threshold": 0}})
            await talker.until("session.updated")
            await talker.send("input_audio_buffer.append", audio=pcm(1.0, level=0.0))
            await talker.send("input_audio_buffer.append", audio=pcm(1.0))
            await talker.send("input_audio_buffer.append", audio=pcm(0.5, level=0.0))
            await talker.until("response.done")
            started, stopped = (
                next(e for e in talker.seen if e["type"] == f"input_audio_buffer.speech_{kind}")
                for kind in ("started", "stopped")
            )
            assert started["audio_start_ms"] == pytest.approx(700, abs=25)
            assert stopped["audio_end_ms"] == pytest.approx(2300, abs=25)
            kinds = once(talker.kinds("session.created", "session.updated", "response.listen", "response.speak"))
            assert kinds[:2] == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
            assert kinds[2] == "input_audio_buffer.committed"
            turn = [kind for kind in TURN if kind in kinds or "delta" not in kind]  # random words may be none
            assert kinds[-len(turn) :] == turn

    run(talk)


def test_a_turn_is_answered_after_its_chunk_however_much_comes_at_once(address: str) -> None:
    """The engine is told of a turn's end before it gets the chunk that the end is in: it cannot have passed it."""

    async def talk() -> None:
        async with client(address) as talker:
            vad = {"type": "server_vad", "silence_duration_ms": 300}
            await talker.send("session.update", session={"turn_detection": vad})
            await talker.until("session.updated")
            pieces = [(1.0, 0.0), (1.0, 0.1), (2.0, 0.0)]
            sound = b"".join(base64.b64decode(pcm(seconds, level=level)) for seconds, level in pieces)
            await talker.send("input_audio_buffer.append", audio=base64.b64encode(sound).decode())
            spoken = await talker.until("response.speak")
            assert spoken["chunk_index"] == 5  # it has 2.3 s in it, where 0.3 s of silence were over
            await talker.until("response.done")

    run(talk)


def test_empty_commits_cleared_sound_and_texts(address: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            await only_when_asked(talker)
            await talker.send("input_audio_buffer.append", audio=pcm(0.2))
            await talker.send("input_audio_buffer.clear")
            await talker.until("input_audio_buffer.cleared")
            await talker.send("input_audio_buffer.commit")
            assert (await talker.until("error"))["error"]["code"] == "input_audio_buffer_commit_empty"
            item = {"type": "message", "role": "user", "id": "a", "content": [{"type": "input_text", "text": "hello"}]}
            await talker.send("conversation.item.create", item=item)
            assert (await talker.until("conversation.item.created"))["item"]["id"] == "a"
            await talker.send("conversation.item.create", item=item)
            assert (await talker.until("error"))["error"]["code"] == "item_create_duplicate_item_id"
            await talker.send("conversation.item.create", item={**item, "id": "b", "content": ["x" * 20_000]})
            assert (await talker.until("error"))["error"]["code"] == "invalid_value"
            await talker.send("conversation.item.create", item={**item, "id": "c"}, previous_item_id="root")
            assert (await talker.until("conversation.item.added"))["previous_item_id"] is None
            call = {"type": "function_call", "id": "d", "call_id": "1", "name": "ring", "arguments": "{}"}
            await talker.send("conversation.item.create", item=call, previous_item_id="c")
            added = await talker.until("conversation.item.added")
            assert (added["previous_item_id"], added["item"]["name"]) == ("c", "ring")
            await talker.send("conversation.item.create", item={**item, "id": "e"}, previous_item_id="nobody")
            assert (await talker.until("error"))["error"]["code"] == "item_create_invalid_previous_item_id"
            await talker.send("conversation.item.creat")
            error = (await talker.until("error"))["error"]
            assert error["code"] == "unknown_event"
            assert "conversation.item.create" in error["message"]

    run(talk)


def test_a_call_has_no_sound_to_be_cut_and_what_is_wrong_is_quoted_in_short(address: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            await talker.until("session.created")
            for content in ([3], None):
                call = {"type": "function_call", "id": f"{content}", "content": content}
                await talker.send("conversation.item.create", item=call)
                await talker.send("conversation.item.truncate", item_id=f"{content}", audio_end_ms=1)
                assert (await talker.until("conversation.item.truncated"))["item_id"] == f"{content}"
            await talker.send("session.update", session={"input_audio_format": "x" * 100_000})
            assert len((await talker.until("error"))["error"]["message"]) < 200

    run(talk)


def test_decisions_are_those_of_the_engine_however_the_audio_is_cut(address: str, policy: Path) -> None:
    async def hear(seconds: list[float]) -> list[float]:
        async with client(address) as talker:
            await only_when_asked(talker)
            sound, byte = pcm(2.0), 0
            for length in seconds:
                size = round(length * 24_000) * 2 // 3 * 4  # base64 of whole samples, in whole groups
                await talker.send("input_audio_buffer.append", audio=sound[byte : byte + size])
                byte += size
            await talker.send("input_audio_buffer.append", audio=sound[byte:])
            await talker.until("response.listen", 5)
            return [e["probability"] for e in talker.seen if e["type"] == "response.listen"]

    async def talk() -> None:
        whole = await hear([])
        assert await hear([0.1, 0.003, 0.7, 0.01]) == pytest.approx(whole, abs=1e-6)
        assert len(set(whole)) == 5

    run(talk)
