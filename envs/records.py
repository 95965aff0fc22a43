"""Records of a corpus, one a row or line: what cannot be used is named and counted, never turned into silence.

A structural fault (no such file, a missing column, no CSV) is an error at once. A broken record is left out and
named; more than a small share of them is an error too.
"""

import csv
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.errors import ManifestError

Columns = dict[str, str]
ALLOW_BROKEN = 0.01  # share of records that may be broken
_MOST_NAMED = 10


class BrokenRecordsWarning(UserWarning):
    """Some records were left out; the message names them."""


def _place(file: Path, line: int) -> str:
    return f"{file}, line {line}" if line else f"{file}"


@dataclass(frozen=True)
class Record:
    """One record: the file and line that name it (line 0: the file's name alone does), and its columns."""

    file: Path
    line: int
    columns: Columns

    @property
    def place(self) -> str:
        """Where it is named, for a message."""
        return _place(self.file, self.line)

    def broken(self, reason: str) -> "BrokenRecord":
        """Return this record as one that cannot be used."""
        return BrokenRecord(self.file, self.line, reason)


@dataclass(frozen=True)
class BrokenRecord:
    """A record that cannot be used, and why."""

    file: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{_place(self.file, self.line)}: {self.reason}"


Entry = Record | BrokenRecord


@dataclass
class BrokenTally:
    """The broken records of one corpus: refused where they are too many.

    Args:
        corpus: What is read, for messages.
        total: How many records it has.
        allowed: The share of them that may be broken.

    Raises:
        ManifestError: when `allowed` is no share.
    """

    corpus: Path | str
    total: int
    allowed: float = ALLOW_BROKEN
    found: dict[BrokenRecord, None] = field(default_factory=dict)  # in order, each once

    def __post_init__(self) -> None:
        if not 0 <= self.allowed <= 1:
            raise ManifestError(f"the share of broken records to allow is {self.allowed}, expected one from 0 to 1")

    def add(self, records: Iterable[BrokenRecord]) -> None:
        """Count broken records.

        Raises:
            ManifestError: when more than the allowed share of all records is broken, or none is left.
        """
        self.found.update(dict.fromkeys(records))
        count = len(self.found)
        if count > round(self.allowed * self.total, 9) or count >= self.total > 0:
            first = next(iter(self.found))
            named = f"{first}{' (the first of them)' if count > 1 else ''}"
            remedy = (
                f"at most {100 * self.allowed:g} % may be broken; repair or remove them, or allow a larger share"
                " (--allow-broken)"
                if count < self.total
                else "none is left; repair them"
            )
            raise ManifestError(
                f"{named}; {count} of {self.total} records of {self.corpus} cannot be used, and {remedy}"
            )

    def meet(self, record: BrokenRecord) -> None:
        """Count a record that proves broken only when it is drawn, and warn of it.

        Raises:
            ManifestError: as `add`.
        """
        if record not in self.found:
            self.add([record])
            warnings.warn(f"left out: {record}", BrokenRecordsWarning, stacklevel=3)

    def warn(self, depth: int = 2) -> None:
        """Warn of what was found, once for all; `depth` frames up is whoever asked for the corpus."""
        if self.found:
            lines = broken_lines(tuple(self.found), self.total)
            warnings.warn("\n".join(lines), BrokenRecordsWarning, stacklevel=depth + 1)


def broken_lines(broken: Sequence[BrokenRecord], total: int) -> list[str]:
    """Return a line for each broken record, at most ten, and one that counts them."""
    lines = [f"left out: {record}" for record in broken[:_MOST_NAMED]]
    more = f", of which {_MOST_NAMED} are named" if len(broken) > _MOST_NAMED else ""
    return [*lines, f"left out: {len(broken)} of {total} records{more}"]


def inside(folder: Path, path: str, place: str) -> Path:
    """Return where a file of a corpus lies.

    Raises:
        ManifestError: when its path leads out of the folder; that is refused whatever may be broken.
    """
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ManifestError(f"{place}: path {path!r} leads out of the folder; clips have to lie in it")
    return file


def missing(folder: Path, path: str, place: str) -> str:
    """Return why a path names no file of a folder; blank where it does.

    Raises:
        ManifestError: when it leads out of the folder.
    """
    try:
        there = inside(folder, path, place).is_file()
    except OSError as error:  # a name too long, a folder that may not be entered
        return f"path {path!r} cannot be looked up: {error.strerror}"
    except ValueError as error:  # a NUL byte, half a character
        return f"path {path!r} is no name of a file: {error}"
    return "" if there else f"path {path!r} names no file; add the clip or remove the row"


def read_table(
    path: Path,
    columns: Sequence[str],
    hint: Callable[[str, Sequence[str]], str],
    *,
    delimiter: str = ",",
    quoting: bool = True,
) -> Iterator[Entry]:
    """Yield the rows of a CSV or TSV table with a header that has at least these columns.

    Args:
        path: The table.
        columns: What its header has to hold.
        hint: Returns what to say about a column that the header (second argument) lacks.
        delimiter: What separates fields.
        quoting: Whether quotation marks enclose fields; without, they are text, and a backslash escapes.

    Raises:
        ManifestError: when it is no table in UTF-8, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rules: dict[str, Any] = {} if quoting else {"quoting": csv.QUOTE_NONE, "escapechar": "\\"}
            reader = csv.DictReader(file, delimiter=delimiter, **rules)
            header = reader.fieldnames or []
            for column in columns:
                if column not in header:
                    raise ManifestError(f"{path}: no column {column!r}{hint(column, header)}")
            for row in reader:
                if None in row or None in row.values():
                    yield BrokenRecord(path, reader.line_num, "has more or fewer fields than the header")
                else:
                    yield Record(path, reader.line_num, row)
    except (UnicodeDecodeError, csv.Error) as error:
        kind = "CSV" if delimiter == "," else "TSV"
        raise ManifestError(f"{path}: not a UTF-8 {kind} file: {error}") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, Any] | BrokenRecord]:
    """Yield (line, value) of a JSONL file; blank lines hold no record.

    Raises:
        ManifestError: when it is not in UTF-8.
    """
    for line, text in read_lines(path):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:  # nested a thousand deep
            yield BrokenRecord(path, line, f"not JSON: {error}")
        else:
            yield line, value


def read_json_records(path: Path) -> Iterator[tuple[int, Any] | BrokenRecord]:
    """Yield (line, value) of a JSONL file, or of the items of a file that holds one JSON list.

    Raises:
        ManifestError: when it is not in UTF-8, or a list that is not JSON: what follows the fault cannot be told apart.
    """
    with path.open("rb") as file:
        is_list = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    return _json_list(path) if is_list else read_json_lines(path)


def _json_list(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a JSON file in UTF-8: {error}") from error
    decode, place, line, seen = json.JSONDecoder().raw_decode, _after_space(text, text.index("[") + 1), 1, 0
    while text[place : place + 1] != "]":
        line, seen = line + text.count("\n", seen, place), place
        try:
            value, end = decode(text, place)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{path}, line {line}: not JSON: {error}") from error
        yield line, value
        place = _after_space(text, end)
        if text[place : place + 1] == ",":
            place = _after_space(text, place + 1)
        elif text[place : place + 1] != "]":
            raise ManifestError(f"{path}, line {line}: expected a comma or the end of the list after this item")
    if text[place + 1 :].strip():
        raise ManifestError(f"{path}: more follows the end of its list; expected one list")


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of a text file, without blank lines.

    Raises:
        ManifestError: when it is not in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield line, text.strip()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8: {error}") from error
