"""JSON that somebody else wrote: every field checked, every complaint one line that its writer can act on."""

import json
import math
from typing import Any

from envs.errors import AnswerError

_NAMES = {
    str: "text",
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_REQUIRED = object()


def parse_object(text: str) -> dict[str, Any]:
    """Return the one JSON object that a text consists of; a Markdown fence around it is taken off.

    Raises:
        AnswerError: when it is something else.
    """
    lines = text.strip().splitlines()
    if len(lines) > 2 and lines[0].startswith("```") and lines[-1] == "```":
        lines = lines[1:-1]
    try:
        data = json.loads("\n".join(lines))
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"the answer is not JSON: {error or 'nested too deeply'}", "not JSON") from error
    return json_object(data, "the answer")


def json_object(data: object, where: str) -> dict[str, Any]:
    """Return `data`, which has to be an object."""
    if not isinstance(data, dict):
        raise AnswerError(f"{where} is {_short(data)}, expected an object", "field")
    return data


def at(data: dict[str, Any], key: str, kind: type, where: str, default: Any = _REQUIRED) -> Any:
    """Return `data[key]`, which has to be of a kind: str, float, int, bool or list; numbers are finite.

    A missing key, or null, gives the default where there is one.
    """
    value = data.get(key)
    if value is None:
        if default is _REQUIRED:
            raise AnswerError(f"{where} has no {key!r}, expected {_NAMES[kind]}", "field")
        return default
    return _of_kind(value, kind, f"{where}.{key}")


def json_list(data: object, kind: type, where: str, length: int | None = None) -> list[Any]:
    """Return `data`, which has to be a list of things of a kind, and of a length where one is given."""
    if not isinstance(data, list) or (length is not None and len(data) != length):
        wanted = "a list" if length is None else f"a list of {length}"
        raise AnswerError(f"{where} is {_short(data)}, expected {wanted}", "field")
    return [_of_kind(item, kind, f"{where}[{i}]") for i, item in enumerate(data)]


def _of_kind(value: object, kind: type, where: str) -> Any:
    if isinstance(value, str):
        value = value.encode(errors="replace").decode()  # an escaped half of a character cannot be printed
    accepted = (int, float) if kind is float else kind
    # true is an int in Python, and no number in JSON
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise AnswerError(f"{where} is {_short(value)}, expected {_NAMES[kind]}", "field")
    if isinstance(value, float) and not math.isfinite(value):
        raise AnswerError(f"{where} is {value}, expected a finite number", "field")
    return value


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
