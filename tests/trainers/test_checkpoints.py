"""A checkpoint is whole or not there; the newest whole one is found."""

from pathlib import Path

import pytest
import torch

from trainers.checkpoints import SpoiltCheckpointWarning, newest_checkpoint, save_checkpoint

STATE = {"curve": [[1, 0.1]], "nothing": None}


def save(folder: Path, step: int) -> Path:
    tensors = {"a.b": torch.full((2, 3), float(step)), "few": torch.tensor([1, 2], dtype=torch.uint8)}
    return save_checkpoint(folder, step, tensors, {**STATE, "step": step})


def test_what_was_saved_is_found(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None
    save(tmp_path, 9)
    save(tmp_path, 10)
    step, tensors, state = newest_checkpoint(tmp_path) or pytest.fail("none was found")
    assert (step, state) == (10, {**STATE, "step": 10})
    assert tensors["a.b"].equal(torch.full((2, 3), 10.0))
    assert tensors["few"].dtype == torch.uint8


def test_the_last_ones_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000003"]


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("spoil", ["cut", "changed", "missing"])
def test_a_spoilt_one_is_skipped_with_a_warning_and_replaced(tmp_path: Path, file: str, spoil: str) -> None:
    save(tmp_path, 1)
    spoilt = save(tmp_path, 2) / file
    whole = spoilt.read_bytes()
    spoilt.unlink()
    if spoil != "missing":
        spoilt.write_bytes(whole[:-9] if spoil == "cut" else whole[:-9] + b"?" * 9)
    with pytest.warns(SpoiltCheckpointWarning, match="step-000000002: skipped"):
        found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[0] == 1
    save(tmp_path, 2)
    assert (newest_checkpoint(tmp_path) or [0])[0] == 2


def test_what_a_killed_run_left_aside_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    (tmp_path / ".step-000000003.77").mkdir()
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_where_nothing_can_be_written_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="step-000000001"):
        save(tmp_path / "file", 1)
