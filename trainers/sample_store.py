"""Samples of training in files: written as they are made, read when they are wanted.

The features of 100,000 streams are 30 GB. In files they take no memory but what the system lends to its page cache, and
a run that goes on after a kill, or another process of it, finds them there. A folder holds

- `features.f16`: the log-mels, float16, sample after sample,
- `tokens.i32`: the five columns of each sequence, then the indices of its decisions and contents, and what was heard,
- `samples.json`: how many of each a sample has, and the labels.

It is there whole or not at all.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, overload

import numpy as np
import torch

from envs.files import remove_leftovers
from policies.sequences import StreamSequence
from policies.token_layout import TokenColumns
from trainers.samples import StreamSample

_FEATURES, _TOKENS, _SAMPLES = "features.f16", "tokens.i32", "samples.json"
_COLUMNS = ("ids", "audio_index", "position", "chunk", "window_start")


class StoredSamples(Sequence[StreamSample]):
    """The samples of a folder that `SampleWriter` wrote; each is read anew.

    Attributes:
        lengths: Of the sequences, in tokens.
        labels: Of the samples that are single sounds.
        heard: Labels of the sounds at the decisions of streams.
    """

    def __init__(self, folder: Path) -> None:
        document = json.loads((folder / _SAMPLES).read_text(encoding="utf-8"))
        self.names: list[str] = document["names"]
        counts = np.array(document["counts"], np.int64).reshape(-1, 6)
        self.chunks, self.tokens, self.decisions, self.contents, self.marks, self.label = counts.T
        self.shape: tuple[int, int] = tuple(document["shape"])
        size = int(np.prod(self.shape))
        values = len(_COLUMNS) * self.tokens + self.decisions + self.contents + self.marks
        self._first_feature, self._first_value = _starts(self.chunks * size), _starts(values)
        self._features: Any = np.memmap(folder / _FEATURES, np.float16, "r")
        self._values: Any = np.memmap(folder / _TOKENS, np.int32, "r")
        self.lengths: list[int] = self.tokens.tolist()
        self.labels = [self.names[i] for i in sorted(set(self.label.tolist()))]
        self.heard: list[str] = document["heard"]

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> StreamSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[StreamSample]: ...
    def __getitem__(self, index: int | slice) -> StreamSample | list[StreamSample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        features = np.array(self._features[self._first_feature[index] : self._first_feature[index + 1]])
        values = self._values[self._first_value[index] : self._first_value[index + 1]]
        length = len(_COLUMNS) * self.tokens[index]
        columns = values[:length].reshape(len(_COLUMNS), -1).tolist()
        ends = length + np.cumsum((self.decisions[index], self.contents[index], self.marks[index]))
        decisions, contents, heard, _ = (part.tolist() for part in np.split(values[length:], ends - length))
        return StreamSample(
            torch.from_numpy(features).view(-1, *self.shape),
            StreamSequence(TokenColumns(*columns), decisions, contents),
            self.names[self.label[index]],
            tuple(self.names[i] for i in heard),
        )


class SampleWriter:
    """Writes samples into a folder that gets its name when the context ends, and is removed where it ends in an error.

    Attributes:
        written: Bytes so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.written = folder, 0
        self._aside = folder.with_name(f".{folder.name}.{os.getpid()}")
        self._counts: list[tuple[int, ...]] = []
        self._names: dict[str, int] = {"": 0}
        self._heard: set[str] = set()
        self._shape: tuple[int, ...] = (1, 1)
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "SampleWriter":
        remove_leftovers(self.folder.parent, self.folder.name)
        self._aside.mkdir(parents=True)
        self._files = {name: (self._aside / name).open("wb") for name in (_FEATURES, _TOKENS)}
        return self

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, sample: StreamSample) -> None:
        """Write a sample.

        Raises:
            OSError: naming the folder, when the disk is full, say.
        """
        sequence, columns = sample.sequence, sample.sequence.columns
        heard = [self._number(label) for label in sample.heard]
        values = [value for name in _COLUMNS for value in getattr(columns, name)]
        values += [*sequence.decisions, *sequence.contents, *heard]
        self._write(_FEATURES, sample.log_mel.half().contiguous().numpy().tobytes())
        self._write(_TOKENS, np.array(values, np.int32).tobytes())
        lengths = (len(sequence.decisions), len(sequence.contents), len(heard))
        self._counts.append((len(sample.log_mel), len(sequence), *lengths, self._number(sample.label)))
        self._heard.update(sample.heard)
        self._shape = tuple(sample.log_mel.shape[1:])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for file in self._files.values():
                file.close()
            if kind is None:
                document = {
                    "shape": self._shape,
                    "names": list(self._names),
                    "heard": sorted(self._heard),
                    "counts": self._counts,
                }
                (self._aside / _SAMPLES).write_text(json.dumps(document), encoding="utf-8")
                shutil.rmtree(self.folder, ignore_errors=True)
                self._aside.replace(self.folder)
        except OSError as problem:  # a full disk is reported without a name
            raise OSError(problem.errno, problem.strerror, str(self.folder)) from problem
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def _number(self, label: str) -> int:
        return self._names.setdefault(label, len(self._names))

    def _write(self, name: str, data: bytes) -> None:
        try:
            self._files[name].write(data)
        except OSError as problem:
            raise OSError(problem.errno, problem.strerror, str(self.folder)) from problem
        self.written += len(data)


def _starts(sizes: np.ndarray) -> np.ndarray:
    """Return where each of several pieces in a row begins, and where the last ends."""
    return np.concatenate(([0], np.cumsum(sizes)))
