"""Hours in which nothing deserves a word: false alarms an hour, by the noise's level and by the scene.

A stream is a minute of everyday sounds that deserve silence over the noise of one scene, at one signal-to-noise ratio:
the RMS of those sounds while they are on, over the RMS of the noise. Scenes are built in, or the kinds of noise of a
published corpus, of which each stream takes one recording, repeated without a seam.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from envs.audio import read_audio
from envs.clock import CHUNK_S, samples
from envs.composition import compose
from envs.errors import ScenarioError
from envs.foley import Foley
from envs.layouts import read_layout
from envs.metrics import Metric, rate_metric
from envs.noise import add_noise, make_loop
from envs.planning import plan_scene
from envs.records import BrokenRecord, Record
from envs.scenario import Audio, Event, Scenario
from envs.suites import Coverage, checked
from envs.trace import Trace

SNR_DB = (0.0, 5.0, 10.0, 20.0)
NOISE = "coloured noise"
SCENES = (NOISE, "rain", "fan", "engine", "speech_babble", "music")  # built in: noise alone, and sounds of these labels
LAYOUTS = ("musan", "wham", "dns_noise")
TIERS = ("built-in", *LAYOUTS)
STREAM_CHUNKS = 150
_ALONE_DB = 80.0  # what the noise of composition lies under the sounds, where a scene brings its own
_LONGEST_S = 60.0  # of a recording of noise


@dataclass(frozen=True)
class FalseAlarms:
    """Streams without a cue, a `Suite`; seed i is a ratio, a scene and a number.

    Attributes:
        scenes: In order.
        recordings: Of each scene, where it is one of a corpus.
        folder: Where they lie.
        broken: Recordings that cannot be used.
        repeats: Streams of each ratio in each scene.
    """

    scenes: tuple[str, ...] = SCENES
    recordings: Mapping[str, tuple[Record, ...]] | None = None
    folder: Path = Path()
    broken: tuple[BrokenRecord, ...] = ()
    repeats: int = 5
    name: ClassVar[str] = "false-alarms"
    notes: ClassVar[Mapping[str, str]] = {
        "false_alarms_per_hour": "replies over hours of stream; the count is of replies; 95 % intervals are Poisson's,"
        " exact (Garwood 1936): chi2(0.025; 2n) / 2 to chi2(0.975; 2n + 2) / 2 replies over the same hours",
        "snr": "the everyday sounds' RMS while they are on, over the noise's RMS",
    }

    @classmethod
    def built_in(cls, _: str) -> "FalseAlarms":
        """Return the suite over built-in noise and ambience: two hours."""
        return cls()

    @classmethod
    def read(cls, folder: Path, tier: str) -> "FalseAlarms":
        """Return the suite over the noise of a corpus.

        Args:
            folder: Where the corpus lies.
            tier: Its layout, one of `LAYOUTS`.

        Raises:
            ScenarioError: when the tier is the one that is built in.
            ManifestError: when the folder is not in that layout.
        """
        if tier not in LAYOUTS:
            raise ScenarioError(f"--tier: {tier} takes no --data; say how {folder} is laid out: {', '.join(LAYOUTS)}")
        rows = checked(folder, read_layout(folder, tier))
        kinds: dict[str, list[Record]] = {}
        for row in rows:
            if isinstance(row, Record):
                kinds.setdefault(row.columns["label"], []).append(row)
        broken = tuple(row for row in rows if isinstance(row, BrokenRecord))
        return cls(tuple(kinds), {kind: tuple(own) for kind, own in kinds.items()}, folder, broken)

    @property
    def seeds(self) -> Sequence[int]:
        """Of all streams."""
        return range(len(SNR_DB) * len(self.scenes) * self.repeats)

    @property
    def coverage(self) -> Coverage:
        """Streams are made here: none is missing; recordings that cannot be used are named beside them."""
        return Coverage(len(self.seeds) + len(self.broken), tuple(map(str, self.broken)))

    def cell(self, seed: int) -> tuple[float, str]:
        """Return the ratio in dB and the scene of a stream."""
        of_ratio, ratio = divmod(seed, len(SNR_DB))
        return SNR_DB[ratio], self.scenes[of_ratio % len(self.scenes)]

    def scenario(self, seed: int) -> Scenario:
        """Return a stream; the everyday sounds are the same at every ratio of a scene.

        Raises:
            AudioError: when a recording of noise cannot be decoded.
        """
        snr_db, scene = self.cell(seed)
        drawn = seed // len(SNR_DB)
        rng = np.random.default_rng([0xFA15E, drawn])
        plan = plan_scene(Foley(), rng, respond_share=0.0, chunks=(STREAM_CHUNKS, STREAM_CHUNKS), background=(0, 0))
        quiet = compose(replace(plan, ambient=()), drawn, snr_db=(_ALONE_DB, _ALONE_DB))
        noise = np.zeros_like(quiet.audio)
        if scene == NOISE:
            add_noise(rng, 1.0, noise)
        else:
            loop = make_loop(self._noise(rng, scene))
            loop.add_to(noise, int(rng.integers(len(loop.audio))), 1.0)
        mix = quiet.audio + noise * np.float32(_level(quiet) * 10 ** (-snr_db / 20) / max(_rms(noise), 1e-9))
        mix /= max(1.0, float(np.abs(mix).max()))
        bed = Event(scene, f"the noise of {scene}", "ambient", "IGNORE", 0.0, quiet.duration_s, self.name)
        return replace(quiet, seed=seed, audio=mix, events=(bed, *quiet.events))

    def _noise(self, rng: np.random.Generator, scene: str) -> Audio:
        if self.recordings is None:
            return Foley().draw(rng, "IGNORE", scene).audio
        rows = self.recordings[scene]
        audio = read_audio(self.folder / rows[int(rng.integers(len(rows)))].columns["path"])
        first = int(rng.integers(max(1, len(audio) - samples(_LONGEST_S) + 1)))
        return audio[first : first + samples(_LONGEST_S)]

    def predictions(self, traces: Sequence[Trace]) -> list[dict[str, Any]]:
        """Return a line a stream: its cell, and all that was said in it."""
        return [
            {
                "stream": trace.seed,
                "snr_db": self.cell(trace.seed)[0],
                "scene": self.cell(trace.seed)[1],
                "replies": [asdict(reply) for reply in trace.replies],
            }
            for trace in traces
        ]

    def score(self, traces: Sequence[Trace]) -> dict[str, Metric]:
        """Return false alarms an hour, of all streams, of each ratio and of each scene.

        Raises:
            ScenarioError: when nothing was played.
        """
        cells = [self.cell(trace.seed) for trace in traces]
        of_ratio = {f": snr {ratio:g} dB": [c[0] == ratio for c in cells] for ratio in SNR_DB}
        of_scene = {f": {scene}": [c[1] == scene for c in cells] for scene in self.scenes}
        groups = {"": [True] * len(traces), **of_ratio, **of_scene}
        hours = [trace.num_chunks * CHUNK_S / 3600 for trace in traces]
        return {
            f"false_alarms_per_hour{name}": rate_metric(
                [len(trace.replies) * wanted for trace, wanted in zip(traces, own, strict=True)],
                [h * wanted for h, wanted in zip(hours, own, strict=True)],
            )
            for name, own in groups.items()
            if any(own) or not name
        }


def _level(stream: Scenario) -> float:
    """Return the RMS of a stream where a foreground sound is on."""
    spans = [stream.audio[samples(event.onset_s) : samples(event.end_s)] for event in stream.events]
    return _rms(np.concatenate(spans))


def _rms(audio: Audio) -> float:
    return float(np.sqrt(np.square(audio, dtype=np.float64).mean()))
