"""A run never mixes with an earlier one, and loses nothing of it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from envs.errors import ConfigError
from trainers.run_folder import CONFIG, begin_run, check_run_folder, is_complete, words

LAST = "metrics.json"


@dataclass(frozen=True)
class Config:
    seed: int = 0
    stages: tuple[str, ...] = ("format",)


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_run_is_known_by_its_words_and_what_it_is_made_with() -> None:
    asked = words(Config(), recordings="9 of sha256 1f", encoder=None)
    assert asked == "# recordings: 9 of sha256 1f\nseed: 0\nstages:\n- format\n"


def test_the_same_run_is_gone_on_with_and_a_complete_one_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, asked = tmp_path / "run", words(Config())
    assert begin_run(out, asked, LAST)
    assert capsys.readouterr().out == ""
    (out / "logs").mkdir()
    (out / "logs" / "events").write_text("")
    (out / f".{LAST}.123").write_text("half of it")
    assert begin_run(out, asked, LAST)
    assert capsys.readouterr().out == f"goes on with the run in {out}\n"
    assert files(out) == {CONFIG: asked, "logs/events": ""}
    (out / LAST).write_text("{}")
    assert is_complete(out, asked, LAST)
    assert not begin_run(out, asked, LAST)
    assert capsys.readouterr().out == f"{out} was complete; nothing was done\n"
    assert files(out) == {CONFIG: asked, "logs/events": "", LAST: "{}"}


def test_earlier_runs_are_kept_and_other_files_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Complete or not; moved back, an earlier run is gone on with. Who asked for nothing usable leaves nothing."""
    (tmp_path / "notes.txt").write_text("of the user")
    for seed in (0, 1, 2):
        assert begin_run(tmp_path, words(Config(seed)), LAST)
        (tmp_path / "policy").mkdir()
        (tmp_path / "policy" / "config.json").write_text(str(seed))
        (tmp_path / "traces_held_out.jsonl").write_text(str(seed))
    assert f"is kept as {tmp_path / 'earlier-2'}" in capsys.readouterr().out
    for seed in (0, 1):
        kept = {"policy/config.json": str(seed), "traces_held_out.jsonl": str(seed), CONFIG: words(Config(seed))}
        assert files(tmp_path / f"earlier-{seed + 1}") == kept
    assert begin_run(tmp_path / "earlier-1", words(Config(0)), LAST)
    assert not list((tmp_path / "earlier-1").glob("earlier-*"))
    for seed in (3, 4):
        begin_run(tmp_path / "new", words(Config(seed)), LAST)
        (tmp_path / "new" / "start").mkdir()
        (tmp_path / "new" / "checkpoints").mkdir()
    begin_run(tmp_path / "new", words(Config(5)), LAST)
    assert files(tmp_path / "new") == {CONFIG: words(Config(5))}
    assert not list((tmp_path / "new").glob("earlier-*"))
    names = [path.name for path in tmp_path.iterdir() if path.name != "new"]
    assert sorted(names) == [CONFIG, "earlier-1", "earlier-2", "notes.txt", "policy", "traces_held_out.jsonl"]


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
