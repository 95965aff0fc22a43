"""Corpora on disk: the same bytes whoever composes them and whenever they are killed, and all of it read back."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import soundfile as sf
from beeps import beeps
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from envs.clock import CHUNK_SAMPLES, SAMPLE_RATE
from envs.corpus import Corpus, CorpusSpec, as_dataset, write_corpus
from envs.corpus.layout import StreamLine, read_spec
from envs.errors import AudioError, ConfigError, ManifestError, ScenarioError, SoundFlowError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.scenario import Cue, Event, Scenario, TimelineEntry
from envs.stream_env import StreamingAudioEnv

SPEC = CorpusSpec("Proactive", hours=0.02, streams_per_shard=4)  # 72 s: 18 streams or so of 8 to 12 chunks
SCRIPT = """
import os, resource, signal, sys
from itertools import count
from pathlib import Path
from beeps import beeps
from envs.corpus import CorpusSpec, write_corpus

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

rename, renames, streams = Path.replace, count(1), count(1)

def replace(self, target):  # a kill that comes when a file is written and has no name yet
    if next(renames) == int(os.environ["KILL_AT_RENAME"]):
        kill()
    return rename(self, target)

def progress(_):
    if next(streams) == int(os.environ.get("KILL_AT_STREAM", 0)):
        kill()

if __name__ == "__main__":
    if "KILL_AT_RENAME" in os.environ:
        Path.replace = replace
    if "LARGEST_FILE" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]),) * 2)
    spec = CorpusSpec("Proactive", hours=0.02, streams_per_shard=4)
    write_corpus(Path(sys.argv[1]), spec, beeps, int(sys.argv[2]), progress)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def compose(folder: Path, workers: int, **environment: int) -> subprocess.CompletedProcess[str]:
    """Compose in a process of its own, which may be killed."""
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    return subprocess.run(
        [sys.executable, str(script), str(folder), str(workers)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(here), str(here.parents[1]))),
            **{name: str(value) for name, value in environment.items()},
        },
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that nobody interrupted; for reading."""
    folder = tmp_path_factory.mktemp("corpus") / "beeps"
    assert write_corpus(folder, SPEC, beeps)
    return folder


@pytest.fixture
def corpus(written: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, data in files(written).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_corpus_lasts_the_hours_asked_for_and_no_stream_more(written: Path) -> None:
    streams = list(Corpus(written))
    assert sum(s.num_chunks for s in streams) >= SPEC.num_chunks > sum(s.num_chunks for s in streams[:-1])
    assert [s.seed for s in streams] == list(range(40_000_000, 40_000_000 + len(streams)))
    assert len(list(written.glob("*.flac"))) == len(list(written.glob("*.jsonl"))) == -(-len(streams) // 4)
    info = sf.info(written / "shard-00000.flac")
    assert (info.samplerate, info.channels, info.format, info.subtype) == (SAMPLE_RATE, 1, "FLAC", "PCM_16")


def test_any_number_of_workers_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    seconds: list[float] = []
    assert write_corpus(tmp_path / "two", SPEC, beeps, 2, seconds.append)
    assert files(tmp_path / "two") == files(written)
    assert sum(seconds) == pytest.approx(sum(s.duration_s for s in Corpus(written)))


def test_killed_in_the_middle_of_a_shard_and_gone_on_with(written: Path, tmp_path: Path) -> None:
    """By SIGKILL, workers and all; the shards that were complete stay as they are."""
    folder = tmp_path / "killed"
    assert compose(folder, 2, KILL_AT_STREAM=11).returncode == -signal.SIGKILL
    whole, found = files(written), files(folder)
    assert len(list(folder.glob("*.jsonl"))) == 2
    assert found.items() < whole.items()
    times = {name: (folder / name).stat().st_mtime_ns for name in found}
    assert len(Corpus(folder)) == 8  # what there is can be read already
    assert write_corpus(folder, SPEC, beeps)
    assert files(folder) == whole
    assert times == {name: (folder / name).stat().st_mtime_ns for name in times}


@pytest.mark.parametrize("at", [1, 2, 3, 5, 12])  # specification, FLAC and lines of shard 0, lines of shard 1, summary
def test_killed_before_a_file_has_its_name(at: int, written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    assert compose(folder, 1, KILL_AT_RENAME=at).returncode == -signal.SIGKILL
    whole, found = files(written), files(folder)
    aside = [name for name in found if name.startswith(".")]
    assert len(aside) == 1
    del found[aside[0]]
    assert len(found) == at - 1
    assert found.items() < whole.items()
    assert write_corpus(folder, SPEC, beeps)
    assert files(folder) == whole


def test_a_full_disk_names_the_file_and_leaves_nothing_half_written(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    done = compose(folder, 1, LARGEST_FILE=50_000)
    assert done.returncode == 1
    assert str(folder / "shard-00000.flac") in done.stderr.splitlines()[-1]
    assert list(files(folder)) == ["corpus.json"]
    assert write_corpus(folder, SPEC, beeps)
    assert files(folder) == files(written)


def test_what_is_complete_is_left_alone_and_what_is_missing_is_composed_again(corpus: Path) -> None:
    whole = files(corpus)
    times = {path: path.stat().st_mtime_ns for path in corpus.iterdir()}
    assert not write_corpus(corpus, SPEC, beeps)
    assert times == {path: path.stat().st_mtime_ns for path in corpus.iterdir()}
    for lost in ("shard-00001.flac", "shard-00002.jsonl", "summary.png"):
        (corpus / lost).unlink()
    assert write_corpus(corpus, SPEC, beeps)
    assert files(corpus) == whole


@pytest.mark.parametrize("scenarios", [beeps, ProactiveScenarios(Foley(), 0.8, (20, 24))])
def test_everything_is_read_back(scenarios: Callable[[int], Scenario], tmp_path: Path) -> None:
    """Exactly but for the audio, which is quantised to 16 bits."""
    write_corpus(tmp_path, CorpusSpec("Proactive", hours=0.01, seed=5, streams_per_shard=3), scenarios)
    corpus = Corpus(tmp_path)
    for i in (*range(len(corpus)), -1):
        read, made = corpus[i], scenarios(corpus[i].seed)
        assert read.audio.dtype == np.float32
        assert np.abs(read.audio - made.audio).max() <= 1 / 32768 + 1e-7
        assert {**vars(read), "audio": 0} == {**vars(made), "audio": 0} | {"audio": 0}
    assert corpus[0].seed == 540_000_000
    with pytest.raises(IndexError):
        corpus[len(corpus)]


def test_full_scale_is_within_one_step(tmp_path: Path) -> None:
    loud = Scenario(0, "Proactive", np.tile(np.float32([1.0, -1.0]), CHUNK_SAMPLES // 2), (), (), ())
    write_corpus(tmp_path, CorpusSpec("Proactive", hours=0.0001), lambda _: loud)
    assert np.abs(Corpus(tmp_path)[0].audio - loud.audio).max() <= 1 / 32768


@pytest.mark.parametrize("sample", [np.nan, 1.5])
def test_samples_that_are_no_audio_are_refused(sample: float, tmp_path: Path) -> None:
    bad = Scenario(7, "Proactive", np.full(CHUNK_SAMPLES, sample, np.float32), (), (), ())
    with pytest.raises(ScenarioError, match=r"scenario 7 has samples outside of \[-1, 1\]"):
        write_corpus(tmp_path, CorpusSpec("Proactive", hours=0.0001), lambda _: bad)


def test_an_environment_plays_a_corpus(written: Path) -> None:
    """By any seed, one stream or many at once, in this process or, pickled, in another."""
    corpus = pickle.loads(pickle.dumps(Corpus(written)))
    env = StreamingAudioEnv(scenarios=corpus)
    check_env(env, skip_render_check=True)
    observation, info = env.reset(options={"scenario_seed": len(corpus) + 2})
    assert info["scenario_seed"] == corpus[2].seed
    np.testing.assert_array_equal(observation["audio"], corpus[2].chunk(0))
    terminated, steps = False, 0
    while not terminated:
        _, _, terminated, _, _ = env.step({"kind": 0, "tokens": [257] * 16})
        steps += 1
    assert steps == corpus[2].num_chunks
    batch = gym.make_vec(
        "envs:SoundFlow/Proactive-v0", num_envs=2, vectorization_mode="vector_entry_point", scenarios=corpus
    )
    observations, _ = batch.reset(seed=3)
    assert observations["audio"].shape == (2, CHUNK_SAMPLES)


def test_a_hugging_face_dataset_reads_back(written: Path) -> None:
    corpus, dataset = Corpus(written), as_dataset(written)
    assert set(dataset.features) == set(
        "seed ability audio sampling_rate cues timeline events instruction user_speech".split()
    )
    assert dataset.num_shards == len(list(written.glob("*.flac")))  # so that data loaders may share it out
    rows = list(dataset.with_format("numpy"))
    assert len(rows) == len(corpus)
    for row, scenario in zip(rows, corpus, strict=True):
        assert (row["audio"].dtype, row["audio"].shape) == (np.float32, (scenario.num_chunks, CHUNK_SAMPLES))
        np.testing.assert_array_equal(row["audio"].ravel(), scenario.audio)
    for row, scenario in zip(dataset, corpus, strict=True):
        assert (row["seed"], row["sampling_rate"], row["ability"]) == (scenario.seed, SAMPLE_RATE, "Proactive")
        assert tuple(Event(**e) for e in row["events"]) == scenario.events
        assert tuple(TimelineEntry(**e) for e in row["timeline"]) == scenario.timeline
        assert [c["ready_s"] for c in row["cues"]] == [c.ready_s for c in scenario.cues]
        assert [tuple(c["replies"]) for c in row["cues"]] == [c.replies for c in scenario.cues]
        assert tuple(tuple(span) for span in row["user_speech"]) == scenario.user_speech


SECONDS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.lists(st.text(), max_size=2).map(tuple)
EVENTS = st.builds(Event, onset_s=SECONDS, duration_s=SECONDS)
MOMENTS = st.lists(SECONDS, min_size=3, max_size=3, unique=True).map(sorted)
URGENCIES = st.floats(0, 1, exclude_min=True)
CUES = st.builds(
    lambda moments, urgency, replies, facts: Cue(*moments, "a label", replies, facts, urgency, "i", "distress"),
    MOMENTS,
    URGENCIES,
    TEXTS,
    TEXTS,
)


@given(
    st.builds(
        Scenario,
        seed=st.integers(0, 10**15),
        audio=st.integers(1, 3).map(lambda n: np.zeros(n * CHUNK_SAMPLES, np.float32)),
        events=st.lists(EVENTS, max_size=2).map(tuple),
        cues=st.lists(CUES, max_size=2).map(tuple),
        timeline=st.lists(st.builds(TimelineEntry), max_size=2).map(tuple),
        user_speech=st.lists(st.tuples(SECONDS, SECONDS), max_size=2).map(tuple),
    )
)
def test_a_line_of_json_holds_all_of_a_scenario_but_its_audio(scenario: Scenario) -> None:
    """Every float to the last bit, every text in one line."""
    text = StreamLine.of(scenario, 0).to_json()
    assert text.count("\n") == len(text.splitlines()) == 1
    assert vars(StreamLine.from_json(text).scenario(scenario.audio)) == vars(scenario)


CUE = {
    "onset_s": 1.0, "ready_s": 2.0, "deadline_s": 3.0, "label": "x", "replies": ["y"], "key_facts": [], "urgency": 1.0,
    "criterion": "i", "sub_task": "distress",
}  # fmt: skip


def edit(**values: object) -> Callable[[Path], None]:
    """Change values of the second line of the second shard."""

    def change(folder: Path) -> None:
        path = folder / "shard-00001.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        lines[1] = json.dumps({**json.loads(lines[1]), **values}) + "\n"
        path.write_text("".join(lines))

    return change


def specify(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "corpus.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def cut(name: str, length: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:length])


def shorten(folder: Path) -> None:
    path = folder / "shard-00001.flac"
    audio, rate = sf.read(path, dtype="int16")
    sf.write(path, audio[:-100], rate, "PCM_16")


def lead_out(folder: Path) -> None:
    path = folder / "shard-00001.flac"
    path.symlink_to(path.rename(folder.parent / "elsewhere.flac"))


def remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (edit(seed="one"), ManifestError, r"shard-00001.jsonl:2: seed is 'one': input should be a valid integer"),
        (edit(cues=[{"onset_s": 1}]), ManifestError, r"shard-00001.jsonl:2: cues.0.ready_s"),
        (edit(user_speech=[[0, float("nan")]]), ManifestError, r"jsonl:2: user_speech.0.1 is nan: .* finite"),
        (edit(sed=1), ManifestError, r"jsonl:2: sed is 1: unexpected keyword"),
        (edit(first_sample=5), ManifestError, r"jsonl:2: first_sample is 5 and .*, expected \d+ and at least 1"),
        (edit(timeline=[{"chunk": 10**6, "text": "x"}]), ManifestError, r"jsonl:2: a reply is due after chunk 1000000"),
        (edit(cues=[CUE | {"deadline_s": 1.0}]), ManifestError, r"jsonl:2: a cue of 'x' has onset 1.0, ready 2.0, d"),
        (edit(num_chunks=0), ManifestError, r"jsonl:2: .* num_chunks 0"),
        (cut("shard-00001.jsonl", 700), ManifestError, r"shard-00001.jsonl:\d: Invalid JSON"),
        (cut("shard-00001.jsonl", 0), ManifestError, r"shard-00001.jsonl: holds no streams"),
        (shorten, AudioError, r"shard-00001.flac: holds \d+ samples of 1 channels at 16000 Hz, and its lines say \d+"),
        (cut("shard-00001.flac", 10), AudioError, r"shard-00001.flac: not audio that can be decoded"),
        (lead_out, ManifestError, r"shard-00001.flac: leads out of the folder"),
        (remove("shard-00001.flac"), ManifestError, r"shard-00001.flac: no such file; compose the corpus once more"),
        (remove("shard-00001.jsonl"), ManifestError, r"shard-00001.jsonl: no such file"),
        (
            remove("corpus.json"),
            ManifestError,
            r"corpus.json: no such file, expected a corpus that `soundflow compose`",
        ),
        (specify(format=2), ManifestError, r"corpus.json: format is 2, this version reads 1"),
        (specify(colour="red"), ManifestError, r"corpus.json: colour is 'red': unexpected keyword"),
        (specify(hours=-1.0), ManifestError, r"corpus.json: hours is -1.0, expected more than 0"),
        (cut("corpus.json", 20), ManifestError, r"corpus.json: not JSON"),
    ],
)
def test_what_is_broken_is_named(damage: Callable[[Path], None], error: type, message: str, corpus: Path) -> None:
    damage(corpus)
    with pytest.raises(error, match=message) as refused:
        Corpus(corpus)
    assert str(corpus) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_breaks_after_a_corpus_was_opened_is_named(corpus: Path) -> None:
    opened = Corpus(corpus)
    size = (corpus / "shard-00000.flac").stat().st_size
    cut("shard-00000.flac", size // 2)(corpus)  # its header still announces everything
    assert opened[0].num_chunks
    for reader in (opened, Corpus(corpus)):
        with pytest.raises(AudioError, match=r"shard-00000.flac: .*decoded"):
            reader[3]
    cut("shard-00001.jsonl", 50)(corpus)
    with pytest.raises(ManifestError, match=r"shard-00001.jsonl:1: Invalid JSON"):
        opened[4]


def test_a_corpus_without_a_complete_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text(SPEC.to_json())
    assert read_spec(tmp_path) == SPEC
    with pytest.raises(ManifestError, match="has no complete shard"):
        Corpus(tmp_path)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"hours": 0.03}, "hours is 0.02 and not 0.03"),
        ({"seed": 1, "sub_task": "distress"}, "sub_task is None and not 'distress', seed is 0 and not 1"),
        ({"sounds": "foley and 3 recordings"}, "sounds is 'foley' and not 'foley and 3 recordings'"),
    ],
)
def test_another_corpus_is_not_mixed_in(other: dict[str, object], difference: str, corpus: Path) -> None:
    before = files(corpus)
    with pytest.raises(ConfigError, match=f"{corpus}: holds another corpus: {difference};"):
        write_corpus(corpus, CorpusSpec(**{**vars(SPEC), **other}), beeps)
    assert files(corpus) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match=r"holds 'thesis.tex' and no corpus.json; name an empty or a new folder"):
        write_corpus(tmp_path, SPEC, beeps)
    assert list(files(tmp_path)) == ["thesis.tex"]


@pytest.mark.skipif(sys.platform == "win32", reason="a folder cannot be locked there")
def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    def progress(_: float) -> None:
        with pytest.raises(ConfigError, match="another process is composing this corpus"):
            write_corpus(tmp_path, SPEC, beeps)

    assert write_corpus(tmp_path, SPEC, beeps, progress=progress)


def test_an_unknown_ability_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for spec in (CorpusSpec("Proactiv", 1.0), CorpusSpec("Proactive", 1.0, "distres")):
        with pytest.raises(SoundFlowError, match="did you mean"):
            write_corpus(tmp_path / "corpus", spec)
    assert not (tmp_path / "corpus").exists()
