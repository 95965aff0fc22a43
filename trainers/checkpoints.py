"""Checkpoints of a run under way: tensors and plain JSON, each whole or not there."""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from envs.files import write_text

_TENSORS, _STATE = "tensors.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{9})")


class SpoiltCheckpointWarning(Warning):
    """A checkpoint that cannot be used, and is skipped."""


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int = 2
) -> Path:
    """Write a checkpoint aside and rename it into place; return its folder.

    Args:
        folder: Of the run's checkpoints; is made where it is not there.
        step: How far the run has come; a checkpoint of the same step is replaced.
        tensors: By name; none may share memory with another.
        state: Plain JSON types.
        keep: How many of the newest checkpoints stay.

    Raises:
        OSError: naming the folder, when it cannot be written; nothing is left of it.
    """
    final = folder / f"step-{step:09d}"
    aside = folder / f".{final.name}.{os.getpid()}"
    try:
        for left in folder.glob(".step-*"):  # by a run that was killed
            shutil.rmtree(left)
        aside.mkdir(parents=True)
        save_file(dict(tensors), aside / _TENSORS)
        document = {"step": step, "sha256": _digest(aside / _TENSORS), "state": state}
        write_text(aside / _STATE, json.dumps(document))
        if final.exists():
            shutil.rmtree(final)
        aside.replace(final)
    except OSError as error:  # a full disk is reported without a name
        raise OSError(error.errno, error.strerror, str(final)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for old in _found(folder)[keep:]:
        shutil.rmtree(old)
    return final


def newest_checkpoint(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """Return step, tensors and state of the newest whole checkpoint, or None; one that is spoilt is warned of."""
    for path in _found(folder):
        try:
            document = json.loads((path / _STATE).read_text(encoding="utf-8"))
            if document["sha256"] != _digest(path / _TENSORS):
                raise ValueError(f"{_TENSORS} is not what was written")
            return document["step"], load_file(path / _TENSORS), document["state"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{path}: skipped, it is spoilt: {error}", SpoiltCheckpointWarning, stacklevel=2)
    return None


def _found(folder: Path) -> list[Path]:
    """Return the checkpoints' folders, the newest first."""
    return sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), reverse=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
