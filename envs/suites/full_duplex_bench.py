"""Full-Duplex-Bench 1.0: who takes the turn, and how soon (Lin et al. 2025).

`SUBSET/ID/input.wav` with `pause.json`, `turn_taking.json` or `interrupt.json` beside it, each a list whose first item
has a `timestamp`, [begin, end] in seconds. The release's scorer transcribes what a model said; our replies are text
with times already, and the same thresholds are applied to them. Our reading, where it has to differ:

- A stream is `input.wav` and nothing after it, so that no reply can come once the user is gone.
- What was said of an interruption is what began after the interruption did; the release cuts the sound at its end.
- When people gave backchannels is published with the release's scorer, and not with its recordings: the distance to it
  is computed where `icc_gt_distribution.json` has been laid beside the subsets, `{ID: [share of each window, ...]}`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from envs.audio import header_fault, read_audio
from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.errors import ManifestError, ScenarioError
from envs.metrics import Metric, percentile_metric, share_metric
from envs.scenario import Scenario
from envs.suites import Coverage
from envs.trace import Reply, Trace

TIERS = ("1.0",)
_SUBSETS = {  # of each its task, and the file that says when
    "candor_pause_handling": ("pause handling", "pause.json"),
    "synthetic_pause_handling": ("pause handling", "pause.json"),
    "candor_turn_taking": ("smooth turn taking", "turn_taking.json"),
    "synthetic_user_interruption": ("user interruption", "interrupt.json"),
    "icc_backchannel": ("backchannel", ""),
}
_TURN_S, _TURN_WORDS = 1.0, 3  # what is shorter than both takes no turn
_BACKCHANNEL_WORDS = 2
PEOPLE = "icc_gt_distribution.json"
_WINDOW_S, _LEAST = 0.2, 1e-10  # of the scorer: how long a window is, and what one without a backchannel holds
_TIMED = ("smooth turn taking", "user interruption")


@dataclass(frozen=True)
class DuplexItem:
    """One recording; `heard_from_s` and `clock_s` are 0 where nothing is timed."""

    path: str  # of its folder
    task: str
    heard_from_s: float = 0.0  # replies that began earlier answer something else
    clock_s: float = 0.0  # from where latency counts: the end of the user's turn or interruption


@dataclass(frozen=True)
class FullDuplexBench:
    """The benchmark as a `Suite`; seed i is the i-th recording that is there."""

    folder: Path
    items: tuple[DuplexItem, ...]
    missing: tuple[str, ...]
    people: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # backchannels a window; empty: not known
    name: ClassVar[str] = "full-duplex-bench"
    notes: ClassVar[Mapping[str, str]] = {
        "takeover_rate": "streams whose replies last a second, first to last, or have more than three words;"
        " of backchannel, in which a reply lasts a second or has more than two. Wanted: low in pauses and backchannels",
        "latency": "seconds from the end of the user's turn (turn_taking.json, first timestamp's begin) or interruption"
        " (interrupt.json, its end) to the first reply's beginning, of takeovers alone; 0 where that is earlier",
        "backchannels_per_s": "short replies over seconds, of streams without a takeover",
        "backchannel_distance": "Jensen-Shannon distance (natural logarithm) of short replies and people's backchannels"
        f" over windows of {_WINDOW_S} s, 1 where there is a takeover or nothing is said; needs {PEOPLE}",
    }

    @classmethod
    def read(cls, folder: Path, _: str = "1.0") -> "FullDuplexBench":
        """Read the annotations of a folder, or of its folder `v1.0`; no recording is opened.

        Raises:
            ManifestError: when it holds no subset of the release, or naming the annotation that is none.
        """
        home = folder / "v1.0" if (folder / "v1.0").is_dir() else folder
        items, gone = [], []
        there = [subset for subset in _SUBSETS if (home / subset).is_dir()]
        if not there:
            raise ManifestError(f"{folder}: holds none of {', '.join(_SUBSETS)}, which the release consists of")
        for subset, (task, annotation) in _SUBSETS.items():
            own = [path for path in (home / subset).iterdir() if path.is_dir()] if subset in there else []
            if not own:
                gone.append(f"{subset} (all its recordings)")
            for path in sorted(own, key=lambda found: (len(found.name), found.name)):
                place = f"{subset}/{path.name}"
                lost = [name for name in ("input.wav", annotation) if name and not (path / name).is_file()]
                if lost:
                    gone.append(f"{place}/{lost[0]}")
                elif fault := header_fault(path / "input.wav"):
                    gone.append(fault)
                else:
                    items.append(_item(home, place, task, annotation))
        file = next((place / PEOPLE for place in (home, folder) if (place / PEOPLE).is_file()), None)
        ids = [Path(item.path).name for item in items if item.task == "backchannel"]
        return cls(home, tuple(items), tuple(gone), {} if file is None else _people(file, ids))

    @property
    def seeds(self) -> Sequence[int]:
        """Of the recordings that are there."""
        return range(len(self.items))

    @property
    def coverage(self) -> Coverage:
        """How many recordings are there with their annotation."""
        return Coverage(len(self.items) + len(self.missing), self.missing)

    def scenario(self, seed: int) -> Scenario:
        """Return a recording as a stream without cues.

        Raises:
            AudioError: when it cannot be decoded.
        """
        audio = read_audio(self.folder / self.items[seed].path / "input.wav")
        padded = np.pad(audio, (0, -len(audio) % CHUNK_SAMPLES))
        return Scenario(seed, "VoiceChat", padded, (), (), ())

    def predictions(self, traces: Sequence[Trace]) -> list[dict[str, Any]]:
        """Return a line a recording: what was said, and when."""
        return [{"id": self.items[t.seed].path, "replies": [asdict(reply) for reply in t.replies]} for t in traces]

    def score(self, traces: Sequence[Trace]) -> dict[str, Metric]:
        """Return takeover rates and latencies of each task that was played.

        Raises:
            ScenarioError: when nothing was played.
        """
        if not traces:
            raise ScenarioError(f"{self.folder}: no stream of {self.name} was played; {self.coverage}")
        scores: dict[str, Metric] = {}
        for task in dict.fromkeys(self.items[trace.seed].task for trace in traces):
            own = [(self.items[trace.seed], trace) for trace in traces if self.items[trace.seed].task == task]
            said = [[r for r in trace.replies if r.start_s >= item.heard_from_s] for item, trace in own]
            ends_s = [trace.num_chunks * CHUNK_S for _, trace in own]
            taken = [_takes_turn(task, replies, end_s) for replies, end_s in zip(said, ends_s, strict=True)]
            scores[f"takeover_rate: {task}"] = share_metric(([float(t) for t in taken], [1.0] * len(taken)))
            if task in _TIMED:
                waits = [
                    [max(0.0, replies[0].start_s - item.clock_s)] if took else []
                    for (item, _), replies, took in zip(own, said, taken, strict=True)
                ]
                scores[f"latency_mean_s: {task}"] = share_metric(([sum(w) for w in waits], [len(w) for w in waits]))
                scores[f"latency_p50_s: {task}"] = percentile_metric(waits, 50)
            if task == "backchannel":
                short = [0.0 if took else float(len(replies)) for replies, took in zip(said, taken, strict=True)]
                seconds = [0.0 if took else end_s for end_s, took in zip(ends_s, taken, strict=True)]
                scores["backchannels_per_s"] = share_metric((short, seconds))
                if self.people:
                    apart = [
                        1.0 if took or not replies else _distance(replies, end_s, self.people[Path(item.path).name])
                        for (item, _), replies, end_s, took in zip(own, said, ends_s, taken, strict=True)
                    ]
                    scores["backchannel_distance"] = share_metric((apart, [1.0] * len(apart)))
        return scores


def _takes_turn(task: str, replies: Sequence[Reply], end_s: float) -> bool:
    """Return whether replies take the turn; one that the stream's end cut off lasts until then."""
    if not replies:
        return False
    ends_s = [end_s if reply.end_s is None else reply.end_s for reply in replies]
    words = [len(reply.text.split()) for reply in replies]
    if task == "backchannel":
        lasting = any(end - r.start_s >= _TURN_S for r, end in zip(replies, ends_s, strict=True))
        return lasting or max(words) > _BACKCHANNEL_WORDS
    return ends_s[-1] - replies[0].start_s >= _TURN_S or sum(words) > _TURN_WORDS


def _distance(replies: Sequence[Reply], end_s: float, people: Sequence[float]) -> float:
    """Return how far apart replies and people's backchannels lie in time, people's stretched to the stream."""
    from scipy.spatial.distance import jensenshannon  # noqa: PLC0415 - `import envs` stays light

    windows = np.full(int(end_s / _WINDOW_S) + 1, _LEAST)
    for reply in replies:
        last_s = end_s if reply.end_s is None else reply.end_s
        windows[int(reply.start_s / _WINDOW_S) : int(last_s / _WINDOW_S) + 1] += 1
    stretched = np.interp(np.linspace(0, 1, len(windows)), np.linspace(0, 1, len(people)), people)
    return float(jensenshannon(windows, stretched))


def _people(file: Path, ids: Sequence[str]) -> dict[str, tuple[float, ...]]:
    try:
        shares = json.loads(file.read_text(encoding="utf-8"))
        people = {name: tuple(float(share) for share in shares[name]) for name in ids}
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ManifestError(
            f"{file}: expected {{ID: [share, ...]}} of every backchannel recording, got none: {error!r}"
        ) from error
    for name, own in people.items():
        if not 0 < sum(own) < np.inf or min(own) < 0:
            raise ManifestError(f"{file}: the shares of {name!r} are {own[:3]}..., expected some above 0, none below")
    return people


def _item(home: Path, place: str, task: str, annotation: str) -> DuplexItem:
    if task not in _TIMED:
        return DuplexItem(place, task)
    file = home / place / annotation
    try:
        first = json.loads(file.read_text(encoding="utf-8"))[0]["timestamp"]
        begin_s, end_s = (float(moment) for moment in first)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ManifestError(f'{file}: expected [{{"timestamp": [begin, end], ...}}], got none: {error!r}') from error
    return DuplexItem(place, task, 0.0, begin_s) if task == _TIMED[0] else DuplexItem(place, task, begin_s, end_s)
