"""From YAML and dotted overrides to a checked dataclass; all errors are reported together."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from envs.errors import ConfigError, did_you_mean

T = TypeVar("T")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error and not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_config(cls: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Read a configuration of type `cls`.

    Args:
        cls: A frozen dataclass.
        path: A YAML file.
        overrides: Dotted assignments such as "ppo.iterations=4", applied in order.

    Raises:
        ConfigError: naming the file, every faulty key, its value and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the configuration cannot be read: {error}") from error
    data = _parse(text, str(path)) or {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(data).__name__}")
    for override in overrides:
        _apply(data, override)
    try:
        return TypeAdapter(_strict(cls)).validate_python(data)
    except ValidationError as error:
        faults = "; ".join(_describe(cls, fault) for fault in error.errors())
        raise ConfigError(f"{path}: {faults}") from error


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected KEY=VALUE, such as ppo.iterations=4")
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"override {override!r}: {parent!r} holds no keys")
    data[last] = _parse(value, f"override {override!r}")


def _strict(cls: type[T]) -> type[T]:
    """Forbid unknown keys in a dataclass and in the dataclasses it holds."""
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if dataclasses.is_dataclass(f.type):
            _strict(f.type)  # type: ignore[arg-type]
    return with_config(ConfigDict(extra="forbid"))(cls)


def _describe(cls: type, fault: Any) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location)
    if fault["type"] != "unexpected_keyword_argument":
        return f"{key} is {fault['input']!r}: {fault['msg'].lower()}"
    for parent in location[:-1]:
        cls = next(f.type for f in dataclasses.fields(cls) if f.name == parent)  # type: ignore[assignment]
    return f"unknown key {key!r}{did_you_mean(location[-1], [f.name for f in dataclasses.fields(cls)])}"
