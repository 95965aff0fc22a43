"""The recordings of a command: read in the layout asked for, with one line on stderr for what was left out."""

from pathlib import Path

import numpy as np
import pytest

from envs.audio import write_wav
from envs.errors import ManifestError
from trainers.clips import ClipFolder
from trainers.config import QuickstartConfig
from trainers.config_loading import load_config
from trainers.options import CONFIGS
from trainers.run import compose_suites, prepare


def test_what_is_left_out_is_named_on_stderr_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, name in enumerate(("7_ann_0", "7_bob_0", "8_bob_0", "eight")):
        path = tmp_path / "recordings" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        write_wav(path, (0.1 * np.random.default_rng(i).standard_normal(8_000)).astype(np.float32))
    with pytest.raises(ManifestError, match=r"eight\.wav: expected a name like .*--allow-broken"):
        ClipFolder(tmp_path, "free_spoken_digits").read()
    assert len(ClipFolder(tmp_path, "free_spoken_digits", 0.5).read()) == 3
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"soundflow: left out: {path}: expected")
    assert last == "soundflow: left out: 1 of 4 records"


def test_a_run_says_how_many_recordings_are_behind_its_cues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten clips of a child's cries, which are of two recordings, are one source where one recording is held out."""
    rows = [["path", "label", "caption", "domain", "decision", "recording", "speaker", "seconds", "source", "licence"]]
    sounds = [("cry", "RESPOND", i // 5) for i in range(10)] + [("hum", "IGNORE", i) for i in range(6)]
    for i, (label, decision, recording) in enumerate(sounds):
        write_wav(tmp_path / f"{i}.wav", (0.1 * np.random.default_rng(i).standard_normal(8_000)).astype(np.float32))
        rows.append([f"{i}.wav", label, label, "Test", decision, f"{label}{recording}", "", "0.5", "s", ""])
    (tmp_path / "manifest.csv").write_text("\n".join(",".join(row) for row in rows))
    config = load_config(QuickstartConfig, CONFIGS / "smoke.yaml", [])
    run = prepare(config, tmp_path / "run", ClipFolder(tmp_path))
    compose_suites(run, foley=False, validation=False)
    streams = len(run.held_out["real_held_out"].by_seed)
    assert f"real_held_out: {streams} streams; what deserves a reply is of 1 recordings" in capsys.readouterr().out
