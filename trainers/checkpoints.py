"""Checkpoints of training runs: whole under their name or not there, and none of them a pickle.

A checkpoint is a folder `step-00000040` of `tensors.safetensors` and `state.json`. It is written aside, forced to the
disk and renamed, so that a kill or a power cut leaves the one before it. What a trainer keeps in it is the trainer's:
named tensors, and a state of plain JSON. The helpers below turn modules, optimisers and torch's random generators into
such and back, bit by bit.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from envs.errors import CheckpointError, first_line
from trainers.sharding import laid_out_as

FORMAT = 1
_TENSORS, _STATE = "tensors.safetensors", "state.json"
_KEYS = {"format", "step", "config", "names", "sha256", "state"}
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """What `save_checkpoint` was given.

    Attributes:
        path: Its folder.
        step: How far training had come.
        tensors: By name, on the CPU.
        state: Plain JSON.
        config: What the run was asked for.
    """

    path: Path
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    config: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `prefix.`, without it."""
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    config: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write a checkpoint into `folder`, and remove all but the newest `keep` of those up to `step`.

    Args:
        folder: Is made where it is not there.
        step: Names the checkpoint; one of that step that is there already is replaced.
        tensors: By name; tensors that share memory are written once each.
        state: Plain JSON.
        config: What the run was asked for, plain JSON; a checkpoint of another configuration is never gone on from.
        keep: At least 1.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: naming the folder, when it cannot be written (a full disk, no permission); nothing is left then.
    """
    path = folder / f"step-{step:08d}"
    aside = folder / f".{path.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        aside.mkdir()
        save_file({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}, aside / _TENSORS)
        document = {
            "format": FORMAT,
            "step": step,
            "config": config,
            "names": sorted(tensors),
            "sha256": _digest(aside / _TENSORS),
            "state": state,
        }
        (aside / _STATE).write_text(json.dumps(document), encoding="utf-8")
        for file in (aside / _TENSORS, aside / _STATE, aside):
            _to_disk(file)
        _remove(path)
        aside.replace(path)
        _to_disk(folder)
    except OSError as error:  # a full disk is reported without a name
        raise OSError(error.errno, error.strerror, str(path)) from error
    except SafetensorError as error:  # its word for the same
        raise OSError(errno.EIO, first_line(str(error)), str(path)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    older = sorted(number for number in _steps(folder) if number <= step)
    for number in older[:-keep]:
        _remove(folder / f"step-{number:08d}")
    return path


def newest_checkpoint(folder: Path, config: Mapping[str, Any] | None) -> Checkpoint | None:
    """Return the newest whole checkpoint of a configuration, or of any; None where there is none.

    One that cannot be used is skipped, and named on stderr with the reason.
    """
    for step in sorted(_steps(folder), reverse=True):
        try:
            return read_checkpoint(folder / f"step-{step:08d}", config)
        except CheckpointError as error:
            print(f"soundflow: skipped {error}", file=sys.stderr, flush=True)
    return None


def read_checkpoint(path: Path, config: Mapping[str, Any] | None) -> Checkpoint:
    """Read one checkpoint, of a configuration or of any.

    Raises:
        CheckpointError: when a file is missing or spoilt, or it is of another format or configuration.
    """
    missing = [name for name in (_STATE, _TENSORS) if not (path / name).is_file()]
    if missing:
        raise CheckpointError(f"{path}: it has no {' and no '.join(missing)}")
    try:
        document = json.loads((path / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(first_line(f"{path / _STATE}: cannot be read: {error}")) from error
    if not isinstance(document, dict) or not document.keys() >= _KEYS:
        raise CheckpointError(f"{path / _STATE}: expected an object with {', '.join(sorted(_KEYS))}")
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path / _STATE}: format is {document['format']!r}, this version reads {FORMAT}")
    said = "" if config is None else difference(document["config"], json.loads(json.dumps(config)))
    if said:
        raise CheckpointError(f"{path}: of another configuration: {said}")
    try:
        tensors = {name: tensor.clone() for name, tensor in load_file(path / _TENSORS).items()}  # leave the file alone
    except Exception as error:  # safetensors' own, and the disk's
        raise CheckpointError(first_line(f"{path / _TENSORS}: cannot be read: {error}")) from error
    if sorted(tensors) != document["names"]:
        raise CheckpointError(f"{path / _TENSORS}: holds {len(tensors)} tensors that are not those of {_STATE}")
    if document["sha256"] != _digest(path / _TENSORS):
        raise CheckpointError(f"{path / _TENSORS}: is not what was written, its bytes have changed")
    return Checkpoint(path, document["step"], tensors, document["state"], document["config"])


def module_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return a module's parameters and buffers under `prefix.`; what is tied stands under its first name."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {f"{prefix}.{name}": tensor.detach() for name, tensor in named}


def module_digest(module: nn.Module) -> str:
    """Return what tells a module's weights from others: SHA-256 of their names and bytes."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def load_module(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Fill a module with what `module_tensors` gave.

    Raises:
        CheckpointError: when names or shapes differ.
    """
    own = module_tensors(module, prefix)
    held = {f"{prefix}.{name}": tensor for name, tensor in checkpoint.under(prefix).items()}
    wrong = sorted(own.keys() ^ held.keys()) or [n for n in own if own[n].shape != held[n].shape]
    if wrong:
        raise CheckpointError(f"{checkpoint.path}: {wrong[0]} and {len(wrong) - 1} more tensors do not fit the model")
    for name, tensor in own.items():
        tensor.copy_(held[name])


def optimizer_state(optimizer: torch.optim.Optimizer, prefix: str) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return an optimiser's tensors under `prefix.`, and its groups as JSON."""
    state = optimizer.state_dict()
    tensors = {f"{prefix}.{index}.{key}": value for index, own in state["state"].items() for key, value in own.items()}
    return tensors, state["param_groups"]


def load_optimizer(
    optimizer: torch.optim.Optimizer, checkpoint: Checkpoint, prefix: str, groups: list[dict[str, Any]]
) -> None:
    """Fill an optimiser with what `optimizer_state` gave, whole; of sharded parameters it gets its parts.

    Raises:
        CheckpointError: when its groups are others.
    """
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.under(prefix).items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = laid_out_as(parameters.get(int(index)), tensor)
    try:
        optimizer.load_state_dict({"state": state, "param_groups": [_with_tuples(group) for group in groups]})
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: the optimiser's state does not fit: {error}") from error


def random_tensors(prefix: str) -> dict[str, Tensor]:
    """Return the states of torch's global generators, of the CPU and of every GPU: uint8 each."""
    states = {f"{prefix}.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"{prefix}.cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def load_random(checkpoint: Checkpoint, prefix: str) -> None:
    """Set torch's global generators to what `random_tensors` gave; a GPU that was not there then stays as it is."""
    torch.set_rng_state(checkpoint.tensors[f"{prefix}.cpu"])
    for device in range(torch.cuda.device_count()):
        state = checkpoint.tensors.get(f"{prefix}.cuda.{device}")
        if state is not None:
            torch.cuda.set_rng_state(state, device)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _steps(folder: Path) -> list[int]:
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    return [int(match[1]) for match in names if match]


def _remove(path: Path) -> None:
    """Remove a checkpoint; a kill in the middle leaves no half of one under its name."""
    if path.exists():
        aside = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.replace(aside)
        shutil.rmtree(aside)


def _remove_leftovers(folder: Path) -> None:
    """Remove what was aside when a run was killed."""
    for aside in folder.glob(".step-*"):
        shutil.rmtree(aside)


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, has reached the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def difference(found: Any, expected: Any, key: str = "") -> str:
    """Say where two JSON values differ first, by dotted key; blank where they do not."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            said = difference(found.get(name), expected.get(name), f"{key}.{name}" if key else name)
            if said:
                return said
        return ""
    return "" if found == expected else f"{key} is {_shown(found)} and not {_shown(expected)}"


def _shown(value: Any) -> str:
    """Return a value short enough for an error of one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _with_tuples(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group with its betas as the tuple that JSON made a list of."""
    return {key: tuple(value) if key == "betas" else value for key, value in group.items()}
