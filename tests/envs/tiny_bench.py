"""A tiny Proactive-Sound-Bench in the released layout: six recordings, three of which deserve a reply."""

import json
from pathlib import Path

import numpy as np
import soundfile as sf

RESPOND = {
    "r1": ("Music/Artistic", "glass harp breaks", "I hear glass breaking. Watch out for the shards."),
    "r2": ("Traffic/Vehicle", "tire blow out", "A tire has burst. Please stop the car."),
    "r3": ("Traffic/Vehicle", "horn", "Somebody honks at you. Please look around."),
}
IGNORE = {
    "i1": ("Music/Artistic", "piano"),
    "i2": ("Traffic/Vehicle", "engine idles"),
    "i3": ("Traffic/Large Traffic", "train passes"),
}
IDS = (*RESPOND, *IGNORE)
SECONDS = {"r1": 1.0, "r2": 0.4, "r3": 2.1, "i1": 0.9, "i2": 1.6, "i3": 0.5}


def path_of(item_id: str) -> str:
    kind, known = ("RESPOND", RESPOND) if item_id in RESPOND else ("IGNORE", IGNORE)
    return f"./proactive-sound-effect/{known[item_id][0]}/{kind}/{item_id}.wav"


def write_manifests(folder: Path) -> Path:
    rows = [
        {"id": i, "path": path_of(i), "description": (RESPOND | IGNORE)[i][1], "decision": decision}
        for i, decision in (*((i, "RESPOND") for i in RESPOND), *((i, "IGNORE") for i in IGNORE))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "proactive_reply_benchmark.jsonl", rows)
    answered = [{**row, "standard_answers": [RESPOND[row["id"]][2], "Look out."]} for row in rows[: len(RESPOND)]]
    write_lines(folder / "proactive_reply_benchmark_response.jsonl", answered)
    return folder


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_recordings(folder: Path) -> Path:
    for seed, item_id in enumerate(IDS):
        path = folder / path_of(item_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).uniform(-0.3, 0.3, round(SECONDS[item_id] * 16_000))
        sf.write(path, noise.astype(np.float32), 16_000)
    return folder


def write_bench(folder: Path) -> Path:
    return write_recordings(write_manifests(folder))
