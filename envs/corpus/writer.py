"""Write a corpus shard by shard: in parallel, to be gone on with after a kill, and always with the same bytes."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.clock import CHUNK_S, CHUNK_SAMPLES, SAMPLE_RATE
from envs.corpus.layout import (
    PICTURE,
    SPECIFICATION,
    SUMMARY,
    CorpusSpec,
    StreamLine,
    read_lines,
    read_spec,
    shard_name,
    shards_of,
)
from envs.corpus.summary import draw_summary, summarise
from envs.errors import ConfigError, ScenarioError
from envs.files import remove_leftovers, write_bytes, write_text
from envs.scenario import Scenario
from envs.stream_env import default_scenarios
from envs.workers import compose_all

Progress = Callable[[float], None]  # told how many more seconds of stream there are


def write_corpus(
    folder: Path,
    spec: CorpusSpec,
    scenarios: Callable[[int], Scenario] | None = None,
    workers: int = 1,
    progress: Progress = lambda seconds: None,
) -> bool:
    """Compose the streams of a specification that are not in `folder` yet, then its summary.

    Args:
        folder: Where the corpus lies, or is to lie.
        spec: What it is made of.
        scenarios: Makes the scenario of a seed; default: those of the ability, from built-in sounds.
        workers: How many processes compose; the bytes do not depend on it.
        progress: Called after every stream composed and every shard found.

    Returns:
        Whether there was anything to do.

    Raises:
        ConfigError: when the folder holds something else, a corpus of another specification, or is being written.
        ManifestError: when what it holds of this corpus is broken.
        ScenarioError: for an unknown ability or sub-task.
        OSError: naming the file that cannot be written.
    """
    make = default_scenarios(spec.ability, spec.sub_task) if scenarios is None else scenarios
    folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(folder):
        _claim(folder, spec)
        for pattern in (SPECIFICATION, SUMMARY, PICTURE, "shard-*"):
            remove_leftovers(folder, pattern)
        new = _write_shards(folder, spec, make, workers, progress)
        if new or not ((folder / SUMMARY).is_file() and (folder / PICTURE).is_file()):
            summary = summarise(folder)
            write_text(folder / SUMMARY, summary.to_text())
            write_bytes(folder / PICTURE, draw_summary(summary))
            return True
    return False


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder: two writers would take each other's files for leftovers. A kill lets go of it."""
    if sys.platform == "win32":  # where a folder cannot be locked
        yield
        return
    import fcntl  # noqa: PLC0415 - not on Windows

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ConfigError(f"{folder}: another process is composing this corpus; wait for it, or end it") from error
    except OSError as error:  # a file system without locks
        warnings.warn(f"{folder}: cannot be locked ({error.strerror}); let no other process compose it", stacklevel=3)
    try:
        yield
    finally:
        os.close(handle)


def _claim(folder: Path, spec: CorpusSpec) -> None:
    """Write the specification into an empty folder, or compare it with the one that is there.

    One for which no stream was ever composed gives way: a first try that failed must not bind the second.
    """
    if (folder / SPECIFICATION).exists():
        begun = any(folder.glob("shard-*"))
        if not begun:
            write_text(folder / SPECIFICATION, spec.to_json())
        elif difference := read_spec(folder).difference(spec):
            raise ConfigError(f"{folder}: holds another corpus: {difference}; ask for that, or name another folder")
        return
    if foreign := sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")):
        raise ConfigError(f"{folder}: holds {foreign[0]!r} and no {SPECIFICATION}; name an empty or a new folder")
    write_text(folder / SPECIFICATION, spec.to_json())


def _write_shards(
    folder: Path, spec: CorpusSpec, scenarios: Callable[[int], Scenario], workers: int, progress: Progress
) -> bool:
    """Write the shards that are missing, in order, until there are chunks enough; return whether there were any."""
    complete = {
        shard: sum(line.num_chunks for _, _, line in read_lines(folder, shard))
        for shard in shards_of(folder)
        if (folder / f"{shard_name(shard)}.flac").is_file()
    }
    missing = (seed for shard in count() if shard not in complete for seed in spec.seeds(shard))
    chunks, new = 0, False
    with closing(compose_all(scenarios, missing, workers)) as streams:
        for shard in count():
            if chunks >= spec.num_chunks:
                return new
            if shard in complete:
                progress(complete[shard] * CHUNK_S)
                chunks += complete[shard]
            else:
                chunks += _write_shard(folder, shard, spec, spec.num_chunks - chunks, streams, progress)
                new = True
    raise AssertionError("unreachable: there is always one more shard")


def _write_shard(
    folder: Path, shard: int, spec: CorpusSpec, wanted: int, streams: Iterator[Scenario], progress: Progress
) -> int:
    """Write one shard, of at most the streams that it takes to have `wanted` chunks; return how many it has."""
    import soundfile as sf  # noqa: PLC0415 - `import envs` stays light

    lines: list[StreamLine] = []
    chunks = 0
    encoded = BytesIO()  # a shard fits into memory, and libsndfile does not tell of a full disk
    with sf.SoundFile(encoded, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as file:
        for scenario in islice(streams, spec.streams_per_shard):
            file.write(_pcm16(scenario))
            lines.append(StreamLine.of(scenario, lines[-1].end_sample if lines else 0))
            chunks += scenario.num_chunks
            progress(scenario.duration_s)
            if chunks >= wanted:
                break
    name = shard_name(shard)
    write_bytes(folder / f"{name}.flac", encoded.getvalue())
    write_text(folder / f"{name}.jsonl", "".join(line.to_json() for line in lines))  # last: now it is complete
    return chunks


def _pcm16(scenario: Scenario) -> NDArray[np.int16]:
    """Return the samples of its chunks as the nearest 16-bit integers; 1.0 itself, which has none, becomes 32767."""
    audio = scenario.audio[: scenario.num_chunks * CHUNK_SAMPLES]
    if not np.abs(audio).max(initial=0.0) <= 1.0:  # not for NaN, either
        raise ScenarioError(
            f"scenario {scenario.seed} has samples outside of [-1, 1], expected audio as `Scenario` says"
        )
    return np.minimum(np.rint(audio * 32768.0), 32767.0).astype(np.int16)
