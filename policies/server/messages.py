"""Client events as they come over the wire, read strictly; what is wrong with one becomes an `error` event."""

import base64
import binascii
import json
import math
from typing import Any

import numpy as np

from envs.scenario import Audio

Event = dict[str, Any]
_MOST_ID_CHARS = 512


class ProtocolError(Exception):
    """A client event that cannot be carried out; the session goes on as it was.

    Args:
        code: For programs; `docs/server.md` has all of them.
        message: For people: what was found, and what was expected.
        param: The field that it is about.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param

    def event(self, client_event_id: str | None) -> Event:
        """Return it as the protocol's `error`, about the client event of that id."""
        kind = "server_error" if self.code == "server_error" else "invalid_request_error"
        error = {"type": kind, "code": self.code, "message": str(self), "param": self.param}
        return {"type": "error", "error": error | {"event_id": client_event_id}}


def parse_event(text: str, most_depth: int, most_marks: int) -> Event:
    """Read a client event.

    Raises:
        ProtocolError: `invalid_json` for anything but one JSON object (RFC 8259: no NaN, no Infinity, no key twice) of
            bounded depth and at most so many brackets, braces and commas; `invalid_event` when it has no type, or an
            event_id that is no short string.
    """
    if _count_marks(text) > most_marks:  # before it is decoded: a third of a million lists take the server a second
        raise ProtocolError("invalid_json", f"the message has more than {most_marks} brackets, braces and commas")
    try:
        event = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
        )
    except RecursionError as error:
        raise ProtocolError("invalid_json", f"the message is nested deeper than {most_depth} levels") from error
    except ValueError as error:
        raise ProtocolError("invalid_json", f"the message is no JSON: {error}") from error
    if not isinstance(event, dict):
        raise ProtocolError("invalid_json", f"the message is a JSON {_kind(event)}, expected an object")
    _check_depth(event, most_depth)
    event_id = event.get("event_id")
    if event_id is not None and not (isinstance(event_id, str) and len(event_id) <= _MOST_ID_CHARS):
        event["event_id"] = None  # nothing to answer to
        raise ProtocolError("invalid_event", f"expected a string of at most {_MOST_ID_CHARS} characters", "event_id")
    if not isinstance(event.get("type"), str):
        raise ProtocolError("invalid_event", f"expected a string, got {_kind(event.get('type'))}", "type")
    return event


def event_id_of(text: str, most_marks: int) -> str | None:
    """Return the event_id of a message that was refused, where it has one that can be read."""
    if _count_marks(text) > most_marks:
        return None
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    event_id = event.get("event_id") if isinstance(event, dict) else None
    return event_id if isinstance(event_id, str) and len(event_id) <= _MOST_ID_CHARS else None


def dump_event(event: Event) -> str:
    """Return an event as JSON: ASCII, and nothing that is no JSON."""
    return json.dumps(event, allow_nan=False, separators=(",", ":"))


def parse_audio(value: object, param: str) -> Audio:
    """Decode base64 of 16-bit little-endian mono samples: float32 [n] in [-1, 1).

    Raises:
        ProtocolError: `invalid_audio` when it is anything else.
    """
    if not isinstance(value, str):
        raise ProtocolError("invalid_audio", f"expected base64 of PCM16, got {_kind(value)}", param)
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("invalid_audio", f"it is no base64: {error}", param) from error
    if len(data) % 2:
        raise ProtocolError("invalid_audio", f"{len(data)} bytes end in the middle of a 16-bit sample", param)
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def field(event: Event, path: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """Return the field at a dotted path, or `default` where it or what holds it is missing or null.

    Raises:
        ProtocolError: `invalid_value` when it is of another type.
    """
    value: Any = event
    names = path.split(".")
    for depth, name in enumerate(names):
        if not isinstance(value, dict):
            raise ProtocolError("invalid_value", f"expected an object, got {_kind(value)}", ".".join(names[:depth]))
        value = value.get(name)
        if value is None:
            return default
    allowed = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        expected = " or ".join(one.__name__ for one in allowed)
        raise ProtocolError("invalid_value", f"expected {expected}, got {_kind(value)}", path)
    return value


def _count_marks(text: str) -> int:
    return sum(text.count(mark) for mark in "[{,")


def _object(pairs: list[tuple[str, Any]]) -> Event:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _whole(text: str) -> int:
    _finite(text)  # whoever takes any number takes it as a float
    return int(text)


def _check_depth(event: Event, most: int) -> None:
    level: list[Any] = [event]
    for _ in range(most):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ProtocolError("invalid_json", f"the message is nested deeper than {most} levels")


def _kind(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
