"""Write a small folder of clips with its manifest, from built-in foley: `make_clips.py FOLDER`."""

import csv
import sys
from pathlib import Path

import numpy as np

from envs.audio import write_wav
from envs.clip_library import COLUMNS
from envs.foley import Foley

LABELS = {
    "siren": "RESPOND",
    "glass_break": "RESPOND",
    "rain": "IGNORE",
    "typing": "IGNORE",
    "door": "IGNORE",
}


def make_clips(folder: Path, per_label: int = 2) -> None:
    """Write `per_label` clips of every label, each as a recording of its own."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, COLUMNS, restval="")
        rows.writeheader()
        for label, decision in LABELS.items():
            for number in range(per_label):
                clip = Foley().draw(rng, decision, label)
                name = f"{label}_{number}"
                write_wav(folder / f"{name}.wav", clip.audio)
                rows.writerow(
                    {
                        "path": f"{name}.wav",
                        "label": label,
                        "caption": clip.caption,
                        "domain": clip.domain,
                        "decision": decision,
                        "recording": name,
                        "seconds": round(clip.seconds, 2),
                        "source": "foley",
                        "licence": "Apache-2.0",
                    }
                )


if __name__ == "__main__":
    make_clips(Path(sys.argv[1]))
