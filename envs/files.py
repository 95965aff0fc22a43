"""Text files that appear under their name only when they are whole."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text aside and rename it into place; what was there before stays until then.

    Raises:
        OSError: naming `path`, when it cannot be written (a full disk, a folder without permission); nothing is left.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:  # a full disk is reported without a name
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)
