"""What numbers depend on beside policy, suite and tier: a leaderboard does not rank those of other conditions together.

A condition is a name and a text that is the same where it is the same. Nothing is decoded or read anew for it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from envs.clip_library import ClipLibrary
from envs.suites import Suite
from envs.suites.false_alarms import FalseAlarms
from envs.suites.long_stream import LongStream
from envs.thinking import ThinkingTime
from envs.trace import Trace
from trainers.compose import fingerprint

_OF_ASKING = frozenset("base_url api_key_env timeout_s retries pause_s concurrency".split())  # as in a judge's cache
_DIGITS = 12


def thinking_words(thinking_s: ThinkingTime) -> str:
    """Return how long was thought.

    >>> thinking_words(0.5)
    '0.5 s'
    >>> thinking_words([0.04, 0.05])
    '2 measured times of sha256 1f408daf7982'
    """
    if isinstance(thinking_s, int | float):
        return f"{thinking_s:g} s"
    return f"{len(thinking_s)} measured times of sha256 {_digest([float(second) for second in thinking_s])}"


def stream_words(traces: Sequence[Trace]) -> str:
    """Return a name of streams that differs when what sounds in them, or what of it deserves which reply, does."""
    heard = [
        (
            trace.num_chunks,
            [(event.label, event.onset_s, event.duration_s) for event in trace.events],
            [(cue.label, cue.onset_s, cue.ready_s, cue.deadline_s, cue.replies) for cue in trace.cues],
        )
        for trace in traces
    ]
    return f"{len(traces)} of sha256 {_digest(heard)}"


def scorer_words(entry: Mapping[str, Any]) -> str:
    """Return what answers are judged by: a scorer's YAML, without what changes no score."""
    free = {"cache", *(_OF_ASKING if entry.get("name") == "judge" else ())}
    args = {key: value for key, value in (entry.get("args") or {}).items() if key not in free}
    return json.dumps({**entry, "args": args}, sort_keys=True)


def suite_conditions(suite: Suite, recordings: ClipLibrary | None = None) -> dict[str, str]:
    """Return what the name and the tier of a suite leave open: whose recordings its streams are made of, say.

    Args:
        suite: The suite.
        recordings: What its streams are made of, where they are somebody's own.
    """
    found = {name: suite.notes[name] for name in ("bleu",) if name in suite.notes}  # its signature has a version
    if isinstance(suite, LongStream) and isinstance(suite.source, ClipLibrary):
        recordings = suite.source
    if recordings is not None:
        found["recordings"] = fingerprint(recordings)
    if isinstance(suite, FalseAlarms) and suite.recordings is not None:
        paths = sorted(row.columns["path"] for rows in suite.recordings.values() for row in rows)
        sizes = [(path, (suite.folder / path).stat().st_size) for path in paths]  # hours of noise are not read twice
        found["recordings"] = f"{len(paths)} of names and sizes {_digest(sizes)}"
    return found


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:_DIGITS]
