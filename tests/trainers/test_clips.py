"""The recordings of a command: read in the layout asked for, with one line on stderr for what was left out."""

from pathlib import Path

import numpy as np
import pytest

from envs.audio import write_wav
from envs.errors import ManifestError
from trainers.clips import ClipFolder


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
