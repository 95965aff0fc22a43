"""The extra `serve`: without its packages a command says so in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from envs.errors import ServerError

_PACKAGES = ("starlette", "uvicorn", "websockets")


@contextmanager
def needs_serve() -> Iterator[None]:
    """Import in it what needs the extra.

    Raises:
        ServerError: when a package of the extra is not installed.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").split(".")[0] not in _PACKAGES:
            raise
        raise ServerError(f"serve needs the package {error.name}: uv sync --extra serve") from error
