"""Published corpora, each on a tiny tree in exactly the layout that it is published in."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from envs.clip_library import ClipLibrary
from envs.errors import ManifestError
from envs.layouts import LAYOUTS
from envs.records import BrokenRecordsWarning


def clip(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * np.random.default_rng(seed).uniform(-1, 1, 8_000).astype(np.float32), 16_000)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def esc50(folder: Path) -> None:
    text(
        folder / "meta" / "esc50.csv",
        "filename,fold,target,category,esc10,src_file,take",
        "1-100032-A-0.wav,1,0,dog,True,100032,A",
        "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A",
    )
    clip(folder / "audio" / "1-100032-A-0.wav")
    clip(folder / "audio" / "1-100038-A-14.wav")


def fsd50k(folder: Path) -> None:
    text(
        folder / "FSD50K.ground_truth" / "dev.csv",
        "fname,labels,mids,split",
        '64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train',
    )
    text(
        folder / "FSD50K.ground_truth" / "eval.csv", "fname,labels,mids", '37199,"Glass,Shatter","/m/039jq,/m/07rn7sz"'
    )
    clip(folder / "FSD50K.dev_audio" / "64760.wav")
    clip(folder / "FSD50K.eval_audio" / "37199.wav")


def audioset(folder: Path) -> None:
    text(
        folder / "class_labels_indices.csv",
        "index,mid,display_name",
        '0,/m/09x0r,"Speech"',
        '389,/m/03kmc9,"Siren"',
    )
    text(
        folder / "eval_segments.csv",
        "# Segments csv created Sun Mar  5 10:54:25 2017",
        "# num_ytids=2, num_segs=2, num_unique_labels=2, num_positive_labels=2",
        "# YTID, start_seconds, end_seconds, positive_labels",
        '--4gqARaEJE, 0.000, 10.000, "/m/03kmc9,/m/09x0r"',
        '--GoneVideo, 30.000, 40.000, "/m/09x0r"',
    )
    clip(folder / "clips" / "--4gqARaEJE_0.wav")


def musan(folder: Path) -> None:
    clip(folder / "noise" / "free-sound" / "noise-free-sound-0000.wav")
    clip(folder / "music" / "fma" / "music-fma-0003.wav")


def wham(folder: Path) -> None:
    clip(folder / "tr" / "01aa010b_0.97482_209a010p_-0.97482.wav")
    clip(folder / "tt" / "050a0501_1.7783_442o030z_-1.7783.wav")


def dns_noise(folder: Path) -> None:
    clip(folder / "--1yzAZmGXA.wav")
    clip(folder / "door_Freesound_validated_389655_0.wav")


def free_spoken_digits(folder: Path) -> None:
    clip(folder / "recordings" / "7_jackson_32.wav")
    clip(folder / "recordings" / "0_george_1.wav")


def proactive_sound_bench(folder: Path) -> None:
    path = "./proactive-sound-effect/Daily Living Sounds/Daily Affairs/RESPOND/867bf7d3.wav"
    other = "./proactive-sound-effect/Daily Living Sounds/Daily Affairs/IGNORE/c9a2d625.wav"
    text(
        folder / "proactive_reply_benchmark.jsonl",
        json.dumps({"id": "867bf7d3", "path": path, "description": "book fall", "decision": "RESPOND"}),
        json.dumps({"id": "c9a2d625", "path": other, "description": "balloon", "decision": "IGNORE"}),
    )
    clip(folder / path)
    clip(folder / other)


TREES = {
    "esc50": (esc50, {"dog", "chirping_birds"}),
    "fsd50k": (fsd50k, {"electric_guitar", "glass"}),
    "audioset": (audioset, {"siren"}),
    "musan": (musan, {"noise", "music"}),
    "wham": (wham, {"ambient_noise"}),
    "dns_noise": (dns_noise, {"noise"}),
    "free_spoken_digits": (free_spoken_digits, {"digit_7", "digit_0"}),
    "proactive_sound_bench": (proactive_sound_bench, {"book_fall", "balloon"}),
}


def test_every_layout_has_its_tree() -> None:
    assert set(TREES) == set(LAYOUTS)


@pytest.mark.parametrize("layout", TREES)
def test_a_corpus_is_read_in_its_own_layout(layout: str, tmp_path: Path) -> None:
    build, labels = TREES[layout]
    build(tmp_path)
    library = ClipLibrary.from_folder(tmp_path, layout)
    assert set(library.labels) == labels
    assert all(len(r.clip.audio) for r in library.recordings)


def test_decisions_and_ties_are_kept(tmp_path: Path) -> None:
    proactive_sound_bench(tmp_path / "bench")
    free_spoken_digits(tmp_path / "digits")
    bench = {
        r.clip.label: r.clip for r in ClipLibrary.from_folder(tmp_path / "bench", "proactive_sound_bench").recordings
    }
    assert [bench[name].decision for name in ("book_fall", "balloon")] == ["RESPOND", "IGNORE"]
    assert bench["book_fall"].domain == "Daily Living Sounds"
    digits = ClipLibrary.from_folder(tmp_path / "digits", "free_spoken_digits")
    assert {r.speaker for r in digits.recordings} == {"jackson", "george"}


def test_a_clip_that_is_missing_or_leads_out_of_the_corpus_is_named(tmp_path: Path) -> None:
    esc50(tmp_path)
    (tmp_path / "audio" / "1-100032-A-0.wav").unlink()
    with pytest.raises(ManifestError, match=r"esc50\.csv, line 2: path 'audio/1-100032-A-0\.wav' names no file"):
        ClipLibrary.from_folder(tmp_path, "esc50")
    text(tmp_path / "meta" / "esc50.csv", "filename,category,src_file", "../../etc/passwd,dog,1")
    with pytest.raises(ManifestError, match="leads out of the folder"):
        ClipLibrary.from_folder(tmp_path, "esc50")


@pytest.mark.parametrize("layout", sorted(TREES))
def test_a_folder_of_another_kind_is_refused(layout: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=str(tmp_path)):
        ClipLibrary.from_folder(tmp_path, layout)


def test_an_unknown_layout_is_named_with_its_nearest() -> None:
    with pytest.raises(ManifestError, match="did you mean 'esc50'"):
        ClipLibrary.from_folder(Path(), "esc-50")


def test_broken_tables_are_named(tmp_path: Path) -> None:
    esc50(tmp_path)
    text(tmp_path / "meta" / "esc50.csv", "filename,fold", "a.wav,1")
    with pytest.raises(ManifestError, match=r"esc50\.csv: no column 'category'"):
        ClipLibrary.from_folder(tmp_path, "esc50")
    audioset(tmp_path)
    text(tmp_path / "eval_segments.csv", 'x, 0.0, 10.0, "/m/unknown"')
    with pytest.raises(ManifestError, match=r"eval_segments\.csv, line 1"):
        ClipLibrary.from_folder(tmp_path, "audioset")
    proactive_sound_bench(tmp_path)
    with (tmp_path / "proactive_reply_benchmark.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "c9a2d625", "path"\n')
    with pytest.raises(ManifestError, match=r"benchmark\.jsonl, line 3: not JSON"):
        ClipLibrary.from_folder(tmp_path, "proactive_sound_bench")
    with pytest.warns(BrokenRecordsWarning, match="left out: 1 of 3 records"):
        assert len(ClipLibrary.from_folder(tmp_path, "proactive_sound_bench", allow_broken=0.4)) == 2
    clip(tmp_path / "digits" / "recordings" / "seven.wav")
    with pytest.raises(ManifestError, match=r"seven\.wav: expected a name like"):
        ClipLibrary.from_folder(tmp_path / "digits", "free_spoken_digits")
