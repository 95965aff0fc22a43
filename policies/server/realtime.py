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
from policies.server.resampling import INPUT_RATE, StreamResampler
from policies.server.response import Response, Status, parse_metadata
from policies.server.settings import Settings
from policies.server.turns import Boundary, TurnDetector
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
    ) -> None:
        self.id = new_id("sess")
        self._thread, self._tokenizer, self._model, self._send = thread, tokenizer, model, send
        self._allowance, self._expires_at = allowance, expires_at
        self._settings = Settings(Sampling())
        self._engine_id = thread.open(self._settings.engine_sampling, listener)
        self.conversation = Conversation(limits, send, new_id)
        self.response: Response | None = None
        self._resampler = StreamResampler()
        self._detector: TurnDetector | None = None
        self._pending = np.zeros(0, np.float32)  # at 16 kHz, not yet a chunk
        self._buffered = 0  # input samples since the last commit or clear
        self._pushed = 0  # chunks that the engine was given
        self._heard = 0  # chunks that it has stepped
        self._orders = deque[bool]()  # that the engine has not carried out yet: whether each cuts a reply
        self._turn_over = False  # the client waits for a reply, and sends no sound meanwhile
        self._handlers: dict[str, Callable[[Event], None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self.conversation.create,
            "conversation.item.retrieve": self.conversation.retrieve,
            "conversation.item.delete": self.conversation.delete,
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
                self._finish(self.response, "failed", "server_error")
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
        if step.decision != "silent" and self.response is not None:
            self.response.write(step.token_ids, step.reply_ended)
            if step.reply_ended:
                self._finish(self.response, "completed")

    def go_on_in_silence(self) -> None:
        """Let a reply go on where the client has sent nothing for it."""
        if self.response is not None and self._pushed == self._heard:
            self._pad(least=1)

    def finish_soon(self) -> bool:
        """Let the reply that is being said end as soon as it can; return whether there is one."""
        self._turn_over = True
        self._go_on()
        return self.response is not None

    def _json(self) -> Event:
        return self._settings.to_json(self.id, self._model, self._expires_at)

    def _update(self, event: Event) -> None:
        before, self._settings = self._settings, self._settings.updated(field(event, "session", dict, {}))
        if self._settings.turn_detection != before.turn_detection:
            vad = self._settings.turn_detection
            self._detector = None if vad is None else TurnDetector(vad, self._position)
        if self.response is None or self.response.begun:  # else it is steered when that begins
            self._steer(self._settings.engine_sampling)
        self._send({"type": "session.updated", "session": self._json()})

    @property
    def _position(self) -> int:
        """Samples at 16 kHz of the engine's stream so far, those that are no chunk yet among them."""
        return self._pushed * CHUNK_SAMPLES + len(self._pending)

    def _append(self, event: Event) -> None:
        samples = parse_audio(event.get("audio"), "audio")
        if not len(samples):
            return
        self._allowance.take(len(samples) / INPUT_RATE)
        self._buffered += len(samples)
        self._turn_over = False
        self._take(self._resampler.push(samples))

    def _take(self, samples: Audio) -> None:
        """Take samples at 16 kHz: find turns in them, and give whole chunks to the engine."""
        boundaries = [] if self._detector is None else list(self._detector.push(samples))
        self._pending = np.concatenate((self._pending, samples))
        whole = len(self._pending) // CHUNK_SAMPLES * CHUNK_SAMPLES
        chunks, self._pending = self._pending[:whole], self._pending[whole:]
        for chunk in chunks.reshape(-1, CHUNK_SAMPLES):
            self._push(chunk)
        for boundary in boundaries:
            self._turn(boundary)

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
            if self._detector is not None:
                self._detector.skip(count)
            self._push(chunk)

    def _turn(self, boundary: Boundary) -> None:
        """Carry out what `server_vad` makes of the sound."""
        vad = self._settings.turn_detection
        assert vad is not None  # who found the boundary
        kind, name = f"input_audio_buffer.speech_{boundary.kind}", "audio_start_ms"
        if boundary.kind == "started":
            self._send({"type": kind, name: _ms(boundary.at), "item_id": new_id("item")})
            if vad.interrupt_response and self.response is not None:
                self._cancel(self.response, "turn_detected")
            return
        item_id = new_id("item")
        self._send({"type": kind, "audio_end_ms": _ms(boundary.at), "item_id": item_id})
        self._committed(item_id)
        if vad.create_response and self.response is None:
            self._ask(None, (boundary.at - 1) // CHUNK_SAMPLES)

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
        if self._settings.turn_detection is not None:
            self._detector = TurnDetector(self._settings.turn_detection, self._position)
        self._send({"type": "input_audio_buffer.cleared"})

    def _create_response(self, event: Event) -> None:
        metadata = parse_metadata(event)
        if self.response is not None:
            active = f"response {self.response.id} is being said; wait for its end, or cancel it"
            raise ProtocolError("conversation_already_has_active_response", active)
        self._pad(least=self._pushed == self._heard)
        self._turn_over = True
        self._ask(metadata, self._pushed - 1)

    def _ask(self, metadata: dict[str, str] | None, chunk: int) -> None:
        """Let the engine respond after a chunk, and not before; what the model began in the same moment is cut."""
        self.response = Response(self.conversation, self._tokenizer, self._send, new_id, metadata)
        self._steer(self._settings.quiet_sampling, respond_at=chunk, cut=True)

    def _open(self) -> None:
        """Begin the response that the engine has opened: one that was asked for, or of the model's own."""
        if self.response is None:
            self.response = Response(self.conversation, self._tokenizer, self._send, new_id)
        else:
            self._steer(self._settings.engine_sampling)
        self.response.begin()

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
