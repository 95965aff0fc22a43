"""Scaper's side of the world benchmark: run by `envs/benchmark.py` in an environment of its own, never imported.

Mixes six clips over one background, again and again, and prints seconds of stream for each second it took:
`python scaper_script.py FOLDER SECONDS SCENES`, with the clips in `FOLDER/foreground/LABEL/*.wav` and the background in
`FOLDER/background/bed/bed.wav`.
"""

import statistics
import sys
import time
import warnings
from pathlib import Path

import scaper
import soundfile as sf

EVENTS = 6
TRIALS = 5


def mix(folder: Path, seconds: float, seed: int) -> None:
    """Mix one scene, in memory."""
    foreground, background = folder / "foreground", folder / "background"
    scene = scaper.Scaper(seconds, str(foreground), str(background), random_state=seed)
    scene.sr, scene.ref_db, scene.n_channels = 16_000, -26, 1
    scene.add_background(("const", "bed"), ("const", str(background / "bed" / "bed.wav")), ("const", 0))
    clips = sorted(foreground.glob("*/*.wav"))
    for number in range(EVENTS):
        clip = clips[(seed * EVENTS + number) % len(clips)]
        length = sf.info(str(clip)).duration
        scene.add_event(
            label=("const", clip.parent.name),
            source_file=("const", str(clip)),
            source_time=("const", 0),
            event_time=("uniform", 0, seconds - length),
            event_duration=("const", length),
            snr=("uniform", 5, 20),
            pitch_shift=None,
            time_stretch=None,
        )
    scene.generate(audio_path=None, jams_path=None, disable_instantiation_warnings=True)


def main(folder: Path, seconds: float, scenes: int) -> None:
    """Print the median of several trials, after a scene that warms up."""
    warnings.simplefilter("ignore")
    mix(folder, seconds, 0)
    times = []
    for _ in range(TRIALS):
        begin = time.perf_counter()
        for seed in range(scenes):
            mix(folder, seconds, seed)
        times.append(time.perf_counter() - begin)
    print(scenes * seconds / statistics.median(times))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
