"""Tiny releases of speech benchmarks, each in exactly the layout that it is published in."""

import json
from pathlib import Path

import numpy as np
import soundfile as sf

LIBRISPEECH = {"61-70968-0000": "HE BEGAN A COURSE TODAY", "61-70968-0001": "DON'T GO"}
COVOST2 = {"common_voice_en_1.mp3": ("It rains.", "今天下雨。"), "common_voice_en_2.mp3": ("Go.", "走吧。")}
MMAU = [
    ("a", "sound", "easy", ["Man", "Woman", "Child"], "Woman"),
    ("b", "sound", "hard", ["Rain", "Wind"], "Rain"),
    ("c", "music", "hard", ["Guitar", "Piano"], "Piano"),
]


def recording(path: Path, seed: int, seconds: float = 0.9, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * rate))
    sf.write(path, noise.astype(np.float32), rate)


def write_librispeech(folder: Path) -> Path:
    for split in ("test-clean", "test-other"):
        chapter = folder / "LibriSpeech" / split / "61" / "70968"
        for seed, name in enumerate(LIBRISPEECH):
            recording(chapter / f"{name}.flac", seed)
        lines = [f"{name} {text}\n" for name, text in LIBRISPEECH.items()]
        (chapter / "61-70968.trans.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def write_covost2(folder: Path) -> Path:
    (folder / "en" / "clips").mkdir(parents=True)
    rows = [f"{path}\t{said}\t{meant}\tann\n" for path, (said, meant) in COVOST2.items()]
    header = "path\tsentence\ttranslation\tclient_id\n"
    for split in ("train", "test"):
        text = header + "".join(rows if split == "test" else rows[:1])
        (folder / "en" / f"covost_v2.en_zh-CN.{split}.tsv").write_text(text, encoding="utf-8")
    (folder / "en" / "covost_v2.en_de.test.tsv").write_text(header + rows[0], encoding="utf-8")
    for seed, path in enumerate(COVOST2):
        recording(folder / "en" / "clips" / path, seed, rate=48_000)
    return folder


def mmau_item(name: str, task: str, difficulty: str, choices: list[str], answer: str) -> dict[str, object]:
    return {
        "id": name,
        "audio_id": f"./test-mini-audios/{name}.wav",
        "question": "What is heard?",
        "choices": choices,
        "answer": answer,
        "dataset": "AudioSet",
        "task": task,
        "split": "test-mini",
        "category": "Reasoning",
        "sub-category": "Acoustic Source Inference",
        "difficulty": difficulty,
    }


def write_mmau(folder: Path) -> Path:
    items = [mmau_item(*item) for item in MMAU]
    (folder / "mmau-test-mini.json").write_text(json.dumps(items, indent=4), encoding="utf-8")
    for seed, item in enumerate(MMAU):
        recording(folder / "test-mini-audios" / f"{item[0]}.wav", seed)
    return folder
