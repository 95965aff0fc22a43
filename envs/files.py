"""Files that appear under their name only when they are whole."""

import os
import re
import shutil
from pathlib import Path

_ASIDE = re.compile(r"\..+\.\d+")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text aside and rename it into place; what was there before stays until then.

    Raises:
        OSError: naming `path`, when it cannot be written (a full disk, a folder without permission); nothing is left.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes as `write_text` writes a text."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:  # a full disk is reported without a name
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove what writing files and folders whose names match `pattern` left aside when it was killed."""
    for aside in folder.glob(f".{pattern}.*"):
        if not _ASIDE.fullmatch(aside.name):
            continue
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink()
