"""A Hugging Face dataset as rows of a manifest with their audio; decoded by libsndfile, whatever else is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.audio import decode_audio, read_audio, resample
from envs.errors import AudioError, ManifestError, did_you_mean
from envs.layouts import nearest_column, sound_row
from envs.manifest import COLUMNS, fault
from envs.records import BrokenRecord, Columns, Record, inside
from envs.scenario import Audio

if TYPE_CHECKING:
    from datasets import Dataset


class DatasetRows:
    """The rows of a dataset, by index.

    Args:
        dataset: A `datasets.Dataset`, or the folder that one was saved to.
        audio: Its column of audio.
        columns: Which of its columns is which of a manifest.

    Raises:
        ManifestError: when it is no dataset, is empty, or has no such column.
    """

    def __init__(self, dataset: "Dataset | Path", audio: str, columns: Mapping[str, str]) -> None:
        import datasets  # noqa: PLC0415 - `import envs` stays light

        self.folder = dataset.resolve() if isinstance(dataset, Path) else None
        self.place = dataset if isinstance(dataset, Path) else Path("dataset")
        rows = _load(dataset) if isinstance(dataset, Path) else dataset
        if not isinstance(rows, datasets.Dataset):
            splits = f"; it has the splits {', '.join(rows)}, choose one" if isinstance(rows, dict) else ""
            raise ManifestError(f"{self.place}: is a {type(rows).__name__}, expected a datasets.Dataset{splits}")
        for kind in columns:
            if kind not in COLUMNS:
                raise ManifestError(f"clips have no {kind!r}{did_you_mean(kind, COLUMNS)}")
        for name in (audio, *columns.values()):
            if name not in rows.column_names:
                raise ManifestError(f"{self.place}: no column {name!r}{nearest_column(name, rows.column_names)}")
        if len(rows) == 0:
            raise ManifestError(f"{self.place}: the dataset holds no clips")
        rows = rows.with_format(None).select_columns(list(dict.fromkeys((audio, *columns.values()))))
        if isinstance(rows.features[audio], datasets.Audio):
            rows = rows.cast_column(audio, datasets.Audio(decode=False))
        self.rows, self.audio, self.columns = rows, audio, dict(columns)
        self.names = {
            column: rows.features[column].names
            for column in self.columns.values()
            if isinstance(rows.features[column], datasets.ClassLabel)
        }

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> tuple[Record, Audio] | BrokenRecord:
        """Return a row with its audio, float32 [samples] at 16 kHz in [-1, 1]; or why it cannot be used.

        Raises:
            ManifestError: when its audio is a path that leads out of the folder of the dataset.
        """
        row, place = self.rows[index], f"row {index}"
        texts = {kind: self._text(name, row[name]) for kind, name in self.columns.items()}
        record = Record(self.place, 0, _row(place, texts))
        reason = fault(record.columns)
        if not reason:
            try:
                return record, self._decode(row[self.audio], place)
            except AudioError as error:
                return record.broken(str(error))
        return record.broken(f"{place}: {reason}")

    def _text(self, column: str, value: Any) -> str:
        """Return a value as text; blank where there is none, or a class that has no name."""
        if column in self.names and isinstance(value, int):
            return str(self.names[column][value]) if 0 <= value < len(self.names[column]) else ""
        return "" if value is None or isinstance(value, list | dict) else str(value)

    def _decode(self, value: Any, place: str) -> Audio:
        """Return the audio of a row, whichever way it is kept.

        Raises:
            AudioError: when it cannot be used.
        """
        kept = {"path": value} if isinstance(value, str) else value
        if not isinstance(kept, dict):
            raise AudioError(f"{place}: its audio is {type(kept).__name__}, expected bytes, a path or samples")
        if kept.get("array") is not None and kept.get("sampling_rate") is not None:
            return resample(*_samples(kept, place), place)
        content, path = kept.get("bytes"), kept.get("path")
        if isinstance(content, bytes):
            return decode_audio(content, place)
        if content is not None or not isinstance(path, str):
            raise AudioError(f"{place}: has no audio: neither bytes, nor a path, nor an array with its sampling_rate")
        try:
            return read_audio(
                Path(path) if self.folder is None else inside(self.folder, path, f"{self.place}: {place}")
            )
        except ValueError as error:  # a NUL byte, half a character
            raise AudioError(f"{place}: path {path!r} is no name of a file: {error}") from error


def _load(folder: Path) -> Any:
    """Return what was saved to a folder.

    Raises:
        ManifestError: when it cannot be loaded.
    """
    import datasets  # noqa: PLC0415

    try:
        return datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:  # as missing, forged or cut files come out
        raise ManifestError(f"{folder}: no dataset that save_to_disk wrote: {error}") from error


def _row(place: str, texts: Columns) -> Columns:
    """Return the row of a manifest; what is not known of it is made from its label."""
    known = {kind: text for kind, text in texts.items() if text and kind != "label"}
    return {**sound_row(place, texts["label"], ""), **known}


def _samples(kept: Mapping[str, Any], place: str) -> tuple[Audio, int]:
    """Return the samples of a row and their rate.

    Raises:
        AudioError: when they are ragged, or no numbers.
    """
    try:
        return np.asarray(kept["array"], np.float32), int(kept["sampling_rate"])
    except (ValueError, TypeError, OverflowError) as error:
        raise AudioError(f"{place}: its array and sampling_rate are no samples: {error}") from error
