"""Folders of recordings: read or refused by name, split without leaks, drawn in balance, dealt completely."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.clip_library import ClipLibrary, Recording
from envs.errors import ManifestError, ScenarioError
from envs.manifest import COLUMNS
from envs.planning import deal, plan_scene
from envs.proactive import DealtScenarios, ProactiveScenarios
from envs.records import BrokenRecord, BrokenRecordsWarning, broken_lines
from envs.scenario import Answer, Clip

SHARED = Path(__file__).parents[3] / "shared" / "audio"
Rows = list[dict[str, str]]


def row(
    path: str, label: str = "dog", decision: str = "IGNORE", recording: str = "", speaker: str = ""
) -> dict[str, str]:
    values = (path, label, f"a {label}", "Test", decision, recording, speaker, "1.0", "here", "CC0")
    return dict(zip(COLUMNS, values, strict=True))


def write_folder(folder: Path, rows: Rows, columns: tuple[str, ...] = COLUMNS) -> Path:
    for i, r in enumerate(rows):
        path = folder / r["path"]
        if path.suffix == ".wav" and not path.exists():
            path.parent.mkdir(exist_ok=True)
            audio = np.random.default_rng(i).uniform(-0.4, 0.4, 16_000)
            sf.write(path, audio, 16_000)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_a_folder_becomes_clips(tmp_path: Path) -> None:
    rows = [row("a.wav", "alarm", "RESPOND", "r1"), row("sub/b.wav"), row("c.wav", "digit_1", "", "", "ann")]
    library = ClipLibrary.from_folder(write_folder(tmp_path, rows))
    assert len(library) == 3
    assert library.labels == ("alarm", "digit_1", "dog")
    alarm = library.draw(np.random.default_rng(0), "RESPOND")
    assert len(alarm.answers) == 1
    assert (alarm.origin, alarm.recording) == ("a.wav", "r1")
    assert np.abs(alarm.audio).max() == 1
    blank = library.draw(np.random.default_rng(0), "IGNORE", "digit_1")  # nobody asked for a reply
    assert (blank.decision, blank.answers) == ("IGNORE", ())
    with pytest.raises(ScenarioError, match="did you mean 'dog'"):
        library.draw(np.random.default_rng(0), "IGNORE", "dig")


BAD_ROWS = [
    ([row("a.wav", decision="MAYBE")], r"manifest\.csv, line 2: decision is 'MAYBE', expected RESPOND"),
    ([row("a.wav"), row("gone.flac")], r"manifest\.csv, line 3: path 'gone\.flac' names no file"),
    ([row("../outside.wav")], r"line 2: path '\.\./outside\.wav' leads out"),
    ([row("")], r"line 2: path '' names no file"),
    ([row("a.wav", label="")], "line 2: label is blank"),
    ([row("a.wav"), row("a.wav", recording="r")], "line 3: path 'a.wav' is listed before, on line 2"),
    ([], "names no clips"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_bad_rows_are_named(tmp_path: Path, rows: Rows, message: str) -> None:
    (tmp_path / "clips").mkdir()
    with pytest.raises(ManifestError, match=message):
        ClipLibrary.from_folder(write_folder(tmp_path / "clips", rows))


def test_bad_manifests_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such folder"):
        ClipLibrary.from_folder(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=r"manifest\.csv: no such manifest; it needs the columns path, label"):
        ClipLibrary.from_folder(tmp_path)
    without = (*COLUMNS[:5], "recordings", *COLUMNS[6:])
    with pytest.raises(ManifestError, match="no column 'recording'; rename 'recordings' to 'recording'"):
        ClipLibrary.from_folder(write_folder(tmp_path, [row("a.wav")], without))
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(ManifestError, match="UTF-8"):
        ClipLibrary.from_folder(tmp_path)
    (tmp_path / "manifest.csv").write_text(",".join(COLUMNS) + "\na.wav,dog\n")
    with pytest.raises(ManifestError, match="line 2: has more or fewer fields"):
        ClipLibrary.from_folder(tmp_path)


@pytest.mark.parametrize("fault", ["nan", "corrupt", "empty", "silent"])
def test_an_unusable_clip_is_an_error_or_left_out_by_name(tmp_path: Path, fault: str) -> None:
    folder = write_folder(tmp_path, [row("good.wav"), row("bad.wav", decision="RESPOND")])
    audio = np.zeros(16_000, np.float32)
    if fault == "nan":
        audio[500] = np.nan
    if fault == "corrupt":
        (folder / "bad.wav").write_bytes(b"RIFF but not really")
    else:
        sf.write(folder / "bad.wav", audio[: 0 if fault == "empty" else None], 16_000, subtype="FLOAT")
    with pytest.raises(ManifestError, match=r"manifest\.csv, line 3: .*bad\.wav.* 1 of 2 records .* cannot be used"):
        ClipLibrary.from_folder(folder)
    with pytest.warns(BrokenRecordsWarning, match="left out: 1 of 2 records"):
        library = ClipLibrary.from_folder(folder, allow_broken=0.5)
    assert [(r.file.name, r.line) for r in library.broken] == [("manifest.csv", 3)]
    assert [r.clip.origin for r in library.recordings] == ["good.wav"]


def test_a_small_share_of_broken_records_is_left_out_and_named(tmp_path: Path) -> None:
    """Of 41 records 4 are broken, each in another way; what is left draws as if they had never been there."""
    rows = [row(f"{i}.wav", "xyz"[i % 3], recording=f"{i}") for i in range(37)]
    (tmp_path / "sound").mkdir()
    (tmp_path / "broken").mkdir()
    sound = ClipLibrary.from_folder(write_folder(tmp_path / "sound", rows))
    faulty = [*rows, row("gone.flac"), row("0.wav"), row("text.flac")]
    faulty.insert(5, row("x.wav", decision="MAYBE"))
    folder = write_folder(tmp_path / "broken", rows)
    (folder / "text.flac").write_text("no sound")
    write_folder(folder, faulty)
    with pytest.raises(ManifestError, match=r"line 7: decision is 'MAYBE'.* \(the first of them\); 3 of 41 records"):
        ClipLibrary.from_folder(folder)
    with pytest.warns(BrokenRecordsWarning) as warned:
        library = ClipLibrary.from_folder(folder, allow_broken=0.1)
    assert [record.line for record in library.broken] == [7, 40, 41, 42]
    assert str(warned[0].message).splitlines()[-1] == "left out: 4 of 41 records"
    assert warned[0].filename == __file__
    rngs = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(20):
        drawn, again = library.draw(rngs[0], "IGNORE"), sound.draw(rngs[1], "IGNORE")
        assert drawn.origin == again.origin
        np.testing.assert_array_equal(drawn.audio, again.audio)


def test_of_many_broken_records_ten_are_named() -> None:
    broken = [BrokenRecord(Path("manifest.csv"), i, "why") for i in range(2, 27)]
    lines = broken_lines(broken, 3_000)
    assert lines[0] == "left out: manifest.csv, line 2: why"
    assert lines[10:] == ["left out: 25 of 3000 records, of which 10 are named"]


def test_what_is_never_allowed(tmp_path: Path) -> None:
    """Neither a path that leads out, nor a folder of which nothing is left, nor a share that is none."""
    folder = write_folder(tmp_path, [row("a.wav"), row("../etc/passwd", decision="MAYBE")])
    with pytest.raises(ManifestError, match=r"line 3: path '\.\./etc/passwd' leads out"):
        ClipLibrary.from_folder(folder, allow_broken=1.0)
    with pytest.raises(ManifestError, match=r"1 of 1 records .* cannot be used.*and none is left; repair them$"):
        ClipLibrary.from_folder(write_folder(folder, [row("gone.flac")]), allow_broken=1.0)
    with pytest.raises(ManifestError, match=r"is 1\.5, expected one from 0 to 1"):
        ClipLibrary.from_folder(write_folder(folder, [row("a.wav")]), allow_broken=1.5)


ANSWER = Answer(("I hear it.",), ("hear",), 1.0, "iii", "safety_signal", 0.5)
AUDIO = np.full(3_200, 0.5, np.float32)


def recording(index: int, label: str, group: str = "", speaker: str = "", source: str = "s") -> Recording:
    respond = label < "m"
    clip = Clip(
        AUDIO,
        label,
        label,
        "Test",
        "RESPOND" if respond else "IGNORE",
        f"{index}",
        (ANSWER,) if respond else (),
        group,
    )
    return Recording(clip, speaker, source)


tied = st.tuples(st.sampled_from("amxyz"), st.sampled_from(["", *"0123456789"]), st.sampled_from(["", *"pqrst"]))


@given(st.lists(tied, min_size=1, max_size=40), st.floats(0.1, 0.9), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_nothing_stands_on_both_sides(rows: list[tuple[str, str, str]], share: float, seed: int) -> None:
    library = ClipLibrary([recording(i, *r) for i, r in enumerate(rows)])
    train, held = library.split(share, seed)
    assert Counter(r.clip.origin for half in (train, held) for r in half.recordings) == Counter(
        r.clip.origin for r in library.recordings
    )
    for tie in (lambda r: r.clip.recording, lambda r: r.speaker):
        assert not {tie(r) for r in train.recordings if tie(r)} & {tie(r) for r in held.recordings if tie(r)}
    again = library.split(share, seed)[1]
    assert [r.clip.origin for r in held.recordings] == [r.clip.origin for r in again.recordings]


@given(st.lists(st.integers(1, 12), min_size=2, max_size=15), st.floats(0.15, 0.5), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_each_label_gets_about_its_share(sizes: list[int], share: float, seed: int) -> None:
    clips = [recording(0, "x", f"{g}") for g, size in enumerate(sizes) for _ in range(size)]
    train, held = ClipLibrary([*clips, recording(0, "lone")]).split(share, seed)
    assert 1 <= len(held) < len(clips)
    assert abs(len(held) - share * len(clips)) <= max(sizes)
    assert train.has("RESPOND")
    assert not held.has("RESPOND")


@given(st.lists(st.integers(1, 4), min_size=9, max_size=20), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_folds_hold_out_what_others_do_not(sizes: list[int], seed: int) -> None:
    """Whatever is held out once is no longer to be had, while there is anything else."""
    library = ClipLibrary([recording(i, "x", f"{g}") for g, size in enumerate(sizes) for i in range(size)])
    held = [{r.clip.recording for r in library.split(0.25, seed, fold)[1].recordings} for fold in range(4)]
    assert held[0] == {r.clip.recording for r in library.split(0.25, seed)[1].recordings}
    assert all(held)
    assert sum(map(len, held[:3])) == len(set().union(*held[:3]))


def test_an_impossible_share_or_fold_is_refused() -> None:
    library = ClipLibrary([recording(0, "x")])
    with pytest.raises(ScenarioError, match=r"1\.5"):
        library.split(1.5, 0)
    with pytest.raises(ScenarioError, match=r"fold is 3, expected 0 to 2: 0\.3 can be held out 3 times"):
        library.split(0.3, 0, 3)


def test_clips_that_share_a_recording_or_a_speaker_are_of_one_source() -> None:
    rows = [("a", "r1", "p"), ("a", "r2", "p"), ("b", "r2", "q"), ("a", "r3", "z"), ("x", "r3", "z")]
    library = ClipLibrary([recording(i, *row) for i, row in enumerate(rows)])
    assert (library.num_sources("RESPOND"), library.num_sources("IGNORE")) == (2, 1)


def test_no_label_drowns_the_others() -> None:
    many = [recording(i, "x", f"x{i}") for i in range(400)]
    library = ClipLibrary([*many, *(recording(i, "z", f"z{i}") for i in range(4))])
    rng = np.random.default_rng(0)
    drawn = Counter(library.draw(rng, "IGNORE").label for _ in range(1000))
    assert 50 < drawn["z"] < 140  # 1 : 10, where the clips are 1 : 100


@given(st.integers(2, 40), st.integers(0, 12), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_deal_puts_every_clip_into_the_foreground(ignore: int, respond: int, seed: int) -> None:
    clips = [recording(i, "xyz"[i % 3], f"{i}") for i in range(ignore)]
    clips += [recording(100 + i, "a", f"{100 + i}") for i in range(respond)]
    plans = deal(ClipLibrary(clips), seed)
    dealt = Counter(clip.origin for plan in plans for clip in plan.foreground)
    assert set(dealt) == {r.clip.origin for r in clips}
    scenarios = DealtScenarios(plans, seed)
    rendered = sum(e.role == "foreground" for i in range(min(3, len(plans))) for e in scenarios(i).events)
    assert rendered == sum(len(plan.foreground) for plan in plans[:3])


@pytest.mark.parametrize(("share", "dealt"), [(0.0, "IGNORE"), (1.0, "RESPOND")])
def test_at_the_ends_of_its_share_one_decision_is_dealt(share: float, dealt: str) -> None:
    clips = [recording(i, "x", f"{i}") for i in range(6)] + [recording(10 + i, "a", f"{10 + i}") for i in range(3)]
    plans = deal(ClipLibrary(clips), 0, respond_share=share)
    assert {clip.decision for plan in plans for clip in plan.foreground} == {dealt}
    with pytest.raises(ScenarioError, match="no clip may stand in the foreground"):
        deal(ClipLibrary(clips[:6]), 0, respond_share=1.0)


def test_a_clip_longer_than_the_scenes_asked_for_is_dealt_all_the_same() -> None:
    long = [replace(recording(i, "xa"[i % 2], f"{i}").clip, audio=np.full(70_000, 0.5, np.float32)) for i in range(4)]
    plans = deal(ClipLibrary([Recording(clip, "", "s") for clip in long]), 0, chunks=(14, 16))
    scenarios = DealtScenarios(plans)
    assert sum(e.role == "foreground" for i in range(len(plans)) for e in scenarios(i).events) >= 4


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_beds_are_never_of_a_recording_in_the_foreground(seed: int) -> None:
    """Twelve recordings, each cut into clips of both decisions; a scene has at most eight in its foreground."""
    clips = [recording(10 * i + j, "xa"[j % 2], f"{i}") for i in range(12) for j in range(4)]
    plan = plan_scene(ClipLibrary(clips), np.random.default_rng(seed))
    heard = {clip.recording for clip in plan.foreground}
    assert not heard & {clip.recording for clip in plan.background + plan.ambient}


@pytest.fixture(scope="module")
def recordings() -> ClipLibrary:
    if not SHARED.is_dir():
        pytest.skip("the shared recordings are not here")
    return ClipLibrary.from_folder(SHARED)


def test_real_recordings(recordings: ClipLibrary) -> None:
    assert len(recordings) == len((SHARED / "manifest.csv").read_text(encoding="utf-8").splitlines()) - 1
    train, held = recordings.split(0.25, 0)
    for tie in (lambda r: r.clip.recording, lambda r: r.speaker):
        assert not {tie(r) for r in train.recordings if tie(r)} & {tie(r) for r in held.recordings if tie(r)}
    share = Counter(r.clip.label for r in held.recordings)
    for label in ("baby_cry", "cough_fit", "cough_single", "glass_break", "car_horn", "digit_3"):
        total = sum(r.clip.label == label for r in recordings.recordings)
        assert 0.15 <= share[label] / total <= 0.5
    scenario = ProactiveScenarios(held)(3)
    assert np.abs(scenario.audio).max() <= 1
    plans = deal(held, 0)
    assert {c.origin for p in plans for c in p.foreground} == {r.clip.origin for r in held.recordings}
    replies = [clip.decision == "RESPOND" for plan in plans for clip in plan.foreground]
    assert 0.35 < np.mean(replies) < 0.45
