"""One episode to look at: as a page, a picture, a video; played by an oracle or by a policy."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from envs import ABILITY_NAMES
from envs.abilities import AbilityScenarios, World
from envs.foley import Foley
from envs.speech.espeak import Espeak
from envs.tokenizer import ByteTokenizer
from policies.oracle import OraclePolicy
from trainers.cli import main
from trainers.evaluation import play
from trainers.video import _encode, ffmpeg

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("ability", [name for name in ABILITY_NAMES if name != "Mixed"])
def test_an_oracle_answers_every_cue_with_the_timelines_words(ability: str) -> None:
    scenarios = AbilityScenarios(ability, World(Foley(), Espeak()))
    played = [scenarios(seed) for seed in range(3)]
    oracle = OraclePolicy(lambda slot: played[slot], 3, ByteTokenizer(), 32)
    traces = play(
        oracle, lambda seed: played[seed], range(3), num_slots=3, tokenizer=ByteTokenizer(), tokens_per_chunk=32
    )
    for trace, scenario in zip(traces, played, strict=True):
        assert [reply.cue for reply in trace.replies] == list(range(len(scenario.cues)))
        assert [reply.text for reply in trace.replies] == [entry.text for entry in scenario.timeline]


@pytest.mark.parametrize("kind", ["html", "png", "mp4"])
def test_an_episode_is_written_as_asked_for(kind: str, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "new" / f"episode.{kind}"
    asked = ["--ability", "VoiceChat", "--sub-task", "single_question", "--seed", "5", "--out", str(out)]
    assert main(["watch", *asked]) == 0
    assert "answers speech" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if kind == "html":
        page = out.read_text(encoding="utf-8")
        assert "VoiceChat, single question, seed 5, played by an oracle" in page
        assert "a person says:" in page
        assert "http" not in page, "it opens offline"
    elif kind == "png":
        assert out.read_bytes().startswith(b"\x89PNG")
    else:
        done = subprocess.run([ffmpeg(), "-i", str(out)], capture_output=True, text=True, check=False)
        assert "Video: h264" in done.stderr
        assert "Audio: aac" in done.stderr


def test_what_cannot_be_watched_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    for asked, message in (
        (["--out", "episode.gif"], "known are .html, .mp4, .png"),
        (["--out", str(tmp_path / "e.png"), "--sub-task", "distres"], "did you mean 'distress'"),
        (["--out", str(tmp_path / "e.png"), "--policy", str(tmp_path)], "not a policy folder"),
    ):
        assert main(["watch", *asked]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """An ffmpeg that stops at once, as one without an encoder does."""
    broken = tmp_path / "bin" / "ffmpeg"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no such encoder >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    assert main(["watch", "--out", str(tmp_path / "out" / "e.mp4")]) == 2
    assert "no such encoder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_interrupted_video_ends_its_ffmpeg(tmp_path: Path) -> None:
    """A program that reads to the end of its input would be waited for for ever."""

    def interrupted() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    with (tmp_path / "log").open("wb") as log, pytest.raises(KeyboardInterrupt):
        _encode(["cat"], np.zeros((4, 8, 3), np.uint8), interrupted(), log)
