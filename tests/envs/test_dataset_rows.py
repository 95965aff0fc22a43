"""Hugging Face datasets as clips: in memory or saved, whichever way they keep their audio."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile as sf

from envs.clip_library import ClipLibrary
from envs.errors import ManifestError
from envs.records import BrokenRecordsWarning

datasets.disable_progress_bars()


def sound(seed: int = 0, rate: int = 16_000) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, rate).astype(np.float32)


def encoded(audio: np.ndarray, rate: int = 16_000, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    sf.write(file, audio, rate, format=form)
    return file.getvalue()


def dataset(audio: list[Any], as_audio: bool = True, **columns: list[Any]) -> datasets.Dataset:
    rows = datasets.Dataset.from_dict({"audio": audio, **({"label": ["dog"] * len(audio)} | columns)})
    return rows.cast_column("audio", datasets.Audio(sampling_rate=44_100)) if as_audio else rows


def test_every_way_to_keep_audio_gives_the_same_clip(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", sound(), 16_000)
    data, samples = encoded(sound()), sf.read(tmp_path / "a.wav", dtype="float32")[0]
    kept = {
        "bytes": dataset([{"bytes": data, "path": "a.wav"}]),
        "path": dataset([{"bytes": None, "path": str(tmp_path / "a.wav")}]),
        "text": dataset([str(tmp_path / "a.wav")], as_audio=False),
        "array": dataset([{"array": samples.tolist(), "sampling_rate": 16_000}], as_audio=False),
    }
    clips = {way: ClipLibrary.from_dataset(rows).recordings[0].clip for way, rows in kept.items()}
    for clip in clips.values():
        np.testing.assert_array_equal(clip.audio, clips["bytes"].audio)
    assert np.abs(clips["bytes"].audio).max() == 1.0
    assert (clips["bytes"].label, clips["bytes"].caption, clips["bytes"].origin) == ("dog", "the sound of dog", "row 0")
    kept["bytes"].save_to_disk(tmp_path / "saved")
    saved = ClipLibrary.from_dataset(tmp_path / "saved").recordings[0].clip
    np.testing.assert_array_equal(saved.audio, clips["bytes"].audio)


@pytest.mark.parametrize("form", ["FLAC", "MP3", "OGG"])
def test_any_format_and_rate_becomes_16_khz(form: str) -> None:
    library = ClipLibrary.from_dataset(dataset([{"bytes": encoded(sound(rate=44_100), 44_100, form), "path": None}]))
    assert library.recordings[0].clip.seconds == pytest.approx(1.0, abs=0.21)  # a multiple of 0.2 s, as all clips


def test_columns_are_named_by_what_they_are() -> None:
    rows = dataset(
        [{"bytes": encoded(sound(i)), "path": None} for i in range(3)],
        label=[0, 1, 1],
        said=["a dog barks", None, "rain falls"],
        wanted=["RESPOND", "IGNORE", None],
        who=["ann", "bob", "bob"],
    ).cast_column("label", datasets.ClassLabel(names=["Dog bark", "rain"]))
    library = ClipLibrary.from_dataset(rows, caption="said", decision="wanted", speaker="who")
    assert library.labels == ("dog_bark", "rain")
    assert [r.clip.caption for r in library.recordings] == ["a dog barks", "the sound of rain", "rain falls"]
    assert [r.clip.decision for r in library.recordings] == ["RESPOND", "IGNORE", "IGNORE"]
    assert [r.group_keys for r in library.recordings] == [("speaker:ann",), ("speaker:bob",), ("speaker:bob",)]
    with pytest.raises(ManifestError, match="no column 'speker'; did you mean 'speaker'"):
        ClipLibrary.from_dataset(rows.rename_column("who", "speaker"), speaker="speker")
    with pytest.raises(ManifestError, match="no column 'label'"):
        ClipLibrary.from_dataset(rows.remove_columns("label"))
    with pytest.raises(ManifestError, match="clips have no 'captions'; did you mean 'caption'"):
        ClipLibrary.from_dataset(rows, captions="said")


GOOD = {"bytes": encoded(sound()), "path": None}
LONG = {"array": [0.1] * 1_000, "sampling_rate": 1}
FAULTS = [
    ({"bytes": b"no sound", "path": None}, "row 1: not audio"),
    ({"bytes": encoded(sound())[:9_000], "path": None}, "row 1: truncated"),
    ({"bytes": None, "path": None}, "row 1: has no audio"),
    ({"bytes": None, "path": "/nowhere/a.wav"}, r"a\.wav: no such audio file"),
    (None, "row 1: its audio is NoneType"),
    ({"array": [0.0, float("nan")], "sampling_rate": 16_000}, r"row 1: a sample at 0\.000 s is NaN"),
    ({"array": [], "sampling_rate": 16_000}, r"row 1: its samples are of shape \[0\]"),
    (LONG, "row 1: its rate is 1 Hz"),
    ({**LONG, "array": [0.1] * 601_000, "sampling_rate": 1_000}, "row 1: has 601 s, at most 600 s"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_broken_rows_are_named_and_left_out_where_that_is_allowed(fault: Any, message: str) -> None:
    as_audio = fault is None or "array" not in fault
    good = GOOD if as_audio else {"array": sound().tolist(), "sampling_rate": 16_000}
    rows = dataset([good, fault, good], as_audio)
    with pytest.raises(ManifestError, match=rf"^dataset: .*{message}.*; 1 of 3 records of dataset cannot be used"):
        ClipLibrary.from_dataset(rows)
    with pytest.warns(BrokenRecordsWarning, match="left out: 1 of 3 records"):
        assert len(ClipLibrary.from_dataset(rows, allow_broken=0.5)) == 2


def test_decisions_and_labels_of_rows_are_checked() -> None:
    rows = dataset([GOOD] * 4, label=["dog", None, "dog", "dog"], decision=["RESPOND", "IGNORE", "MAYBE", None])
    with pytest.warns(BrokenRecordsWarning) as warned:
        library = ClipLibrary.from_dataset(rows, decision="decision", allow_broken=0.5)
    assert [r.clip.decision for r in library.recordings] == ["RESPOND", "IGNORE"]
    assert "row 1: label is blank" in str(warned[0].message)
    assert "row 2: decision is 'MAYBE'" in str(warned[0].message)
    silent = dataset([{"bytes": encoded(np.zeros(16_000)), "path": None}], decision=["RESPOND"])
    with pytest.raises(ManifestError, match="row 0: holds nothing but silence"):
        ClipLibrary.from_dataset(silent, decision="decision")


def test_what_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="none: no dataset that save_to_disk wrote"):
        ClipLibrary.from_dataset(tmp_path / "none")
    datasets.DatasetDict({"train": dataset([GOOD]), "test": dataset([GOOD])}).save_to_disk(tmp_path / "both")
    with pytest.raises(ManifestError, match=r"is a DatasetDict, expected .* the splits train, test, choose one"):
        ClipLibrary.from_dataset(tmp_path / "both")
    assert len(ClipLibrary.from_dataset(tmp_path / "both" / "train")) == 1
    (tmp_path / "both" / "test" / "state.json").write_text("cut o")
    with pytest.raises(ManifestError, match="no dataset that save_to_disk wrote"):
        ClipLibrary.from_dataset(tmp_path / "both" / "test")
    with pytest.raises(ManifestError, match="holds no clips"):
        ClipLibrary.from_dataset(dataset([GOOD]).select([]))


def test_a_saved_path_may_not_lead_out(tmp_path: Path) -> None:
    sf.write(tmp_path / "outside.wav", sound(), 16_000)
    dataset([str(tmp_path / "outside.wav")], as_audio=False).save_to_disk(tmp_path / "saved")
    with pytest.raises(ManifestError, match=r"saved: row 0: path '.*outside\.wav' leads out of the folder"):
        ClipLibrary.from_dataset(tmp_path / "saved", allow_broken=1.0)
