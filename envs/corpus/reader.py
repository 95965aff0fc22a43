"""Read a corpus from disk: as the scenarios of environments, and as a Hugging Face dataset."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.corpus.layout import StreamLine, read_lines, read_spec, shard_file, shards_of
from envs.errors import AudioError, ManifestError
from envs.scenario import Audio, Scenario

if TYPE_CHECKING:
    from datasets import IterableDataset


class Corpus:
    """The streams of a corpus on disk: `corpus[i]`, or `corpus(seed)` as the scenarios of an environment.

    Opening it checks every line; it then holds where they are, and reads one stream at a time. One that is still being
    composed is read as far as it has come.

    Raises:
        ManifestError: when the folder holds no corpus, one of an unknown format, or a line that cannot be used.
        AudioError: when a FLAC file has not the length that its lines say.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = read_spec(folder)
        shards = shards_of(folder)
        if not shards:
            raise ManifestError(f"{folder}: the corpus has no complete shard; compose it into the same folder")
        places = [
            (shard, number, offset, length)
            for shard in range(shards[-1] + 1)
            for number, (offset, length) in enumerate(_checked(folder, shard), start=1)
        ]
        self._places = np.array(places, np.int64)  # [streams, 4]: shard, line number, offset, length

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Scenario:
        """Return stream `index`, its audio as it was composed but for 16-bit quantisation.

        Raises:
            IndexError: when there is no such stream.
            ManifestError: when its line is not what it was when the corpus was opened.
            AudioError: when its audio cannot be decoded.
        """
        shard, number, offset, length = self._places[index].tolist()
        path = shard_file(self.folder, shard, ".jsonl")
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read(length)
        try:
            line = StreamLine.from_json(text)
        except ManifestError as error:
            raise ManifestError(f"{path}:{number}: {error}") from error
        return line.scenario(_read_samples(shard_file(self.folder, shard, ".flac"), line))

    def __call__(self, seed: int) -> Scenario:
        """Return stream `seed` modulo their number: every seed has one, and neighbours differ."""
        return self[seed % len(self)]

    def __iter__(self) -> Iterator[Scenario]:
        return (self[index] for index in range(len(self)))


def as_dataset(folder: Path) -> "IterableDataset":
    """Return a corpus as a Hugging Face dataset that reads as it goes, shard by shard; nothing is copied.

    Columns: seed, ability, audio (float32 [num_chunks, 6400] in [-1, 1]), sampling_rate, cues, timeline, events,
    instruction, user_speech (pairs of seconds).

    Raises:
        ManifestError, AudioError: as `Corpus`.
    """
    from datasets import Array2D, Features, IterableDataset, List, Value  # noqa: PLC0415 - heavy

    Corpus(folder)
    seconds, text, integer = Value("float64"), Value("string"), Value("int64")
    cue = {
        "onset_s": seconds,
        "ready_s": seconds,
        "deadline_s": seconds,
        "label": text,
        "replies": List(text),
        "key_facts": List(text),
        "urgency": Value("float64"),
        "criterion": text,
        "sub_task": text,
    }
    event = dict.fromkeys(("label", "caption", "role", "decision"), text)
    event |= {"onset_s": seconds, "duration_s": seconds, "origin": text}
    features = Features(
        {
            "seed": integer,
            "ability": text,
            "audio": Array2D((None, CHUNK_SAMPLES), "float32"),  # as a list, a stream takes torch a second
            "sampling_rate": integer,
            "cues": List(cue),
            "timeline": List({"chunk": integer, "text": text}),
            "events": List(event),
            "instruction": text,
            "user_speech": List(List(seconds)),
        }
    )
    shards = {"folder": folder, "shards": shards_of(folder)}  # a list: that is what data loaders share out
    return IterableDataset.from_generator(_rows, features=features, gen_kwargs=shards)


def _rows(folder: Path, shards: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of some shards."""
    for shard in shards:
        path = shard_file(folder, shard, ".flac")
        for _, _, line in read_lines(folder, shard):
            row = asdict(line)
            del row["first_sample"], row["num_chunks"]
            chunks = _read_samples(path, line).reshape(-1, CHUNK_SAMPLES)
            yield {**row, "audio": chunks, "sampling_rate": SAMPLE_RATE}


def _checked(folder: Path, shard: int) -> list[tuple[int, int]]:
    """Return (offset, length in bytes) of a shard's lines, once its audio is as long as they say."""
    import soundfile as sf  # noqa: PLC0415 - `import envs` stays light

    lines = list(read_lines(folder, shard))
    path, end = shard_file(folder, shard, ".flac"), lines[-1][2].end_sample
    try:
        header = sf.info(path)
    except sf.LibsndfileError as error:
        raise AudioError(f"{path}: not audio that can be decoded: {error.error_string}") from error
    found = (header.samplerate, header.channels, header.frames)
    if found != (SAMPLE_RATE, 1, end):
        raise AudioError(
            f"{path}: holds {found[2]} samples of {found[1]} channels at {found[0]} Hz, and its lines say {end} of 1 at"
            f" {SAMPLE_RATE}; remove both files, and compose the corpus once more"
        )
    return [(offset, length) for offset, length, _ in lines]


def _read_samples(path: Path, line: StreamLine) -> Audio:
    """Decode the part of a shard that is a stream: float32 [num_chunks * 6400] in [-1, 1]."""
    import soundfile as sf  # noqa: PLC0415 - `import envs` stays light

    wanted = line.end_sample - line.first_sample
    try:
        with sf.SoundFile(path) as file:
            file.seek(line.first_sample)
            audio = file.read(wanted, dtype="float32")
    except sf.LibsndfileError as error:
        raise AudioError(f"{path}: cannot be decoded at sample {line.first_sample}: {error.error_string}") from error
    if audio.shape != (wanted,):
        raise AudioError(
            f"{path}: {len(audio)} of {wanted} samples can be decoded from sample {line.first_sample} on; remove the"
            " shard's two files, and compose the corpus once more"
        )
    return audio
