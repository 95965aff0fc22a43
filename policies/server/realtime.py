"""One session of the protocol: client events in, server events out, the engine's steps in between.

Nothing here waits or knows a socket: `connection` feeds it and carries away what it sends.
"""

import secrets
from collections import deque
from collections.abc import Callable

import numpy as np

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.errors import SessionError, did_you_mean
from envs.scenario import Audio
from policies.engine import Sampling, StepEvent
from policies.server.audio_allowance import AudioAllowance
from policies.server.conversation import Conversation
from policies.server.engine_thread import EngineThread
from policies.server.limits import Limits
from policies.server.messages import Event, ProtocolError, field, parse_audio
from policies.server.resampling import PROTOCOL_RATE, StreamResampler
from policies.server.response import Modality, Outlet, Response, Status, parse_metadata, parse_modality
from policies.server.settings import Settings
from policies.server.spoken_response import SpokenResponse
from policies.server.turns import Boundary, ServerVAD, TurnDetector
from policies.server.workers import Helpers, Skills, can_speak
from policies.tokenizer import ReplyTokenizer


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess, as the protocol writes them."""
    return f"{prefix}_{secrets.token_hex(12)}"


class RealtimeSession:
    """A session.

    Args:
        thread: Has the engine.
        tokenizer: Of the policy.
        model: Its name, for clients.
        limits: Of the connection.
        send: Takes server events, in order; each is complete but for its id, and may change after the call.
        listener: Is called in the engine's thread, and brings its events back to `hear`, and None to `steered`.
        allowance: How much audio may come.
        expires_at: Seconds since 1970.
        skills: What the server can beside its policy.
        helpers: Do it.

    Raises:
        CapacityError: when the engine is full.
    """

    def __init__(
        self,
        thread: EngineThread,
        tokenizer: ReplyTokenizer,
        model: str,
        limits: Limits,
        send: Callable[[Event], None],
        listener: Callable[[StepEvent | None], None],
        allowance: AudioAllowance,
        expires_at: int,
        skills: Skills,
        helpers: Helpers,
    ) -> None:
        self.id = new_id("sess")
        self._thread, self._model, self._send, self._limits = thread, model, send, limits
        self._allowance, self._expires_at = allowance, expires_at
        self._skills, self._helpers = skills, helpers
        self._settings = Settings(Sampling(), modality=skills.modality)
        self._engine_id = thread.open(self._settings.engine_sampling, listener)
        self.conversation = Conversation(limits, send, new_id)
        self._outlet = Outlet(self.conversation, tokenizer, send, new_id, self._completed, self._failed)
        self.response: Response | None = None
        self._resampler = StreamResampler()
        self._pending = np.zeros(0, np.float32)  # at 16 kHz, not yet a chunk
        self._buffered = 0  # input samples since the last commit or clear
        self._pushed = 0  # chunks that the engine was given
        self._heard = 0  # chunks that it has stepped
        self._orders = deque[bool]()  # that the engine has not carried out yet: whether each cuts a reply
        self._speech_item: str | None = None  # of the turn that is being said, where the client was told of it
        self._detector = self._new_detector()
        self._turn_over = False  # the client waits for a reply, and sends no sound meanwhile
        self._handlers: dict[str, Callable[[Event], None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self.conversation.create,
            "conversation.item.retrieve": self.conversation.retrieve,
            "conversation.item.delete": self.conversation.delete,
            "conversation.item.truncate": self.conversation.truncate,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
        }

    def begin(self) -> None:
        """Say that the session is there."""
        self._send({"type": "session.created", "session": self._json()})

    def close(self) -> None:
        """Free its slot."""
        self._thread.close(self._engine_id)

    def receive(self, event: Event) -> None:
        """Carry out a client event.

        Raises:
            ProtocolError: when it cannot be; the session goes on as it was.
            AllowanceError: when more audio came than the session may send.
        """
        handler = self._handlers.get(event["type"])
        if handler is None:
            known = did_you_mean(event["type"][:64], self._handlers)
            raise ProtocolError("unknown_event", f"there is no such client event{known}", "type")
        handler(event)

    def hear(self, step: StepEvent) -> None:
        """Take in what the engine did with a chunk.

        Raises:
            SessionError: when it has ended the session.
        """
        if step.error is not None:
            if self.response is not None:
                self._finish(self.response, "failed", "engine_failed")
            raise step.error
        self._heard = step.chunk + 1
        self._send(_decision(step))
        if not any(self._orders):  # else it is of a reply that is over
            self._reply(step)
        self._go_on()

    def steered(self) -> None:
        """Take in that the engine has done what it was told last."""
        self._orders.popleft()

    def _reply(self, step: StepEvent) -> None:
        if step.decision == "response":
            self._open()
        if self.response is not None and step.reply_cut:
            self._finish(self.response, "cancelled", "turn_detected")
        elif self.response is not None and step.decision != "silent":
            self.response.write(step.token_ids, step.reply_ended)
            if self.response is not None and step.reply_ended:  # it is still heard: no other one begins meanwhile
                self._steer(self._settings.quiet_sampling, cut=True)

    def _completed(self, response: Response) -> None:
        if response.modality == "audio":
            self._steer(self._settings.engine_sampling)
        self._finish(response, "completed")

    def _failed(self, response: Response, code: str) -> None:
        self._steer(self._settings.engine_sampling, cut=True)
        self._finish(response, "failed", code)

    @property
    def awaits_sound(self) -> bool:
        """Whether a reply can only go on when there is more to hear."""
        return self.response is not None and not self.response.written

    def go_on_in_silence(self) -> None:
        """Let a reply go on where the client has sent nothing for it."""
        if self.awaits_sound and self._pushed == self._heard:
            self._pad(least=1)

    def finish_soon(self) -> None:
        """Let the reply that is being said, where there is one, end as soon as it can."""
        self._turn_over = True
        self._go_on()

    def _json(self) -> Event:
        return self._settings.to_json(self.id, self._model, self._expires_at)

    def _update(self, event: Event) -> None:
        before, new = self._settings, self._settings.updated(field(event, "session", dict, {}))
        if new.modality != before.modality:
            _check_speech(new.modality, "session.output_modalities")
        self._settings = new
        if (new.turn_detection, new.modality) != (before.turn_detection, before.modality):
            self._detector = self._new_detector()
        if self.response is None or (self.response.begun and not self.response.written):
            self._steer(new.engine_sampling)  # else when it begins, or has been heard
        self._send({"type": "session.updated", "session": self._json()})

    def _new_detector(self) -> TurnDetector | None:
        """Return what finds turns, or who talks over a reply; that only Silero can: the model replies to any sound."""
        vad, kind = self._settings.turn_detection, self._skills.vad
        self._speech_item = None
        if isinstance(vad, ServerVAD):
            return TurnDetector(vad, self._position, kind)
        may_interrupt = kind == "silero" and (vad is not None or self._settings.modality == "audio")
        return TurnDetector(ServerVAD(), self._position, kind) if may_interrupt else None

    @property
    def _position(self) -> int:
        """Samples at 16 kHz of the engine's stream so far, those that are no chunk yet among them."""
        return self._pushed * CHUNK_SAMPLES + len(self._pending)

    def _append(self, event: Event) -> None:
        samples = parse_audio(event.get("audio"), "audio")
        if not len(samples):
            return
        self._allowance.take(len(samples) / PROTOCOL_RATE)
        self._buffered += len(samples)
        self._turn_over = False
        self._take(self._resampler.push(samples))

    def _take(self, samples: Audio) -> None:
        """Take samples at 16 kHz: find turns in them, and give whole chunks to the engine."""
        self._pending = np.concatenate((self._pending, samples))
        self._listen(lambda detector: list(detector.push(samples)))
        self._push_chunks()

    def _push_chunks(self, end: int | None = None) -> None:
        """Give whole chunks to the engine: those before chunk `end`, or all."""
        count = len(self._pending) // CHUNK_SAMPLES
        if end is not None:
            count = min(count, max(end - self._pushed, 0))
        chunks = self._pending[: count * CHUNK_SAMPLES]
        self._pending = self._pending[count * CHUNK_SAMPLES :]
        for chunk in chunks.reshape(-1, CHUNK_SAMPLES):
            self._push(chunk)

    def _listen(self, work: Callable[[TurnDetector], list[Boundary]]) -> None:
        """Have the detector work, and carry out what it finds; Silero works in a thread of its own, in order."""
        detector = self._detector
        if detector is None:
            return

        def then(boundaries: list[Boundary]) -> None:
            for boundary in boundaries if detector is self._detector else ():
                self._push_chunks((boundary.at - 1) // CHUNK_SAMPLES)  # the engine is told before it gets the next
                self._turn(boundary)

        if self._skills.vad == "silero":
            self._helpers.hear(lambda: work(detector), then)
        else:
            then(work(detector))

    def _push(self, chunk: Audio) -> None:
        try:
            self._thread.push(self._engine_id, chunk)
        except SessionError as error:
            raise ProtocolError("audio_backlog", f"the sound was left out: {error}", "audio") from error
        self._pushed += 1

    def _pad(self, least: int = 0) -> None:
        """Make a chunk of what is not yet one, with silence after it; of nothing where `least` is a chunk."""
        count = CHUNK_SAMPLES - len(self._pending)
        if count < CHUNK_SAMPLES or least:
            chunk, self._pending = np.pad(self._pending, (0, count)), self._pending[:0]
            self._resampler = StreamResampler()
            self._listen(lambda detector: detector.skip(count))
            self._push(chunk)

    def _turn(self, boundary: Boundary) -> None:
        """Carry out what somebody's speech means: in `server_vad`, or over a reply."""
        vad = self._settings.turn_detection
        if boundary.kind == "started":
            if vad is None and self.response is None:
                return  # the model decides, and nobody asked for such events
            self._speech_item = new_id("item")
            begun = {"audio_start_ms": _ms(boundary.at), "item_id": self._speech_item}
            self._send({"type": "input_audio_buffer.speech_started", **begun})
            if self.response is not None and (vad is None or vad.interrupt_response):
                self._cancel(self.response, "turn_detected")
        elif self._speech_item is not None:
            item_id, self._speech_item = self._speech_item, None
            ended = {"audio_end_ms": _ms(boundary.at), "item_id": item_id}
            self._send({"type": "input_audio_buffer.speech_stopped", **ended})
            self._committed(item_id)
            if isinstance(vad, ServerVAD) and vad.create_response and self.response is None:
                self._ask(self._settings.modality, None, (boundary.at - 1) // CHUNK_SAMPLES)

    def _commit(self, _: Event) -> None:
        if not self._buffered:
            raise ProtocolError("input_audio_buffer_commit_empty", "there is no audio since the last commit or clear")
        self._pad()
        self._committed(new_id("item"))
        self._turn_over = True
        self._go_on()

    def _committed(self, item_id: str) -> None:
        previous = self.conversation.last_id
        self._send({"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": item_id})
        self.conversation.add("user", [{"type": "input_audio", "transcript": None}], item_id)
        self._buffered = 0

    def _clear(self, _: Event) -> None:
        self._pending, self._resampler, self._buffered = self._pending[:0], StreamResampler(), 0
        self._detector = self._new_detector()
        self._send({"type": "input_audio_buffer.cleared"})

    def _create_response(self, event: Event) -> None:
        metadata = parse_metadata(event)
        wanted = parse_modality(field(event, "response", dict, {}), "response", self._settings.modality)
        _check_speech(wanted, "response.output_modalities")
        if self.response is not None:
            active = f"response {self.response.id} is being said; wait for its end, or cancel it"
            raise ProtocolError("conversation_already_has_active_response", active)
        is_heard = self._pushed == self._heard
        self._turn_over = True
        # The engine is told before it gets the padded chunk: it may decide on that one before we get to say anything.
        asked = self._ask(wanted, metadata, self._pushed if is_heard or len(self._pending) else self._pushed - 1)
        try:
            self._pad(least=is_heard)
        except ProtocolError as error:
            self._failed(asked, error.code)
            raise

    def _ask(self, modality: Modality, metadata: dict[str, str] | None, chunk: int) -> Response:
        """Let the engine respond after a chunk, and not before; what the model began in the same moment is cut."""
        self.response = asked = self._new_response(modality, metadata)
        self._steer(self._settings.quiet_sampling, respond_at=chunk, cut=True)
        return asked

    def _open(self) -> None:
        """Begin the response that the engine has opened: one that was asked for, or of the model's own."""
        if self.response is None:
            self.response = self._new_response(self._settings.modality)
        else:
            self._steer(self._settings.engine_sampling)
        self.response.begin()

    def _new_response(self, modality: Modality, metadata: dict[str, str] | None = None) -> Response:
        most = self._settings.max_output_tokens
        if modality == "audio":
            return SpokenResponse(self._outlet, most, metadata, self._helpers, self._limits.speech_lead_s)
        return Response(self._outlet, most, metadata)

    def _steer(self, sampling: Sampling, respond_at: int | None = None, cut: bool = False) -> None:
        # Every order is answered by one `steered`, so that they can be counted: events before it are of the past.
        self._orders.append(cut)
        self._thread.steer(self._engine_id, sampling=sampling, respond_at=respond_at, cut=cut)

    def _cancel_response(self, event: Event) -> None:
        wanted = field(event, "response_id", str)
        if self.response is None or wanted not in (None, self.response.id):
            raise ProtocolError("response_cancel_not_active", "Cancellation failed: no such response is being said")
        self._cancel(self.response, "client_cancelled")

    def _cancel(self, response: Response, reason: str) -> None:
        self._steer(self._settings.engine_sampling, cut=True)
        self._finish(response, "cancelled", reason)

    def _finish(self, response: Response, status: Status, reason: str | None = None) -> None:
        self.response = None
        response.finish(status, reason)

    def _go_on(self) -> None:
        """Give a reply silence to go on in, where the client waits for it and all that it sent is heard."""
        if self._turn_over:
            self.go_on_in_silence()


def _check_speech(modality: Modality, param: str) -> None:
    if modality == "audio" and not can_speak():
        remedy = "install the extra on the server, `uv sync --extra speech`, or ask for ['text']"
        raise ProtocolError("speech_not_installed", f"this server has no espeak-ng to speak with; {remedy}", param)


def _decision(step: StepEvent) -> Event:
    """Return the event of ours that every chunk has: what was decided after it, how likely, and how late."""
    return {
        "type": "response.listen" if step.decision == "silent" else "response.speak",
        "chunk_index": step.chunk,
        "probability": step.probability,
        "decision_latency_ms": _rounded(step.decision_latency_s),
        "first_token_latency_ms": _rounded(step.first_token_latency_s),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


def _ms(sample: int) -> int:
    return round(1000 * sample / SAMPLE_RATE)
