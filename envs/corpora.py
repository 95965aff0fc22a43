"""Published corpora of sounds as folders of recordings: each read in exactly the layout that it is published in.

A layout turns a folder into rows of a manifest, without opening a single clip; `ClipLibrary` reads the clips.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from envs.errors import ManifestError, did_you_mean

Row = dict[str, str]  # the columns of `envs.clip_library.COLUMNS`


def read_layout(folder: Path, layout: str) -> list[tuple[int, Row]]:
    """Return the rows of a corpus, each with the line of the file that names it (0 where its name alone does).

    Raises:
        ManifestError: when the layout is unknown, a file of it is missing, or a row cannot be used.
    """
    if layout not in LAYOUTS:
        raise ManifestError(f"no layout is called {layout!r}{did_you_mean(layout, LAYOUTS)}")
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder of clips")
    rows = list(LAYOUTS[layout](folder))
    if not rows:
        raise ManifestError(f"{folder}: holds no clips in the layout of {layout}")
    return rows


def _row(path: str, label: str, source: str, **more: str) -> Row:
    name = label.replace("_", " ").lower()
    row = {
        "path": path, "label": label.lower().replace(" ", "_"), "caption": f"the sound of {name}", "domain": "Sounds",
        "decision": "", "recording": "", "speaker": "", "seconds": "", "source": source, "licence": "",
    }  # fmt: skip
    return {**row, **more}


def _table(path: Path, columns: tuple[str, ...], delimiter: str = ",") -> Iterator[tuple[int, Row]]:
    """Yield (line, row) of a table with a header that has at least these columns."""
    if not path.is_file():
        raise ManifestError(f"{path}: no such file, which the corpus is published with")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        for column in columns:
            if column not in (reader.fieldnames or []):
                raise ManifestError(
                    f"{path}: no column {column!r}{did_you_mean(column, reader.fieldnames or ['none'])}"
                )
        for row in reader:
            if None in row or None in row.values():
                raise ManifestError(f"{path}, line {reader.line_num}: has more or fewer fields than the header")
            yield reader.line_num, row


def _esc50(folder: Path) -> Iterator[tuple[int, Row]]:
    """ESC-50: `meta/esc50.csv`, `audio/*.wav`; clips of one `src_file` are of one recording."""
    for line, row in _table(folder / "meta" / "esc50.csv", ("filename", "category", "src_file")):
        yield line, _row(f"audio/{row['filename']}", row["category"], "ESC-50", recording=row["src_file"])


def _fsd50k(folder: Path) -> Iterator[tuple[int, Row]]:
    """FSD50K: `FSD50K.ground_truth/{dev,eval}.csv`, `FSD50K.{dev,eval}_audio/*.wav`; the first label is the finest."""
    for part in ("dev", "eval"):
        table = folder / "FSD50K.ground_truth" / f"{part}.csv"
        if part == "eval" and not table.is_file():
            return
        for line, row in _table(table, ("fname", "labels")):
            label = row["labels"].split(",")[0]
            yield line, _row(f"FSD50K.{part}_audio/{row['fname']}.wav", label, "FSD50K", recording=row["fname"])


def _audioset(folder: Path) -> Iterator[tuple[int, Row]]:
    """AudioSet: `*segments.csv`, `class_labels_indices.csv`, `clips/YTID_START.wav`; clips not there are left out.

    Videos vanish, so nobody has all of them; the list is of what there was.
    """
    names = {
        row["mid"]: row["display_name"]
        for _, row in _table(folder / "class_labels_indices.csv", ("mid", "display_name"))
    }
    tables = sorted(folder.glob("*segments.csv"))
    if not tables:
        raise ManifestError(f"{folder}: no *segments.csv, which the corpus is published with")
    for table in tables:
        with table.open(newline="", encoding="utf-8") as file:
            for line, fields in enumerate(csv.reader(file, skipinitialspace=True), start=1):
                if not fields or fields[0].startswith("#"):
                    continue
                if len(fields) != 4 or fields[3].split(",")[0] not in names:
                    raise ManifestError(
                        f"{table}, line {line}: expected YTID, start, end and known labels, got {fields}"
                    )
                video, start, _, mids = fields
                path = f"clips/{video}_{round(float(start))}.wav"
                if (folder / path).is_file():
                    yield line, _row(path, names[mids.split(",")[0]], "AudioSet", recording=video)


def _musan(folder: Path) -> Iterator[tuple[int, Row]]:
    """MUSAN: `{music,noise,speech}/SOURCE/*.wav`."""
    for path in sorted(folder.glob("*/*/*.wav")):
        kind = path.parent.parent.name
        domain = "Speech" if kind == "speech" else "Music" if kind == "music" else "Sounds"
        yield 0, _row(str(path.relative_to(folder)), kind, "MUSAN", recording=path.stem, domain=domain)


def _wham(folder: Path) -> Iterator[tuple[int, Row]]:
    """WHAM!: `{tr,cv,tt}/*.wav`; what stands before the first underscore names the recording."""
    for part in ("tr", "cv", "tt"):
        for path in sorted((folder / part).glob("*.wav")):
            yield 0, _row(f"{part}/{path.name}", "ambient_noise", "WHAM!", recording=path.stem.split("_")[0])


def _dns_noise(folder: Path) -> Iterator[tuple[int, Row]]:
    """DNS-Challenge noise: one flat folder of `*.wav`."""
    for path in sorted(folder.glob("*.wav")):
        yield 0, _row(path.name, "noise", "DNS-Challenge", recording=path.stem)


def _free_spoken_digits(folder: Path) -> Iterator[tuple[int, Row]]:
    """Free Spoken Digits: `recordings/DIGIT_SPEAKER_INDEX.wav`."""
    for path in sorted((folder / "recordings").glob("*.wav")):
        digit, _, rest = path.stem.partition("_")
        speaker = rest.rpartition("_")[0]
        if not digit.isdecimal() or not speaker:
            raise ManifestError(f"{path}: expected a name like 7_jackson_32.wav")
        row = _row(f"recordings/{path.name}", f"digit_{digit}", "Free Spoken Digits", speaker=speaker, domain="Speech")
        yield 0, row


def _proactive_sound_bench(folder: Path) -> Iterator[tuple[int, Row]]:
    """Proactive-Sound-Bench: `proactive_reply_benchmark.jsonl`, clips where its paths say."""
    table = folder / "proactive_reply_benchmark.jsonl"
    if not table.is_file():
        raise ManifestError(f"{table}: no such file, which the corpus is published with")
    for line, text in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            item = json.loads(text)
            path, name, decision = Path(item["path"]), str(item["description"]), str(item["decision"])
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(f"{table}, line {line}: not an item of the benchmark: {error!r}") from error
        row = _row(str(path), name, "Proactive-Sound-Bench", recording=str(item["id"]), decision=decision)
        yield line, {**row, "caption": name, "domain": path.parts[1] if len(path.parts) > 3 else "Sounds"}


LAYOUTS: dict[str, Callable[[Path], Iterator[tuple[int, Row]]]] = {
    "esc50": _esc50,
    "fsd50k": _fsd50k,
    "audioset": _audioset,
    "musan": _musan,
    "wham": _wham,
    "dns_noise": _dns_noise,
    "free_spoken_digits": _free_spoken_digits,
    "proactive_sound_bench": _proactive_sound_bench,
}
