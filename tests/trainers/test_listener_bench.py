"""The listener's benchmark trains, holds out and compares for real, at toy size."""

import json
import runpy
from pathlib import Path

import pytest

from trainers import classifier
from trainers.cli import main

ROOT = Path(__file__).parents[2]


def test_bench_listener_measures_both_on_the_same_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifier, "TRAIN_STREAMS", 16)
    monkeypatch.setattr(classifier, "VALIDATION_STREAMS", 4)
    runpy.run_path(str(ROOT / ".ci" / "make_clips.py"))["make_clips"](tmp_path / "clips")
    arguments = ["--clips", str(tmp_path / "clips"), "--config", str(ROOT / "configs" / "smoke.yaml"), "--json"]
    assert main(["bench", "listener", *arguments, "supervised.hearing.steps=1"]) == 0
    numbers = json.loads(capsys.readouterr().out)  # progress goes to stderr
    assert numbers["train_s"] > 0
    own, other = numbers["listener"]["trigger_f1"], numbers["classifier"]["trigger_f1"]
    assert own["count"] == other["count"] > 0  # cues of the streams they were judged on
    assert numbers["f1_over_classifier"]["value"] == pytest.approx(own["value"] - other["value"])
    assert numbers["trigger_f1"] == own
