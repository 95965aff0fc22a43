"""Stock clients have a whole turn: Pipecat's and LiveKit's services for OpenAI Realtime, pointed at this server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.server.limits import Limits
from tests.policies.server.conftest import PATIENT_S, run, running

KEY = "s3cret"
NEEDS = "needs the clients: uv sync --group clients"


@pytest.fixture(scope="module")
def url(policy: Path) -> Iterator[str]:
    limits = Limits(audio_burst_s=1e6, reply_patience_s=0.05, speech_lead_s=1e6)
    with running(policy, limits, key=KEY) as (_, found):
        yield found


def speech(seconds: float) -> bytes:
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(24_000 * seconds))
    return (samples.clip(-1, 1) * 32767).astype("<i2").tobytes()


def silence(seconds: float) -> bytes:
    return bytes(2 * round(24_000 * seconds))


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_livekit_has_a_turn(url: str, modality: Any) -> None:
    rtc = pytest.importorskip("livekit.rtc", reason=NEEDS)
    openai = pytest.importorskip("livekit.plugins.openai", reason=NEEDS)
    import aiohttp
    from openai.types.realtime.realtime_audio_input_turn_detection import SemanticVad, ServerVad

    def frame(data: bytes) -> Any:
        return rtc.AudioFrame(data=data, sample_rate=24_000, num_channels=1, samples_per_channel=len(data) // 2)

    async def receive(generation: Any) -> tuple[str, float]:
        """Return the text and the seconds of sound of a reply, by the client's own streams."""
        text, seconds = "", 0.0
        async for message in generation.message_stream:
            assert await message.modalities == (["text"] if modality == "text" else ["audio", "text"])
            text += "".join([delta async for delta in message.text_stream])
            seconds += sum([sound.duration async for sound in message.audio_stream])
        return text, seconds

    async def talk() -> None:
        async with aiohttp.ClientSession() as http:
            model = openai.realtime.RealtimeModel(
                base_url=f"{url}/v1",
                api_key=KEY,
                modalities=[modality],
                turn_detection=SemanticVad(type="semantic_vad", create_response=False, interrupt_response=False),
                http_session=http,
            )
            session = model.session()
            kinds, errors = list[str](), list[Any]()
            session.on("openai_server_event_received", lambda event: kinds.append(event["type"]))
            session.on("error", errors.append)
            session.push_audio(frame(speech(0.5)))
            session.commit_audio()
            asked = await asyncio.wait_for(session.generate_reply(instructions="Be brief."), PATIENT_S)
            assert asked.user_initiated
            heard = [await receive(asked)]
            found = asyncio.get_running_loop().create_future()
            session.on("generation_created", lambda event: found.done() or found.set_result(event))
            session.update_options(turn_detection=ServerVad(type="server_vad", silence_duration_ms=300))
            session.push_audio(frame(speech(0.5) + silence(0.5)))
            heard.append(await receive(await asyncio.wait_for(found, PATIENT_S)))
            await session.aclose()
            for text, seconds in heard:
                assert text.strip()
                assert (seconds > 0.3) == (modality == "audio")
            assert not errors
            assert "input_audio_buffer.speech_started" in kinds
            assert [item.role for item in session.chat_ctx.items] == ["user", "assistant", "user", "assistant"]
            assert session.chat_ctx.items[1].text_content == heard[0][0]

    run(talk)


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_pipecat_has_a_turn(url: str, modality: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = pytest.importorskip("pipecat.frames.frames", reason=NEEDS)
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.services.openai.realtime import events
    from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
    from pipecat.workers.runner import WorkerRunner

    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Sink(FrameProcessor):  # type: ignore[misc]
        """Keeps what comes out of the service."""

        def __init__(self) -> None:
            super().__init__()
            self.frames: asyncio.Queue[Any] = asyncio.Queue()

        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            await self.frames.put(frame)
            await self.push_frame(frame, direction)

        async def reply(self) -> tuple[str, float]:
            """Return the text and the seconds of sound of the next reply."""
            text, size = "", 0
            while True:
                frame = await asyncio.wait_for(self.frames.get(), PATIENT_S)
                if isinstance(frame, frames.LLMTextFrame | frames.TTSTextFrame):
                    text += frame.text
                elif isinstance(frame, frames.TTSAudioRawFrame):
                    size += len(frame.audio)
                elif isinstance(frame, frames.LLMFullResponseEndFrame):
                    return text, size / 2 / 24_000

    async def talk() -> None:
        vad = events.TurnDetection(silence_duration_ms=300)
        properties = events.SessionProperties(
            output_modalities=[modality], audio=events.AudioConfiguration(input=events.AudioInput(turn_detection=vad))
        )
        settings = OpenAIRealtimeLLMService.Settings(model="tiny", session_properties=properties)
        base_url = url.replace("http", "ws") + "/v1/realtime"
        service = OpenAIRealtimeLLMService(api_key=KEY, base_url=base_url, settings=settings)
        sink, errors = Sink(), list[Any]()
        worker = PipelineWorker(Pipeline([service, sink]), cancel_on_idle_timeout=False)
        worker.add_event_handler("on_pipeline_error", lambda _, frame: errors.append(frame))
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run())
        context = LLMContext([{"role": "user", "content": "Listen, and say what you hear."}])
        await worker.queue_frame(frames.LLMContextFrame(context))
        heard = [await sink.reply()]
        sound = speech(0.5) + silence(0.5)
        await worker.queue_frame(frames.InputAudioRawFrame(audio=sound, sample_rate=24_000, num_channels=1))
        heard.append(await sink.reply())
        await worker.queue_frame(frames.EndFrame())
        await asyncio.wait_for(running, PATIENT_S)
        for text, seconds in heard:
            assert text.strip()
            assert (seconds > 0.3) == (modality == "audio")
        assert not errors

    run(talk)
