"""From YAML and dotted overrides to a checked dataclass; all errors are reported together."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, ValidationError, create_model

from envs.errors import ConfigError, did_you_mean

T = TypeVar("T")

_EXPONENT_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_RULES = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MERGE_TAG = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number and a key given twice is noted instead of silently winning."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_line: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE_TAG:
                continue
            line = key.start_mark.line + 1
            if key.value in first_line:
                self.repeated.append(
                    f"line {line}: key {key.value!r} was given in line {first_line[key.value]} already"
                )
            first_line.setdefault(key.value, line)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT_FLOAT, list("-+.0123456789"))


def load_config(cls: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Read a configuration of type `cls`.

    Args:
        cls: A frozen dataclass.
        path: A YAML file; what it leaves out has the dataclass's default.
        overrides: Dotted assignments such as "ppo.iterations=4", applied in order.

    Raises:
        ConfigError: in one line, all that is wrong: file or override, key, value, what was expected.
    """
    data, problems = _read(path)
    source: dict[str, str] = {}  # dotted key -> the override that set it
    for override in overrides:
        problems += _apply(data, override, source)
    config, faults = _validate(cls, data, str(path), source)
    problems += faults
    if config is None or problems:
        raise ConfigError("; ".join(problems))
    return config


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, whatever that is.

    Raises:
        ConfigError: when it cannot be read, is no YAML, or gives a key twice.
    """
    value, problems = _read_any(path)
    if problems:
        raise ConfigError("; ".join(problems))
    return value


def read_value(path: Path, key: str) -> Any:
    """Return what a YAML file has under a key of its first level, unchecked; None where it has no such key.

    Raises:
        ConfigError: when it cannot be read, or is no YAML of keys and values.
    """
    return _read(path)[0].get(key)


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the file's keys and values, and what is wrong with them as YAML."""
    data, problems = _read_any(path)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, got {_shown(data)}")
    return data, problems


def _read_any(path: Path) -> tuple[Any, list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: the configuration cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the configuration is not UTF-8 text: {error.reason}") from error
    return _parse(text, str(path))


def _parse(text: str, where: str) -> tuple[Any, list[str]]:
    """Return the value of a YAML text and the keys it repeats."""
    try:
        loader = _Loader(text)
        value = loader.get_single_data()
        json.dumps(value)  # dates, sets and cycles have no place in a configuration
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deep") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: only texts, numbers, truths, lists and keys are read: {error}") from error
    return value, [f"{where}, {repeated}" for repeated in loader.repeated]


def _apply(data: dict[str, Any], override: str, source: dict[str, str]) -> list[str]:
    """Set one dotted key; return what is wrong with the override."""
    where = f"override {override!r}"
    key, equals, text = override.partition("=")
    *parents, last = key.split(".")
    if not equals or not all((*parents, last)):
        return [f"{where}: expected KEY=VALUE, such as ppo.iterations=4"]
    try:
        value, problems = _parse(text, where)
    except ConfigError as error:
        return [str(error)]
    for parent in parents:
        data[parent] = {} if data.get(parent) is None else data[parent]  # `ppo:` alone is an empty section
        data = data[parent]
        if not isinstance(data, dict):
            return [f"{where}: {parent!r} is {_shown(data)} and holds no keys"]
    data[last] = value
    source[key] = where
    return problems


def _validate(
    cls: type[T], data: Mapping[str, Any], path: str, source: Mapping[str, str]
) -> tuple[T | None, list[str]]:
    """Build the dataclass with pydantic; return it, or all that is wrong, each with where it was written."""
    checked = create_model("Checked", __config__=_RULES, config=(cls, ...))
    try:
        # strict JSON, and not strict Python: a list may fill a tuple, while text never becomes a number
        return checked.model_validate_json(json.dumps({"config": data})).config, []  # type: ignore[attr-defined]
    except ValidationError as error:
        faults, found = [], error.errors()
        for fault in found:
            if any(_is_short_by(fault, other) for other in found):
                continue
            parts = [str(part) for part in fault["loc"][1:]]
            where = next((source[key] for key in source if _overlap(key.split("."), parts)), path)
            faults.append(f"{where}: {_describe(cls, parts, fault)}")
        return None, faults


def _is_short_by(fault: Any, other: Any) -> bool:
    """Return whether a list is only called too short since one of its items was left out, which has its own fault."""
    within: bool = other["loc"][: len(fault["loc"])] == fault["loc"]
    return fault["type"] == "too_short" and within and other is not fault


def _overlap(one: list[str], other: list[str]) -> bool:
    """Return whether one key is the other, or a section that holds it."""
    return all(a == b for a, b in zip(one, other, strict=False))


def _describe(cls: type, parts: list[str], fault: Any) -> str:
    """Say what is wrong with one key."""
    key = ".".join(parts)
    if fault["type"] == "unexpected_keyword_argument":
        return f"unknown key {key!r}{_nearest(cls, parts)}"
    if fault["type"] == "missing":
        return f"{key} is missing"
    if fault["type"] == "value_error":  # raised by a dataclass about several of its fields
        return f"{key}: {fault['ctx']['error']}" if key else str(fault["ctx"]["error"])
    expected = (
        fault["msg"].removeprefix("Input should be ").replace("a valid ", "a ").replace("a integer", "an integer")
    )
    if fault["type"] == "dataclass_type":
        expected = "a section of keys"
    if fault["type"] in ("list_type", "tuple_type"):
        expected = "a list"
    if fault["type"] == "too_short":
        expected = f"a list of at least {fault['ctx']['min_length']}"
    return f"{key} is {_shown(fault['input'])}, expected {expected}"


def _nearest(cls: type, parts: list[str]) -> str:
    """Suggest a key for an unknown one: the same name in another section, or the nearest name in its own."""
    known = list(_dotted_keys(cls))
    *section, name = parts
    items = ["0" if part.isdecimal() else part for part in section]  # all items of a list have the keys of its first
    siblings = [key.split(".")[-1] for key in known if key.split(".")[:-1] == items]
    close = [".".join((*section, near)) for near in get_close_matches(name, siblings, n=1)]
    suggested = [key for key in known if key.split(".")[-1] == name] or close
    return f"; did you mean {' or '.join(map(repr, suggested))}?" if suggested else did_you_mean(name, siblings)


def _dotted_keys(cls: type, prefix: str = "") -> Iterator[str]:
    """Yield every key of a dataclass and of those it holds; of a tuple of them, the keys of its first item."""
    hints = get_type_hints(cls)
    for field in fields(cls):
        yield prefix + field.name
        hint, key = hints[field.name], prefix + field.name
        for held, section in ((hint, f"{key}."), *((item, f"{key}.0.") for item in get_args(hint)[:1])):
            if isinstance(held, type) and is_dataclass(held):
                yield from _dotted_keys(held, section)


def _shown(value: Any) -> str:
    """Return a value short enough for an error of one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
