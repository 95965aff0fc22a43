"""What a corpus on disk looks like: its specification, its shards, and one line of JSON for each stream.

`corpus.json` is the specification, `shard-00000.flac` all streams of a shard one after another (16-bit PCM, 16 kHz,
mono), `shard-00000.jsonl` one line for each of them. A shard is complete when its `.jsonl` is there.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from envs.clock import CHUNK_SAMPLES, chunks_to_cover
from envs.errors import ConfigError, ManifestError, ScenarioError
from envs.scenario import Audio, Cue, Event, Scenario, TimelineEntry

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

FORMAT = 1
SPECIFICATION, SUMMARY, PICTURE = "corpus.json", "summary.json", "summary.png"
CORPUS_SEEDS, SEEDS_A_RUN = 40_000_000, 100_000_000  # never those of training or judging (`trainers.scenes`)
MOST_HOURS = 10_000.0  # the streams of which have a seed each, however short they are
_SHARD = re.compile(r"shard-(\d{5,})\.jsonl")


@dataclass(frozen=True)
class CorpusSpec:
    """What a corpus is made of; with the code, it decides every byte, but not for what a language model has planned.

    Stream i is the scenario of seed `40_000_000 + 100_000_000 * seed + i`; streams follow until they last `hours`.

    Attributes:
        ability: The ability of its streams.
        hours: How long they are together, at least.
        sub_task: Of the ability; None: all of them.
        seed: Which of many such corpora.
        sounds: Where sounds come from, in words that differ when the sounds do.
        speech: Where spoken words come from.
        planner: Who planned its scenes, where that was not left to chance.
        streams_per_shard: How many streams lie in one pair of files; the last pair may hold fewer.

    Raises:
        ConfigError: for hours, a seed or a shard that cannot be.
    """

    ability: str
    hours: float
    sub_task: str | None = None
    seed: int = 0
    sounds: str = "foley"
    speech: str = "espeak-ng"
    planner: str = ""
    streams_per_shard: int = 64

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - pydantic's name for how JSON is checked

    def __post_init__(self) -> None:
        if not 0 < self.hours <= MOST_HOURS:  # not for NaN, either
            raise ConfigError(f"hours is {self.hours}, expected more than 0 and at most {MOST_HOURS:.0f}")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected a whole number from 0 on")
        if self.streams_per_shard < 1:
            raise ConfigError(f"streams_per_shard is {self.streams_per_shard}, expected at least 1")

    @property
    def num_chunks(self) -> int:
        """How many chunks its streams have together, at least."""
        return chunks_to_cover(self.hours * 3600.0)

    def seeds(self, shard: int) -> range:
        """Return the scenario seeds of a shard that is not the last."""
        first = CORPUS_SEEDS + SEEDS_A_RUN * self.seed + shard * self.streams_per_shard
        return range(first, first + self.streams_per_shard)

    def to_json(self) -> str:
        """Return the text of its `corpus.json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    def difference(self, other: "CorpusSpec") -> str:
        """Say in which values another specification differs; blank where it does not."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return ", ".join(f"{name} is {mine!r} and not {theirs!r}" for name, mine, theirs in pairs if mine != theirs)


@dataclass(frozen=True)
class StreamLine:
    """One stream without its audio, and where in its shard that begins."""

    seed: int
    ability: str
    first_sample: int
    num_chunks: int
    events: tuple[Event, ...]
    cues: tuple[Cue, ...]
    timeline: tuple[TimelineEntry, ...]
    instruction: str
    user_speech: tuple[tuple[float, float], ...]

    # pydantic's name for how JSON is checked
    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # noqa: RUF012

    @classmethod
    def of(cls, scenario: Scenario, first_sample: int) -> "StreamLine":
        """Return the line of a scenario."""
        return cls(
            seed=scenario.seed,
            ability=scenario.ability,
            first_sample=first_sample,
            num_chunks=scenario.num_chunks,
            events=scenario.events,
            cues=scenario.cues,
            timeline=scenario.timeline,
            instruction=scenario.instruction,
            user_speech=scenario.user_speech,
        )

    @property
    def end_sample(self) -> int:
        """Where in its shard the next stream begins."""
        return self.first_sample + self.num_chunks * CHUNK_SAMPLES

    def scenario(self, audio: Audio) -> Scenario:
        """Return the scenario, with its audio: float32 [num_chunks * 6400]."""
        return Scenario(
            seed=self.seed,
            ability=self.ability,
            audio=audio,
            events=self.events,
            cues=self.cues,
            timeline=self.timeline,
            instruction=self.instruction,
            user_speech=self.user_speech,
        )

    def to_json(self) -> str:
        """Return one line of JSON; `from_json` is the inverse, floats included."""
        return json.dumps(asdict(self), allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "StreamLine":
        """Build a line from what `to_json` returned.

        Raises:
            ManifestError: naming the value that does not fit.
        """
        from pydantic import ValidationError  # noqa: PLC0415 - `import envs` stays light

        try:
            return _line_adapter().validate_json(text)
        except ValidationError as error:
            raise ManifestError(_in_words(error)) from error
        except ScenarioError as error:
            raise ManifestError(str(error)) from error


def shard_name(shard: int) -> str:
    """Return the name of a shard's files without their suffix."""
    return f"shard-{shard:05d}"


def read_spec(folder: Path) -> CorpusSpec:
    """Read the specification of a corpus.

    Raises:
        ManifestError: when there is none, it is broken, or of a format that this version does not know.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - `import envs` stays light

    path = folder / SPECIFICATION
    if not path.is_file():
        raise ManifestError(f"{path}: no such file, expected a corpus that `soundflow compose` wrote")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{path}: not JSON: {error}") from error
    found = data.pop("format", None) if isinstance(data, dict) else None
    if found != FORMAT:
        raise ManifestError(f"{path}: format is {found!r}, this version reads {FORMAT}; use the one that wrote it")
    try:
        return TypeAdapter(CorpusSpec).validate_json(json.dumps(data))
    except ValidationError as error:
        raise ManifestError(f"{path}: {_in_words(error)}") from error
    except ConfigError as error:
        raise ManifestError(f"{path}: {error}") from error


def shards_of(folder: Path) -> list[int]:
    """Return the numbers of a folder's complete shards, in order."""
    names = (_SHARD.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in names if match)


def shard_file(folder: Path, shard: int, suffix: str) -> Path:
    """Return one of a shard's two files.

    Raises:
        ManifestError: when it is missing, or a link that leads out of the folder.
    """
    path = folder / f"{shard_name(shard)}{suffix}"
    if not path.is_file():
        raise ManifestError(f"{path}: no such file; compose the corpus once more, into the same folder")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ManifestError(f"{path}: leads out of the folder; shards have to lie in it")
    return path


def read_lines(folder: Path, shard: int) -> Iterator[tuple[int, int, StreamLine]]:
    """Yield (offset, length in bytes, line) of every stream of a shard.

    Raises:
        ManifestError: naming file and line, when one cannot be used.
    """
    path = shard_file(folder, shard, ".jsonl")
    offset, samples = 0, 0
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            try:
                line = StreamLine.from_json(text)
            except ManifestError as error:
                raise ManifestError(f"{path}:{number}: {error}") from error
            if line.first_sample != samples or line.num_chunks < 1:
                found = f"first_sample is {line.first_sample} and num_chunks {line.num_chunks}"
                raise ManifestError(f"{path}:{number}: {found}, expected {samples} and at least 1")
            for entry in line.timeline:
                if not 0 <= entry.chunk < line.num_chunks:
                    found = f"a reply is due after chunk {entry.chunk}"
                    raise ManifestError(f"{path}:{number}: {found}, and the stream has {line.num_chunks}")
            yield offset, len(text), line
            offset += len(text)
            samples = line.end_sample
    if offset == 0:
        raise ManifestError(f"{path}: holds no streams; remove it, and compose the corpus once more")


@cache
def _line_adapter() -> "TypeAdapter[StreamLine]":
    from pydantic import TypeAdapter  # noqa: PLC0415 - `import envs` stays light

    return TypeAdapter(StreamLine)


def _in_words(error: "ValidationError") -> str:
    """Return the first complaint in one line: where, what was found, and what was expected."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:
        return str(first["msg"])
    value = repr(first["input"])
    found = value if len(value) <= 60 else f"{value[:57]}..."
    return f"{where} is {found}: {first['msg'][0].lower()}{first['msg'][1:]}"
