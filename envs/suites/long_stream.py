"""Stability: five proactive streams joined into one, and how well each of the five is judged (the paper's figure).

A segment is 20 s of built-in sounds, or of recordings. Five streams in a row hold the same five segments, each time in
another rotation: every segment is heard once at each place, so that the numbers of two places differ by what was heard
before and by nothing else. Segments are joined with fades of 20 ms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from envs.clip_library import ClipLibrary
from envs.clock import CHUNK_S, samples
from envs.composition import FADE_S
from envs.foley import Foley
from envs.metrics import Metric, evaluate_traces
from envs.proactive import ProactiveScenarios
from envs.scenario import Audio, Event, Scenario
from envs.sources import ClipSource
from envs.suites import Coverage
from envs.trace import Reply, Trace

SEGMENTS = 5
SEGMENT_CHUNKS = 50
TIERS = ("proactive",)
_SEGMENT_S = SEGMENT_CHUNKS * CHUNK_S
_PER_SEGMENT = ("trigger_f1", "decision_accuracy", "false_alarms_per_hour")


@dataclass(frozen=True)
class LongStream:
    """Joined streams, a `Suite`; seed i is rotation `i % 5` of group `i // 5`.

    Attributes:
        source: Of the sounds.
        tier: What they are: numbers of built-in sounds do not stand beside those of recordings.
        groups: Of five streams each.
    """

    source: ClipSource
    tier: str = TIERS[0]
    groups: int = 12
    name: ClassVar[str] = "long-stream"
    notes: ClassVar[Mapping[str, str]] = {
        "segment k": "of the k-th 20 s alone; over all streams, the same segments stand at each place",
        "decision_accuracy": "of all foreground sounds, those answered or left alone as they deserve",
    }

    @classmethod
    def built_in(cls, _: str) -> "LongStream":
        """Return the suite over built-in sounds."""
        return cls(Foley())

    @classmethod
    def read(cls, folder: Path, _: str) -> "LongStream":
        """Return the suite over a folder of recordings with its `manifest.csv`.

        Raises:
            ManifestError: when they cannot be used.
        """
        library = ClipLibrary.from_folder(folder)
        return cls(library, f"{TIERS[0]}, {folder.resolve().name}: {len(library)} recordings")

    @property
    def seeds(self) -> Sequence[int]:
        """Of all streams."""
        return range(SEGMENTS * self.groups)

    @property
    def coverage(self) -> Coverage:
        """They are made here: none is missing."""
        return Coverage(len(self.seeds))

    def scenario(self, seed: int) -> Scenario:
        """Return a stream of five segments."""
        group, rotation = divmod(seed, SEGMENTS)
        parts = [self.segment(group, (place + rotation) % SEGMENTS) for place in range(SEGMENTS)]
        shifts = [place * _SEGMENT_S for place in range(SEGMENTS)]
        moved = [_later(part, shift_s) for part, shift_s in zip(parts, shifts, strict=True)]
        return replace(
            parts[0],
            seed=seed,
            audio=np.concatenate([_faded(part.audio) for part in parts]),
            events=tuple(event for part in moved for event in part.events),
            cues=tuple(cue for part in moved for cue in part.cues),
            timeline=tuple(entry for part in moved for entry in part.timeline),
        )

    def segment(self, group: int, number: int) -> Scenario:
        """Return one segment as a stream of its own."""
        own = np.random.SeedSequence([0x10A6, group, number]).generate_state(1)[0]
        return ProactiveScenarios(self.source, chunks=(SEGMENT_CHUNKS, SEGMENT_CHUNKS))(int(own))

    def predictions(self, traces: Sequence[Trace]) -> list[dict[str, Any]]:
        """Return a line a stream: its replies, with the cues that they answered."""
        return [{"stream": trace.seed, "replies": [asdict(reply) for reply in trace.replies]} for trace in traces]

    def score(self, traces: Sequence[Trace]) -> dict[str, Metric]:
        """Return metrics of whole streams, then those of each place.

        Raises:
            ScenarioError: when nothing was played.
        """
        whole = evaluate_traces(traces)
        places = [evaluate_traces([segment_of(trace, place) for trace in traces]) for place in range(SEGMENTS)]
        return {
            **{name: whole[name] for name in _PER_SEGMENT},
            **{f"{name}: segment {k}": own[name] for name in _PER_SEGMENT for k, own in enumerate(places, start=1)},
        }


def segment_of(trace: Trace, place: int) -> Trace:
    """Return what happened in one segment of a stream, as a trace of its own.

    A reply belongs to the segment of the cue that it answered, and a false alarm to the one in which it began.
    """
    begin_s, end_s = place * _SEGMENT_S, (place + 1) * _SEGMENT_S
    numbers = [i for i, cue in enumerate(trace.cues) if begin_s <= cue.onset_s < end_s]
    last = place == SEGMENTS - 1
    strays = [r for r in trace.replies if r.cue is None and begin_s < r.start_s and (last or r.start_s <= end_s)]
    matched = [replace(r, cue=numbers.index(r.cue)) for r in trace.replies if r.cue in numbers and r.cue is not None]
    replies: list[Reply] = sorted(strays + matched, key=lambda reply: reply.start_s)
    events: tuple[Event, ...] = tuple(event for event in trace.events if begin_s <= event.onset_s < end_s)
    cues = tuple(trace.cues[i] for i in numbers)
    return Trace(trace.seed, trace.ability, SEGMENT_CHUNKS, cues, events, replies=replies)


def _later(part: Scenario, shift_s: float) -> Scenario:
    """Return a segment whose events, cues and replies come later."""
    return replace(
        part,
        events=tuple(replace(e, onset_s=e.onset_s + shift_s) for e in part.events),
        cues=tuple(
            replace(c, onset_s=c.onset_s + shift_s, ready_s=c.ready_s + shift_s, deadline_s=c.deadline_s + shift_s)
            for c in part.cues
        ),
        timeline=tuple(replace(t, chunk=t.chunk + round(shift_s / CHUNK_S)) for t in part.timeline),
    )


def _faded(audio: Audio) -> Audio:
    """Return a copy whose ends are faded over 20 ms."""
    faded, width = audio.copy(), samples(FADE_S)
    ramp = np.linspace(0, 1, width, endpoint=False, dtype=np.float32)
    faded[:width] *= ramp
    faded[-width:] *= ramp[::-1]
    return faded
