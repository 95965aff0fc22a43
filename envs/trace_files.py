"""Traces on disk: a folder of JSON Lines files, one trace a line, one file an episode."""

import json
from pathlib import Path

from envs.errors import ScenarioError
from envs.files import write_text
from envs.trace import Trace


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
