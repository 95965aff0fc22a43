"""Question sets as they are published: tables of spoken questions, with their recordings in them or beside them.

`SUBSET/PART-00000-of-00002.parquet`, as Hugging Face publishes data sets, whose column `audio` holds `{bytes, path}`;
or `SUBSET/PART.jsonl` with the same columns, in which `audio` is a path in the folder.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.audio import decode_audio, header_fault, read_audio
from envs.errors import AudioError, ManifestError
from envs.records import BrokenRecord, missing, read_json_lines
from envs.scenario import Audio

AUDIO = "audio"
_SHARD = re.compile(r"(?P<part>.+)-(?P<number>\d{5})-of-(?P<shards>\d{5})\.parquet")


@dataclass(frozen=True)
class QuestionRow:
    """A spoken question.

    Attributes:
        part: What its file's name begins with, such as a dialect.
        path: Of its recording: in the folder, or `FILE.parquet#ROW`.
        values: Its other columns.
        lacks: Why it cannot be heard; blank: it can.
    """

    part: str
    path: str
    values: dict[str, Any]
    lacks: str = ""


def read_questions(folder: Path, subset: str, parts: Sequence[str]) -> tuple[list[QuestionRow], list[str]]:
    """Return the rows of a subset, and the files that the release has and the folder has not.

    Args:
        folder: Holds the subset's folder.
        subset: Its name.
        parts: Which the release has; of JSON Lines any are taken.

    Raises:
        ManifestError: when there is no such folder, or naming the file or the line that is no table of questions.
    """
    home = folder / subset
    lines, shards = sorted(home.glob("*.jsonl")), sorted(home.glob("*.parquet"))
    if lines:
        return [row for file in lines for row in _json_rows(folder, file)], []
    if not shards:
        raise ManifestError(f"{home}: holds no table (*.parquet, *.jsonl) of {subset}, which the release has there")
    rows = [row for file in shards for row in _parquet_rows(folder, file)]
    return rows, _lost_shards(subset, [file.name for file in shards], parts)


def _lost_shards(subset: str, there: Sequence[str], parts: Sequence[str]) -> list[str]:
    found = [match for name in there if (match := _SHARD.fullmatch(name))]
    wanted = {(m["part"], m["shards"]) for m in found}
    names = [f"{p}-{i:05d}-of-{of}.parquet" for p, of in sorted(wanted) for i in range(int(of))]
    lost = [name for name in names if name not in there]
    lost += [f"{part}-*.parquet" for part in parts if part not in {m["part"] for m in found}]
    return [f"{subset}/{name} (all its questions)" for name in lost]


def _json_rows(folder: Path, file: Path) -> Iterator[QuestionRow]:
    for found in read_json_lines(file):
        if isinstance(found, BrokenRecord):
            raise ManifestError(f"{found}; the questions have to be whole: download them again")
        line, value = found
        place = f"{file}, line {line}"
        if not isinstance(value, dict) or not isinstance(value.get(AUDIO), str):
            raise ManifestError(f"{place}: expected an object with the path of a recording as {AUDIO!r}")
        path = value[AUDIO]
        values = {name: own for name, own in value.items() if name != AUDIO}
        yield QuestionRow(file.stem, path, values, missing(folder, path, place) or header_fault(folder / path))


def _parquet_rows(folder: Path, file: Path) -> Iterator[QuestionRow]:
    from pyarrow import ArrowException  # noqa: PLC0415 - `import envs` stays light
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - likewise

    match = _SHARD.fullmatch(file.name)
    part, name = match["part"] if match else file.stem, file.relative_to(folder).as_posix()
    try:
        with ParquetFile(file) as table:
            columns = table.schema_arrow.names
            if AUDIO not in columns:
                raise ManifestError(f"{file}: no column {AUDIO!r}, expected the recordings; it has {columns}")
            rows = table.read([column for column in columns if column != AUDIO]).to_pylist()
            silent = [row for group in range(table.num_row_groups) for row in _without_bytes(table, group)]
    except (ArrowException, OSError, ValueError) as error:
        raise ManifestError(f"{file}: not a whole Parquet file: {error}; download it again") from error
    gone = set(silent)
    for number, values in enumerate(rows):
        yield QuestionRow(part, f"{name}#{number}", values, f"row {number} has no recording" if number in gone else "")


def _without_bytes(table: Any, group: int) -> Iterator[int]:
    """Yield the rows of a group that have no recording; nothing is read where the file's own counts say that all do."""
    meta, first = table.metadata.row_group(group), sum(table.metadata.row_group(i).num_rows for i in range(group))
    leaves = [meta.column(i) for i in range(meta.num_columns)]
    counts = [leaf.statistics for leaf in leaves if leaf.path_in_schema == f"{AUDIO}.bytes"]
    if not counts:
        raise ManifestError(f"its column {AUDIO!r} holds no bytes, expected recordings as {{bytes, path}}")
    if counts[0] is not None and counts[0].has_null_count and counts[0].null_count == 0:
        return
    for number, kept in enumerate(table.read_row_group(group, [f"{AUDIO}.bytes"])[AUDIO].to_pylist()):
        if kept is None or not kept["bytes"]:
            yield first + number


class QuestionAudio:
    """Reads the recordings of a folder's questions, by `QuestionRow.path`; one group of a table is held in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: tuple[Path, int, int, Any] | None = None  # file, first row, rows, their recordings

    def __call__(self, path: str) -> Audio:
        """Return a recording: float32 [samples] at 16 kHz in [-1, 1].

        Raises:
            AudioError: when it cannot be decoded.
        """
        name, mark, row = path.rpartition("#")
        if not mark or not name.endswith(".parquet"):
            return read_audio(self._folder / path)
        return decode_audio(self._bytes(self._folder / name, int(row)), path)

    def _bytes(self, file: Path, row: int) -> bytes:
        from pyarrow import ArrowException  # noqa: PLC0415 - `import envs` stays light
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - likewise

        held = self._held
        if held is None or held[0] != file or not held[1] <= row < held[1] + held[2]:
            try:
                with ParquetFile(file) as table:
                    first = group = 0
                    while row >= first + (rows := table.metadata.row_group(group).num_rows):
                        first, group = first + rows, group + 1
                    held = self._held = (file, first, rows, table.read_row_group(group, [f"{AUDIO}.bytes"])[AUDIO])
            except (ArrowException, OSError) as error:
                raise AudioError(f"{file}: not a whole Parquet file: {error}; download it again") from error
        content: bytes = held[3][row - held[1]].as_py()["bytes"]
        return content
