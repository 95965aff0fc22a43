"""A run never mixes with an earlier one, and loses nothing of it."""

from pathlib import Path

import pytest

from envs.errors import ConfigError
from trainers.run_folder import CONFIG, check_run_folder, set_earlier_aside


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_earlier_runs_are_kept_and_other_files_stay(tmp_path: Path) -> None:
    assert set_earlier_aside(tmp_path / "new") is None
    (tmp_path / "notes.txt").write_text("of the user")
    for run in ("first", "second"):
        (tmp_path / "policy").mkdir()
        (tmp_path / "policy" / "config.json").write_text(run)
        (tmp_path / "traces_held_out.jsonl").write_text(run)
        kept = set_earlier_aside(tmp_path)
        assert kept is not None
        assert files(kept) == {"policy/config.json": run, "traces_held_out.jsonl": run}
    assert set_earlier_aside(tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier-1", "earlier-2", "notes.txt"]


def test_a_folder_that_does_not_exist_yet_can_be_written_and_is_not_created(tmp_path: Path) -> None:
    check_run_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    check_run_folder(tmp_path)
    (tmp_path / "policy").mkdir()
    with pytest.raises(ConfigError, match=r"holds 'policy' and no config\.yaml of a run; name a new"):
        check_run_folder(tmp_path)
    (tmp_path / CONFIG).write_text("seed: 0")
    check_run_folder(tmp_path)
    set_earlier_aside(tmp_path)
    check_run_folder(tmp_path)
