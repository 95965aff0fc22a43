"""Traces on disk: a folder of JSON Lines files for each policy, one trace a line, an episode or a block a file."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from envs.errors import ScenarioError
from envs.files import write_text
from envs.trace import Trace

_NUMBER = re.compile(r"-\d+$")


def write_trace(path: Path, trace: Trace) -> None:
    """Write a trace as a JSON Lines file of one line."""
    write_text(path, json.dumps(trace.to_json(), allow_nan=False) + "\n")


def read_traces(folder: Path) -> list[Trace]:
    """Read all traces of a folder's `*.jsonl` files, in the order of their names.

    Raises:
        ScenarioError: naming file and line, when the folder holds no such file or a line is no trace.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise ScenarioError(f"{folder}: no *.jsonl files, expected a folder that RecordTraces wrote")
    return [trace for path in paths for trace in _read_file(path)]


def check_trace_folder(folder: Path) -> None:
    """Refuse to mix traces of two plays.

    Raises:
        ScenarioError: when a folder holds traces already, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ScenarioError(f"{folder} is a file, expected a folder for traces")
    if any(folder.glob("*.jsonl")):
        raise ScenarioError(f"{folder} holds traces already; name another folder, or move them away")


def write_traces(folder: Path, traces: Sequence[Trace]) -> None:
    """Write traces to a folder as `RecordTraces` does."""
    for number, trace in enumerate(traces):
        write_trace(folder / f"episode-{number:06d}.jsonl", trace)


def write_block(path: Path, traces: Sequence[Trace]) -> None:
    """Write several traces as one file, which appears under its name when it is whole."""
    write_text(path, "".join(json.dumps(trace.to_json(), allow_nan=False) + "\n" for trace in traces))


def read_policies(folder: Path) -> dict[str, list[Trace]]:
    """Read the traces of several policies, by name.

    A subfolder with `*.jsonl` files is one policy's. Beside them, `ppo.jsonl`, or `ppo-000000.jsonl` and so on, are
    those of the policy `ppo`.

    Raises:
        ScenarioError: as `read_traces`, or when two policies have the same name.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        groups.setdefault(_NUMBER.sub("", path.stem), []).append(path)
    policies = {name: [trace for path in paths for trace in _read_file(path)] for name, paths in groups.items()}
    for inside in sorted(path.parent for path in folder.glob("*/*.jsonl")):
        if inside.name in groups:
            raise ScenarioError(f"{folder}: both {inside.name}/ and {inside.name}*.jsonl are there; rename one")
        if inside.name not in policies:
            policies[inside.name] = read_traces(inside)
    if not policies:
        raise ScenarioError(f"{folder}: no *.jsonl files, expected a folder of traces for each policy")
    return policies


def _read_file(path: Path) -> list[Trace]:
    traces = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    for number, line in enumerate(lines, start=1):
        try:
            traces.append(Trace.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ScenarioError(f"{path}:{number}: not a trace: {error!r}") from error
    return traces
