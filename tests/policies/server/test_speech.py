"""Spoken replies: what is heard fits the text, and stops when somebody talks over it."""

import base64
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from envs.errors import ServerError
from envs.speech.espeak import say
from policies.server.limits import Limits
from policies.server.serve import make_server
from tests.policies.server.conftest import Client, client, pcm, run, running

SILENT_UNTIL_ASKED = {"soundflow": {"threshold": 2}}
SPOKEN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.created",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]


def spoken(text: str) -> str:
    audio = soxr.resample(say(text).audio, 16_000, 24_000)
    return base64.b64encode((audio.clip(-1, 1) * 32767).astype("<i2").tobytes()).decode()


def sound(talker: Client, since: int = 0) -> np.ndarray:
    """Return what a client was sent to play: float32 [n] at 24 kHz."""
    deltas = [e["delta"] for e in talker.seen[since:] if e["type"] == "response.output_audio.delta"]
    data = b"".join(base64.b64decode(delta, validate=True) for delta in deltas)
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


async def begin(talker: Client, **session: Any) -> None:
    await talker.until("session.created")
    await talker.send("session.update", session={**SILENT_UNTIL_ASKED, **session})
    updated = await talker.next()
    assert updated["type"] == "session.updated", updated
    talker.seen.clear()


async def ask(talker: Client) -> None:
    await talker.send("input_audio_buffer.append", audio=pcm(0.4, level=0.0))
    await talker.send("response.create")


def test_a_reply_is_heard_as_long_and_as_loud_as_speech(address: str) -> None:
    async def talk() -> None:
        async with client(address) as talker:
            await begin(talker, output_modalities=["audio"])
            await ask(talker)
            done = (await talker.until("response.done"))["response"]
            kinds = talker.kinds("response.listen", "response.speak")
            assert list(dict.fromkeys(kinds)) == SPOKEN
            assert (done["status"], done["output_modalities"]) == ("completed", ["audio"])
            part = done["output"][0]["content"][0]
            said = "".join(e["delta"] for e in talker.seen if e["type"] == "response.output_audio_transcript.delta")
            assert part == {"type": "output_audio", "transcript": said}
            heard = sound(talker)
            assert len(heard) / 24_000 == pytest.approx(say(said).seconds, abs=0.01)
            assert -35 < 10 * np.log10(np.mean(heard**2)) < -8
            await talker.send("conversation.item.truncate", item_id=done["output"][0]["id"], audio_end_ms=100)
            assert (await talker.until("conversation.item.truncated"))["audio_end_ms"] == 100
            await talker.send("conversation.item.retrieve", item_id=done["output"][0]["id"])
            assert (await talker.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"] is None
            await talker.send("conversation.item.truncate", item_id="nobody's", audio_end_ms=100)
            assert (await talker.until("error"))["error"]["code"] == "item_truncate_invalid_item_id"
            await talker.send("response.create", response={"output_modalities": ["text"]})
            assert (await talker.until("response.done"))["response"]["output"][0]["content"][0]["type"] == "output_text"

    run(talk)


@pytest.mark.parametrize(
    ("vad", "detection"),
    [("silero", None), ("silero", {"type": "semantic_vad"}), ("energy", {"type": "server_vad"})],
)
def test_who_talks_over_a_reply_stops_it(talkative: Path, vad: Any, detection: Any) -> None:
    async def talk() -> None:
        async with client(url) as talker:
            await begin(talker, turn_detection=detection)  # --speak: nobody has to ask for sound
            await ask(talker)
            await talker.until("response.output_audio.delta")
            await talker.send("input_audio_buffer.append", audio=spoken("Hello, please stop that now."))
            await talker.send("input_audio_buffer.append", audio=pcm(1.0, level=0.0))
            started = await talker.until("input_audio_buffer.speech_started")
            done = (await talker.until("response.done"))["response"]
            assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
            heard, transcript = sound(talker), done["output"][0]["content"][0]["transcript"]
            assert 0 < len(heard) / 24_000 < say(transcript).seconds - 1
            stopped = await talker.until("input_audio_buffer.speech_stopped")
            assert stopped["item_id"] == started["item_id"]
            await talker.until("input_audio_buffer.committed")
            if detection == {"type": "server_vad"}:  # which answers what it heard
                await talker.until("response.created")
            await talker.send("input_audio_buffer.append", audio=pcm(0.4, level=0.0))
            await talker.until("response.listen")
            assert len(sound(talker)) == len(heard)

    with running(talkative, Limits(speech_lead_s=0.1), speak=True, vad=vad) as (_, url):
        run(talk)


def test_a_sound_that_is_no_voice_does_not_stop_a_reply_of_the_models_own(talkative: Path) -> None:
    """It may be what the reply is about."""

    async def talk() -> None:
        async with client(url) as talker:
            await begin(talker)
            await ask(talker)
            await talker.until("response.output_audio.delta")
            before = len(talker.seen)
            await talker.send("input_audio_buffer.append", audio=pcm(1.2))
            await talker.until("response.listen", 3)
            await talker.until("response.output_audio.delta", 2)
            assert "response.done" not in [e["type"] for e in talker.seen[before:]]
            await talker.send("response.cancel")
            assert (await talker.until("response.done"))["response"]["status_details"]["reason"] == "client_cancelled"

    with running(talkative, Limits(speech_lead_s=0.1), speak=True, vad="silero") as (_, url):
        run(talk)


def test_in_full_duplex_the_model_cuts_its_reply(talkative: Path) -> None:
    async def talk() -> None:
        async with client(url) as talker:
            await begin(talker, soundflow={"threshold": 0}, turn_detection={"type": "server_vad"})
            await ask(talker)
            await talker.send("input_audio_buffer.append", audio=pcm(0.8, level=0.0))
            await talker.until("response.speak", 2)  # it goes on: nobody else opens replies, but this one is wanted
            await talker.send("session.update", session=SILENT_UNTIL_ASKED)
            await talker.until("session.updated")
            await talker.send("input_audio_buffer.append", audio=pcm(0.4, level=0.0))
            done = (await talker.until("response.done"))["response"]
            assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")

    with running(talkative, full_duplex=True) as (_, url):
        run(talk)


def test_without_espeak_who_asks_for_sound_is_told_what_to_install(
    address: str, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ServerError, match="--speak needs espeak-ng: uv sync --extra speech"):
        make_server(policy, port=0, speak=True)

    async def talk() -> None:
        async with client(address) as talker:
            await talker.until("session.created")
            for session in ({"output_modalities": ["audio"]}, {"modalities": ["text", "audio"]}):
                await talker.send("session.update", session=session)
                error = (await talker.next())["error"]
                assert error["code"] == "speech_not_installed"
                assert "uv sync --extra speech" in error["message"]
            await talker.send("response.create", response={"output_modalities": ["audio"]})
            assert (await talker.next())["error"]["param"] == "response.output_modalities"
            await talker.send("session.update", session={"output_modalities": ["smoke"]})
            assert (await talker.next())["error"]["code"] == "invalid_value"
            await talker.send("session.update", session={})
            assert (await talker.next())["session"]["output_modalities"] == ["text"]

    run(talk)
