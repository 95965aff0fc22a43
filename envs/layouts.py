"""Published corpora of sounds as folders of recordings: each read in exactly the layout that it is published in.

A layout turns a folder into rows of a manifest, without opening a single clip; `ClipLibrary` reads the clips.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from envs.errors import ManifestError, did_you_mean
from envs.records import BrokenRecord, Columns, Entry, Record, missing, read_json_lines, read_table


def read_layout(folder: Path, layout: str) -> list[Entry]:
    """Return the rows of a corpus, with the columns of `envs.manifest.COLUMNS`; broken ones as such.

    Raises:
        ManifestError: when the layout is unknown, or a file of it is missing, no table, or lacks a column.
    """
    if layout not in LAYOUTS:
        raise ManifestError(f"no layout is called {layout!r}{did_you_mean(layout, LAYOUTS)}")
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder of clips")
    rows = list(LAYOUTS[layout](folder))
    if not rows:
        raise ManifestError(f"{folder}: holds no clips in the layout of {layout}")
    return rows


def sound_row(path: str, label: str, source: str, **more: str) -> Columns:
    """Return a row of a manifest for a sound of which only the name is known, and `more`."""
    name = label.replace("_", " ").lower()
    row = {
        "path": path, "label": label.lower().replace(" ", "_"), "caption": f"the sound of {name}", "domain": "Sounds",
        "decision": "", "recording": "", "speaker": "", "seconds": "", "source": source, "licence": "",
    }  # fmt: skip
    return {**row, **more}


def published(path: Path) -> Path:
    """Return a file of a corpus.

    Raises:
        ManifestError: when it is missing.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: no such file, which the corpus is published with")
    return path


def nearest_column(column: str, header: Sequence[str]) -> str:
    """Say which column of a table may be the missing one."""
    return did_you_mean(column, header or ["none"])


def _table(path: Path, columns: tuple[str, ...], make: Callable[[Columns], Columns]) -> Iterator[Entry]:
    """Yield the rows of a table with a header, made into those of a manifest."""
    for row in read_table(published(path), columns, nearest_column):
        yield row if isinstance(row, BrokenRecord) else Record(row.file, row.line, make(row.columns))


def _esc50(folder: Path) -> Iterator[Entry]:
    """ESC-50: `meta/esc50.csv`, `audio/*.wav`; clips of one `src_file` are of one recording."""
    return _table(
        folder / "meta" / "esc50.csv",
        ("filename", "category", "src_file"),
        lambda row: sound_row(f"audio/{row['filename']}", row["category"], "ESC-50", recording=row["src_file"]),
    )


def _fsd50k(folder: Path) -> Iterator[Entry]:
    """FSD50K: `FSD50K.ground_truth/{dev,eval}.csv`, `FSD50K.{dev,eval}_audio/*.wav`; the first label is the finest."""
    for part in ("dev", "eval"):
        table = folder / "FSD50K.ground_truth" / f"{part}.csv"
        if part == "eval" and not table.is_file():
            return

        def make(row: Columns, part: str = part) -> Columns:
            label = row["labels"].split(",")[0]
            return sound_row(f"FSD50K.{part}_audio/{row['fname']}.wav", label, "FSD50K", recording=row["fname"])

        yield from _table(table, ("fname", "labels"), make)


def _audioset(folder: Path) -> Iterator[Entry]:
    """AudioSet: `*segments.csv`, `class_labels_indices.csv`, `clips/YTID_START.wav`; clips not there are left out.

    Videos vanish, so nobody has all of them; the list is of what there was.
    """
    names = {}
    for row in read_table(published(folder / "class_labels_indices.csv"), ("mid", "display_name"), nearest_column):
        if isinstance(row, BrokenRecord):
            raise ManifestError(str(row))  # without its labels no segment has a name
        names[row.columns["mid"]] = row.columns["display_name"]
    tables = sorted(folder.glob("*segments.csv"))
    if not tables:
        raise ManifestError(f"{folder}: no *segments.csv, which the corpus is published with")
    for table in tables:
        try:
            with table.open(newline="", encoding="utf-8") as file:
                for line, fields in enumerate(csv.reader(file, skipinitialspace=True), start=1):
                    if fields and not fields[0].startswith("#"):
                        yield from _segment(folder, table, line, fields, names)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ManifestError(f"{table}: not a UTF-8 CSV file: {error}") from error


def _segment(folder: Path, table: Path, line: int, fields: list[str], names: Columns) -> Iterator[Entry]:
    """Yield one segment of AudioSet, where its clip is there."""
    mid = fields[3].split(",")[0] if len(fields) == 4 else ""
    if mid not in names or not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", fields[1]):
        yield BrokenRecord(table, line, f"expected YTID, start, end and known labels, got {fields}")
        return
    path = f"clips/{fields[0]}_{round(float(fields[1]))}.wav"
    record = Record(table, line, sound_row(path, names[mid], "AudioSet", recording=fields[0]))
    if not missing(folder, path, record.place):
        yield record


def _musan(folder: Path) -> Iterator[Entry]:
    """MUSAN: `{music,noise,speech}/SOURCE/*.wav`."""
    for path in sorted(folder.glob("*/*/*.wav")):
        kind = path.parent.parent.name
        domain = "Speech" if kind == "speech" else "Music" if kind == "music" else "Sounds"
        name = str(path.relative_to(folder))
        yield Record(path, 0, sound_row(name, kind, "MUSAN", recording=path.stem, domain=domain))


def _wham(folder: Path) -> Iterator[Entry]:
    """WHAM!: `{tr,cv,tt}/*.wav`; what stands before the first underscore names the recording."""
    for part in ("tr", "cv", "tt"):
        for path in sorted((folder / part).glob("*.wav")):
            recording = path.stem.split("_")[0]
            yield Record(path, 0, sound_row(f"{part}/{path.name}", "ambient_noise", "WHAM!", recording=recording))


def _dns_noise(folder: Path) -> Iterator[Entry]:
    """DNS-Challenge noise: one flat folder of `*.wav`."""
    for path in sorted(folder.glob("*.wav")):
        yield Record(path, 0, sound_row(path.name, "noise", "DNS-Challenge", recording=path.stem))


def _free_spoken_digits(folder: Path) -> Iterator[Entry]:
    """Free Spoken Digits: `recordings/DIGIT_SPEAKER_INDEX.wav`."""
    for path in sorted((folder / "recordings").glob("*.wav")):
        digit, _, rest = path.stem.partition("_")
        speaker = rest.rpartition("_")[0]
        if not digit.isdecimal() or not speaker:
            yield BrokenRecord(path, 0, "expected a name like 7_jackson_32.wav")
            continue
        row = sound_row(
            f"recordings/{path.name}", f"digit_{digit}", "Free Spoken Digits", speaker=speaker, domain="Speech"
        )
        yield Record(path, 0, row)


def _proactive_sound_bench(folder: Path) -> Iterator[Entry]:
    """Proactive-Sound-Bench: `proactive_reply_benchmark.jsonl`, clips where its paths say."""
    table = published(folder / "proactive_reply_benchmark.jsonl")
    for found in read_json_lines(table):
        if isinstance(found, BrokenRecord):
            yield found
            continue
        line, item = found
        try:
            path, name, decision = Path(item["path"]), str(item["description"]), str(item["decision"])
            row = sound_row(str(path), name, "Proactive-Sound-Bench", recording=str(item["id"]), decision=decision)
        except (KeyError, TypeError) as error:
            yield BrokenRecord(table, line, f"not an item of the benchmark: {error!r}")
            continue
        domain = path.parts[1] if len(path.parts) > 3 else "Sounds"
        yield Record(table, line, {**row, "caption": name, "domain": domain})


LAYOUTS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    "esc50": _esc50,
    "fsd50k": _fsd50k,
    "audioset": _audioset,
    "musan": _musan,
    "wham": _wham,
    "dns_noise": _dns_noise,
    "free_spoken_digits": _free_spoken_digits,
    "proactive_sound_bench": _proactive_sound_bench,
}
