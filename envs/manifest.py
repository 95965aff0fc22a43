"""The manifest of a folder of recordings: which columns it has, and which of its rows can be used.

Columns: path, label, caption, domain, decision (RESPOND, IGNORE or blank), recording, speaker, seconds,
source, licence. A blank decision means that nobody asked for a reply to the sound: it serves as a distractor
and deserves silence.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from envs.errors import ManifestError
from envs.layouts import read_layout
from envs.records import BrokenRecord, Columns, Entry, Record, missing, read_table

COLUMNS = (
    "path",
    "label",
    "caption",
    "domain",
    "decision",
    "recording",
    "speaker",
    "seconds",
    "source",
    "licence",
)


def read_rows(folder: Path, layout: str = "manifest") -> list[Entry]:
    """Return the rows of `folder/manifest.csv`, or of a published corpus, checked as far as text goes.

    Args:
        folder: Where the manifest, or the corpus, lies.
        layout: "manifest", or one of `envs.layouts.LAYOUTS`.

    Raises:
        ManifestError: when the folder or manifest is missing, is no CSV, lacks a column or has no rows, or when a path
            leads out of the folder.
    """
    return list(_checked(folder, _read_manifest(folder) if layout == "manifest" else read_layout(folder, layout)))


def _read_manifest(folder: Path) -> list[Entry]:
    path = folder / "manifest.csv"
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder of clips")
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; it needs the columns {', '.join(COLUMNS)}")
    rows = list(read_table(path, COLUMNS, _instead))
    if not rows:
        raise ManifestError(f"{path}: the manifest names no clips")
    return rows


def _instead(column: str, header: Sequence[str]) -> str:
    """Say which column of the file may be the missing one under another name."""
    close = get_close_matches(column, [name for name in header if name not in COLUMNS], n=1)
    return f"; rename {close[0]!r} to {column!r}" if close else f"; it has {', '.join(header) or 'none'}"


def _checked(folder: Path, rows: Iterable[Entry]) -> Iterable[Entry]:
    """Yield the rows, those that cannot be used as broken records."""
    seen: dict[Path, Record] = {}
    for row in rows:
        if isinstance(row, BrokenRecord):
            yield row
            continue
        columns = row.columns
        gone = missing(folder, columns["path"], row.place)  # first: a path that leads out is refused in any row
        clip = folder / columns["path"]
        if reason := fault(columns) or gone:
            yield row.broken(reason)
        elif (known := clip.resolve()) in seen:
            first = f"on line {seen[known].line}" if seen[known].line else f"as {seen[known].file}"
            yield row.broken(f"path {columns['path']!r} is listed before, {first}; name it once")
        else:
            seen[known] = row
            yield row


def fault(columns: Columns) -> str:
    """Return why the decision or the label of a row cannot be used; blank where they can."""
    if columns["decision"] not in ("RESPOND", "IGNORE", ""):
        return f"decision is {columns['decision']!r}, expected RESPOND, IGNORE or blank"
    return "" if columns["label"] else "label is blank, expected the name of the sound"
