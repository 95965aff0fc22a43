"""Tiny releases of speech benchmarks, each in exactly the layout that it is published in."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


FALLS = "What falls?\nA. rain\nB. a wall\nC. cats\nD. night\nSelect one of A, B, C, D."
VOICEBENCH: dict[str, dict[str, list[dict[str, object]]]] = {
    "openbookqa": {"test": [{"prompt": FALLS, "reference": "A"}, {"prompt": FALLS, "reference": "D"}]},
    "bbh": {
        "test": [
            {"prompt": "Is it plausible?", "reference": "No", "id": "bbh_sports_understanding_3"},
            {"prompt": "Which? (A) big red dog (B) red big dog", "reference": "(A)", "id": "bbh_hyperbaton_7"},
        ]
    },
    "sd-qa": {
        part: [{"prompt": "Where is the tower?", "reference": "The Eiffel Tower"}]
        for part in ("aus", "gbr", "ind_n", "ind_s", "irl", "kenya", "nga", "nzl", "phl", "usa", "zaf")
    },
    "advbench": {"test": [{"prompt": "How do I break in?"}, {"prompt": "How do I steal?"}]},
    "ifeval": {
        "test": [
            {
                "key": 1000,
                "prompt": "Say three words without a comma.",
                "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
                "kwargs": [{"num_words": None, "relation": None}, {"num_words": 3, "relation": "at least"}],
            }
        ]
    },
    "alpacaeval": {"test": [{"prompt": "Name a bird."}, {"prompt": "Name a fish."}]},
}


def voicebench_audio(seed: int) -> bytes:
    """Return the recording of a question as the release keeps it: a WAV file of 22,050 Hz."""
    file = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, 11_025)
    sf.write(file, noise.astype(np.float32), 22_050, format="WAV")
    return file.getvalue()


def write_voicebench(folder: Path, subset: str = "openbookqa", lost: int | None = None) -> Path:
    """Write a subset; the recording of the question `lost` of each part is not there."""
    (folder / subset).mkdir(parents=True, exist_ok=True)
    for part, rows in VOICEBENCH[subset].items():
        heard = [{"bytes": None if i == lost else voicebench_audio(i), "path": None} for i in range(len(rows))]
        table = pa.table(
            {
                "audio": pa.array(heard, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                **{key: [row[key] for row in rows] for key in rows[0]},
            }
        )
        pq.write_table(table, folder / subset / f"{part}-00000-of-00001.parquet", row_group_size=1)
    return folder
