"""What a client has set of its session: `session.update` in the shapes of the GA and of the beta protocol."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from envs.errors import PolicyError, did_you_mean
from policies.engine import Sampling
from policies.server.messages import Event, ProtocolError, field
from policies.server.resampling import PROTOCOL_RATE
from policies.server.response import Modality, parse_modality
from policies.server.spoken_response import ENGLISH
from policies.server.turns import SemanticVAD, ServerVAD

_OWN = ("threshold", "bias", "temperature", "top_p")  # of a `Sampling`, under the key `soundflow`
_MOST_TOKENS = 4096


@dataclass(frozen=True)
class Settings:
    """A session's settings.

    Attributes:
        sampling: How it decides and writes.
        turn_detection: None: the model decides when to speak.
        modality: Of its replies.
    """

    sampling: Sampling
    turn_detection: ServerVAD | SemanticVAD | None = None
    modality: Modality = "text"

    @property
    def engine_sampling(self) -> Sampling:
        """What the engine is told: with `server_vad` the model opens no reply by itself."""
        vad = self.turn_detection
        decides = vad is None or (isinstance(vad, SemanticVAD) and vad.create_response)
        return self.sampling if decides else self.quiet_sampling

    @property
    def quiet_sampling(self) -> Sampling:
        """The sampling under which nobody but the client opens a reply."""
        return replace(self.sampling, opens=False)

    def updated(self, session: Event) -> "Settings":
        """Return them with what a `session.update` holds; fields that are not known are ignored.

        Raises:
            ProtocolError: `invalid_value` for a known field whose value cannot be used. Nothing changes then.
        """
        _check_format(session)
        sampling = {**_sampling_fields(session), **_own_fields(session)}
        try:
            new = replace(
                self,
                sampling=replace(self.sampling, **sampling),
                modality=parse_modality(session, "session", self.modality),
            )
        except (PolicyError, TypeError) as error:
            raise ProtocolError("invalid_value", str(error), "session.soundflow") from error
        for holder, path in (
            (_input(session), "session.audio.input.turn_detection"),
            (session, "session.turn_detection"),
        ):
            if "turn_detection" in holder:
                new = replace(new, turn_detection=_turn_detection(holder["turn_detection"], path))
        return new

    @property
    def max_output_tokens(self) -> int | str:
        """Tokens of a reply, as the protocol has them."""
        return self.sampling.max_reply_tokens or "inf"

    def to_json(self, session_id: str, model: str, expires_at: int) -> Event:
        """Return the session as the protocol shows it, with the fields of GA and of beta."""
        vad = self.turn_detection
        kind = "server_vad" if isinstance(vad, ServerVAD) else "semantic_vad"
        detection = None if vad is None else {"type": kind, **asdict(vad)}
        audio_format = {"type": "audio/pcm", "rate": PROTOCOL_RATE}
        heard = {"format": audio_format, "turn_detection": detection, "transcription": None, "noise_reduction": None}
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": model,
            "expires_at": expires_at,
            "instructions": "",
            "tools": [],
            "tool_choice": "none",
            "output_modalities": [self.modality],
            "audio": {"input": heard, "output": {"format": audio_format, "voice": ENGLISH.name, "speed": 1.0}},
            "max_output_tokens": self.max_output_tokens,
            "modalities": ["text"] if self.modality == "text" else ["text", "audio"],
            "voice": ENGLISH.name,
            "input_audio_format": "pcm16",
            "output_audio_format": "pcm16",
            "turn_detection": detection,
            "max_response_output_tokens": self.max_output_tokens,
            "soundflow": {name: getattr(self.sampling, name) for name in _OWN},
        }


def _input(session: Event) -> Event:
    found: Event = field({"session": session}, "session.audio.input", dict, {})
    return found


def _check_format(session: Event) -> None:
    """Refuse audio that would be misheard, by either side."""
    for way in ("input", "output"):
        old = session.get(f"{way}_audio_format")
        if old not in (None, "pcm16"):
            raise ProtocolError(
                "invalid_value", f"expected 'pcm16', got {str(old)[:64]!r}", f"session.{way}_audio_format"
            )
        path = f"session.audio.{way}.format"
        found = field({"session": session}, path, dict, {})
        if found.get("type", "audio/pcm") != "audio/pcm" or found.get("rate", PROTOCOL_RATE) != PROTOCOL_RATE:
            raise ProtocolError("invalid_value", f"expected audio/pcm at {PROTOCOL_RATE} Hz", path)


def _sampling_fields(session: Event) -> dict[str, Any]:
    fields = {}
    for name in ("max_response_output_tokens", "max_output_tokens"):
        most = field({"session": session}, f"session.{name}", (int, str))
        if most is not None and most != "inf" and not (isinstance(most, int) and 1 <= most <= _MOST_TOKENS):
            expected = f"expected 'inf' or a count from 1 to {_MOST_TOKENS}"
            raise ProtocolError("invalid_value", expected, f"session.{name}")
        if most is not None:
            fields["max_reply_tokens"] = None if most == "inf" else most
    return fields


def _own_fields(session: Event) -> dict[str, float]:
    own = field({"session": session}, "session.soundflow", dict, {})
    for name in own:
        if name not in _OWN:
            raise ProtocolError(
                "invalid_value", f"unknown key{did_you_mean(name[:64], _OWN)}", f"session.soundflow.{name[:64]}"
            )
    return {n: field({"session": session}, f"session.soundflow.{n}", (int, float)) for n in own if own[n] is not None}


def _turn_detection(value: Any, path: str) -> ServerVAD | SemanticVAD | None:
    if value is None:
        return None
    holder = {"it": value}
    kind = field(holder, "it.type", str)
    answers = {name: field(holder, f"it.{name}", bool, True) for name in ("create_response", "interrupt_response")}
    if kind == "semantic_vad":
        return SemanticVAD(**answers)
    if kind != "server_vad":
        raise ProtocolError("invalid_value", "expected null, 'server_vad' or 'semantic_vad'", f"{path}.type")
    default = ServerVAD()
    vad = ServerVAD(
        threshold=float(field(holder, "it.threshold", (int, float), default.threshold)),
        prefix_padding_ms=field(holder, "it.prefix_padding_ms", int, default.prefix_padding_ms),
        silence_duration_ms=field(holder, "it.silence_duration_ms", int, default.silence_duration_ms),
        **answers,
    )
    if not (0 <= vad.threshold <= 1 and 0 <= vad.prefix_padding_ms <= 5000 and 20 <= vad.silence_duration_ms <= 10_000):
        expected = "expected a threshold from 0 to 1, prefix_padding_ms from 0 to 5000, silence_duration_ms 20 to 10000"
        raise ProtocolError("invalid_value", expected, path)
    return vad
