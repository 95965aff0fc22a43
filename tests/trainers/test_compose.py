"""The command `compose`: what it says, what it refuses, and that its streams are nobody else's."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from envs.clip_library import ClipLibrary
from envs.corpus import Corpus, CorpusSpec
from envs.corpus.layout import SEEDS_A_RUN
from tests.trainers.test_cli import refused
from trainers.cli import main
from trainers.compose import fingerprint
from trainers.scenes import HELD_OUT_SEEDS, PPO_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS, seeds

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds") / "clips"
    runpy.run_path(str(ROOT / ".ci" / "make_clips.py"))["make_clips"](folder, per_label=1)
    return folder


def test_compose_writes_a_corpus_once(clips: Path, tmp_path: Path, capsys: Captured) -> None:
    """From recordings and foley; asked for again, it does nothing; asked for another, it refuses in one line."""
    out = tmp_path / "corpus"
    asked = ["compose", "--out", str(out), "--ability", "Proactive", "--workers", "1", "--seed", "2"]
    assert main([*asked, "--hours", "0.01", "--clips", str(clips)]) == 0
    first = capsys.readouterr().out
    assert "share of the cues" in first
    assert str(out / "summary.png") in first
    heard = {event.origin for stream in Corpus(out) for event in stream.events}
    assert "foley" in heard
    assert any((clips / origin).is_file() for origin in heard)
    assert main([*asked, "--hours", "0.01", "--clips", str(clips)]) == 0
    again = capsys.readouterr().out
    assert f"{out} was complete; nothing was done" in again
    assert again.splitlines()[:-1] == first.splitlines()[:-1]
    line = refused([*asked, "--hours", "0.02"], capsys)
    assert f"{out}: holds another corpus: hours is 0.01 and not 0.02, sounds is 'foley and " in line


def test_compose_refuses_before_anything_is_written(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "corpus"
    asked = ["compose", "--out", str(out), "--hours", "1", "--ability", "Proactive"]
    assert "did you mean 'distress'?" in refused([*asked, "--sub-task", "distres"], capsys)
    assert str(tmp_path / "none") in refused([*asked, "--clips", str(tmp_path / "none")], capsys)
    assert "at most 10000" in refused([*asked, "--hours", "10001"], capsys)
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'} is a file" in refused([*asked, "--out", str(tmp_path / "file")], capsys)
    assert not out.exists()


def test_compose_with_a_planner_says_what_it_refused(tmp_path: Path, capsys: Captured) -> None:
    asked = ["compose", "--out", str(tmp_path / "corpus"), "--hours", "0.01", "--workers", "1", "--planner", "grammar"]
    assert main([*asked, "--ability", "Proactive"]) == 0
    assert "accepted" in capsys.readouterr().out
    assert len(Corpus(tmp_path / "corpus")) >= 1
    assert "planner is 'grammar' and not ''" in refused([*asked[:-2], "--ability", "Proactive"], capsys)
    assert "--ability Proactive" in refused([*asked, "--out", str(tmp_path / "b")], capsys)
    assert "--planner llm" in refused([*asked[:-2], "--out", str(tmp_path / "b"), "--model", "x"], capsys)
    assert not (tmp_path / "b").exists()


def test_compose_speaks_with_recorded_speech(tmp_path: Path, capsys: Captured) -> None:
    chapter = tmp_path / "speech" / "dev-clean" / "84" / "121123"
    chapter.mkdir(parents=True)
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO DO YOU HEAR\n")
    sf.write(chapter / "84-121123-0000.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 24_000), 16_000)
    asked = ["compose", "--hours", "0.003", "--workers", "1", "--ability", "SpeechRecognition"]
    recorded = ["--speech", str(tmp_path / "speech"), "--speech-layout", "librispeech"]
    assert main([*asked, *recorded, "--out", str(tmp_path / "corpus")]) == 0
    events = [event for stream in Corpus(tmp_path / "corpus") for event in stream.events]
    heard = {event.origin for event in events if event.label == "speech" and event.role == "foreground"}
    assert heard == {"84"}, "the speaker of the corpus, and no voice of espeak-ng"
    capsys.readouterr()
    assert "speech is 'librispeech, " in refused([*asked, "--out", str(tmp_path / "corpus")], capsys)
    with pytest.raises(SystemExit):
        main([*asked, "--out", str(tmp_path / "b"), "--speech", str(tmp_path)])


def test_recordings_that_sound_or_mean_something_else_have_another_name(clips: Path) -> None:
    recordings = ClipLibrary.from_folder(clips).recordings
    names = [fingerprint(ClipLibrary(some)) for some in (recordings, recordings[1:], recordings[::-1])]
    assert len(set(names)) == 3
    assert names[0] == fingerprint(ClipLibrary.from_folder(clips))


def test_the_streams_of_corpora_are_never_those_of_training_or_judging() -> None:
    """The most hours allowed, of streams as short as they come, end before the seeds of the next run begin."""
    for run in (0, 1, 7):
        first = CorpusSpec("Mixed", 1.0, seed=run).seeds(0)[0]
        for base in (TRAIN_SEEDS, PPO_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS):
            assert seeds(base, run, 10_000_000)[-1] < first
        assert first + CorpusSpec("Mixed", 10_000.0).num_chunks // 8 < seeds(TRAIN_SEEDS, run + 1, 1)[0]
    assert seeds(TRAIN_SEEDS, 1, 1)[0] == SEEDS_A_RUN
