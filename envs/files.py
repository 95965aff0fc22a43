"""Files that appear under their name only when they are whole."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text; see `write_bytes`."""
    write_bytes(path, lambda file: file.write(text.encode("utf-8")))


def write_bytes(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file aside, then rename it into place; what was there before stays until then.

    Raises:
        OSError: naming `path`, when it cannot be written (a full disk, a folder without permission); nothing is left.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            write(file)
        aside.replace(path)
    except OSError as error:  # a full disk is reported without a name
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)
