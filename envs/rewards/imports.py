"""A user's own class, named by its import path."""

import importlib
from typing import Any

from envs.errors import ConfigError


def import_class(path: str, key: str) -> Any:
    """Return what 'module:Class' names.

    Raises:
        ConfigError: naming the key, when it cannot be imported.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything
        message = f"{key}: class {path!r} cannot be imported (write 'module:Class'): {type(error).__name__}: {error}"
        raise ConfigError(message) from error
