"""Proactive-Sound-Bench as streams: 644 recordings, of which 267 deserve a reply (paper, Proactive-Sound-Bench).

*single* tier: one recording a stream. *multiple* tier: recordings of one domain one after another, in streams of three
and of five. The release names no such streams, so ours are drawn once, from the manifest alone: every recording is in
exactly one of them, so that a prediction file has one line for each in both tiers, and there are about as many streams
of three as of five. Where a domain cannot be dealt out like that, its last stream is shorter.

Recordings are heard as they were published, without noise or other level, and each begins with a chunk. After each come
2.4 s of silence: the 2 s in which a reply counts everywhere in this project, and the chunk that the last decision is
taken on. After the last of a stream come another 4 s for words that were begun late: forty tokens, at four a chunk.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from envs.audio import header_fault, read_audio
from envs.clock import CHUNK_S, CHUNK_SAMPLES, SAMPLE_RATE, chunks_to_cover, due_chunk
from envs.errors import ScenarioError, did_you_mean
from envs.metrics import Metric, percentile_metric, share_metric
from envs.records import missing
from envs.scenario import GRACE_S, Audio, Cue, Event, Scenario, TimelineEntry
from envs.suites import Coverage
from envs.suites.proactive_manifest import BENCHMARK, BenchItem, read_items
from envs.suites.proactive_predictions import prediction_line, predictions_of
from envs.suites.proactive_scores import MODES, Verdict, score_predictions
from envs.trace import Reply, Trace

TIERS = ("single", "multiple")
GAP_CHUNKS = chunks_to_cover(GRACE_S + CHUNK_S)
RELEASED = 644  # recordings, in either tier
TALK_CHUNKS = chunks_to_cover(4.0)
Stream = tuple[BenchItem, ...]


@dataclass(frozen=True)
class ProactiveSoundBench:
    """One tier of the benchmark, a `Suite`; seed i is the i-th stream."""

    folder: Path
    tier: str
    streams: tuple[Stream, ...]
    name: ClassVar[str] = "proactive-sound-bench"
    notes: ClassVar[Mapping[str, str]] = {
        "official_accuracy": "undecided items are left out, as by the published scorer",
        "strict_accuracy": "undecided and contradictory items are wrong",
        "latency": "seconds from a sound's end to the beginning of the reply that rightly answers it",
    }

    @classmethod
    def read(cls, folder: Path, tier: str = "single") -> "ProactiveSoundBench":
        """Read the manifests of a folder; the recordings lie in it where their paths say.

        Raises:
            ScenarioError: when there is no such tier.
            ManifestError: as `read_items`.
        """
        if tier not in TIERS:
            raise ScenarioError(f"no tier of {cls.name} is called {tier!r}{did_you_mean(tier, TIERS)}")
        items = read_items(folder)
        return cls(folder, tier, tuple((item,) for item in items) if tier == "single" else streams_of(items))

    @cached_property
    def _lacking(self) -> dict[int, str]:
        """The streams of which a recording is not there or cannot be read, each with what is said of the first."""
        found = {seed: next(filter(None, map(self._fault, stream)), "") for seed, stream in enumerate(self.streams)}
        return {seed: fault for seed, fault in found.items() if fault}

    def _fault(self, item: BenchItem) -> str:
        """Return the path of a recording that is not there, or why it cannot be read; blank: it may be."""
        if missing(self.folder, item.path, str(self.folder / BENCHMARK)):
            return item.path
        return header_fault(self.folder / item.path)

    @property
    def seeds(self) -> Sequence[int]:
        """Of the streams all of whose recordings are there."""
        return [seed for seed in range(len(self.streams)) if seed not in self._lacking]

    @property
    def coverage(self) -> Coverage:
        """How many streams are there; one that lacks a recording would be another stream, and is left out."""
        gone = tuple(f"stream {seed} ({reason})" for seed, reason in self._lacking.items())
        return Coverage(len(self.streams), gone, sum(map(len, self.streams)), RELEASED)

    @property
    def stream_sizes(self) -> dict[str, int]:
        """How many recordings the stream of each id has."""
        return {item.id: len(stream) for stream in self.streams for item in stream}

    def scenario(self, seed: int) -> Scenario:
        """Return a stream; every recording that deserves a reply is a cue, ready at its end.

        Raises:
            AudioError: when a recording cannot be decoded.
        """
        parts: list[Audio] = []
        events, chunks = [], 0
        for item in self.streams[seed]:
            audio = read_audio(self.folder / item.path)
            events.append(_event(item, chunks, len(audio)))
            span = -(-len(audio) // CHUNK_SAMPLES) + GAP_CHUNKS
            parts.append(np.pad(audio, (0, span * CHUNK_SAMPLES - len(audio))))
            chunks += span
        parts.append(np.zeros(TALK_CHUNKS * CHUNK_SAMPLES, np.float32))
        heard = list(zip(self.streams[seed], events, _windows(events, chunks + TALK_CHUNKS), strict=True))
        answered = [(item, event, end_s) for item, event, end_s in heard if item.decision == "RESPOND"]
        return Scenario(
            seed=seed,
            ability="Proactive",
            audio=np.concatenate(parts),
            events=tuple(events),
            cues=tuple(_cue(item, event, end_s) for item, event, end_s in answered),
            timeline=tuple(TimelineEntry(due_chunk(event.end_s), item.references[0]) for item, event, _ in answered),
        )

    def predictions(self, traces: Sequence[Trace]) -> list[dict[str, Any]]:
        """Return a line for every recording that was heard: RESPOND where a reply began in its window.

        A window begins when the first chunk of its recording has been heard, and ends when the last chunk before the
        next recording has; the last one lasts to the stream's end.
        """
        lines = {}
        for trace in traces:
            for item, event, replies in self._heard(trace):
                latency_s = replies[0].start_s - event.end_s if replies else None
                lines[item.id] = prediction_line(item.id, [reply.text for reply in replies], latency_s)
        order = [item.id for stream in self.streams for item in stream]
        return [lines[item_id] for item_id in order if item_id in lines]

    def score(self, traces: Sequence[Trace]) -> dict[str, Metric]:
        """Return accuracies of both modes, of each kind, domain and sub-domain, and the latency, over what was heard.

        Intervals resample whole streams. Latencies are seconds from a sound's end to the reply that rightly answers it.

        Raises:
            ScenarioError: when nothing was played.
        """
        if not traces:
            raise ScenarioError(f"{self.folder}: no stream of {self.name} was played; its recordings are not there")
        predictions = predictions_of(self.predictions(traces))
        official, strict = (
            [score_predictions(self.streams[trace.seed], predictions, mode).counted for trace in traces]
            for mode in MODES
        )
        latencies = [[v.latency_s for v in stream if _is_respond(v) and v.latency_s is not None] for stream in strict]
        heard = [item for trace in traces for item in self.streams[trace.seed]]
        groups = sorted({item.domain for item in heard} | {item.sub_domain for item in heard})
        return {
            "official_accuracy": _accuracy(official, _is_any),
            "strict_accuracy": _accuracy(strict, _is_any),
            "balanced_accuracy": _accuracy(strict, _is_respond, _is_ignore),
            "respond_accuracy": _accuracy(strict, _is_respond),
            "ignore_accuracy": _accuracy(strict, _is_ignore),
            "latency_p50_s": percentile_metric(latencies, 50),
            "latency_p95_s": percentile_metric(latencies, 95),
            **{group: _accuracy(strict, partial(_is_of, group)) for group in groups},
        }

    def _heard(self, trace: Trace) -> list[tuple[BenchItem, Event, list[Reply]]]:
        """Return the recordings of a stream, each with the replies that began in its window."""
        begin_s, heard = 0.0, []
        ends_s = _windows(trace.events, trace.num_chunks)
        for item, event, end_s in zip(self.streams[trace.seed], trace.events, ends_s, strict=True):
            last = event is trace.events[-1]
            replies = [r for r in trace.replies if begin_s < r.start_s and (last or r.start_s <= end_s)]
            heard.append((item, event, replies))
            begin_s = end_s
        return heard


def _accuracy(streams: Sequence[Sequence[Verdict]], *kinds: Callable[[Verdict], bool]) -> Metric:
    """Return the accuracy over the recordings of a kind, or the mean over several kinds, with its interval."""
    chosen = [[[float(v.right) for v in stream if kind(v)] for stream in streams] for kind in kinds]
    return share_metric(*(([*map(sum, of)], [*map(len, of)]) for of in chosen))


def _is_any(_: Verdict) -> bool:
    return True


def _is_respond(verdict: Verdict) -> bool:
    return verdict.item.decision == "RESPOND"


def _is_ignore(verdict: Verdict) -> bool:
    return verdict.item.decision == "IGNORE"


def _is_of(group: str, verdict: Verdict) -> bool:
    return group in (verdict.item.domain, verdict.item.sub_domain)


def streams_of(items: Sequence[BenchItem]) -> tuple[Stream, ...]:
    """Deal the recordings of each domain out into streams of three and of five; it follows from the items alone."""
    streams = []
    for number, domain in enumerate(dict.fromkeys(item.domain for item in items)):
        own = [item for item in items if item.domain == domain]
        order = np.random.default_rng([number, 0x5B]).permutation(len(own)).tolist()
        for size in _sizes(len(own)):
            streams.append(tuple(own[order.pop()] for _ in range(size)))
    return tuple(streams)


def _sizes(count: int) -> list[int]:
    """Return threes and fives that add up to a count, as many of one as of the other, or what is left as the last.

    >>> _sizes(15), _sizes(16), _sizes(4)
    ([5, 5, 5], [3, 3, 5, 5], [3, 1])
    """
    for left in range(count + 1):
        ways = [(threes, (count - left - 3 * threes) // 5) for threes in range((count - left) // 3 + 1)]
        exact = [way for way in ways if 3 * way[0] + 5 * way[1] == count - left]
        if exact:
            threes, fives = min(exact, key=lambda way: abs(way[0] - way[1]))
            return [3] * threes + [5] * fives + [left] * bool(left)
    return []


def _event(item: BenchItem, chunk: int, length: int) -> Event:
    """Place a recording of `length` samples at the beginning of a chunk."""
    onset_s = chunk * CHUNK_SAMPLES / SAMPLE_RATE
    caption = item.description
    return Event(caption, caption, "foreground", item.decision, onset_s, length / SAMPLE_RATE, item.path)


def _cue(item: BenchItem, event: Event, deadline_s: float) -> Cue:
    """Return what deserves a reply. The release says neither when enough is heard, nor why, nor how urgent it is."""
    return Cue(event.onset_s, event.end_s, deadline_s, item.description, item.references, (), 1.0, "", item.sub_domain)


def _windows(events: Sequence[Event], num_chunks: int) -> list[float]:
    """Return when the window of each event ends, in seconds: where the next begins, or with the stream."""
    return [*(event.onset_s for event in events[1:]), num_chunks * CHUNK_SAMPLES / SAMPLE_RATE]
