"""Suites that need no download: streams of built-in sounds, and streams made of a folder of recordings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from envs.clip_library import ClipLibrary
from envs.metrics import Metric, evaluate_traces
from envs.planning import deal
from envs.proactive import DealtScenarios
from envs.scenario import Scenario
from envs.stream_env import default_scenarios
from envs.suites import Coverage
from envs.trace import Trace
from trainers.clips import ClipFolder
from trainers.scenes import HELD_OUT_SEEDS, seeds

ABILITY_OF = {"proactive": "Proactive", "mixed": "Mixed"}  # the suites of built-in sounds
BUILT_IN_SUITES = (*ABILITY_OF, "clips")
DEFAULT_COUNT = 256  # streams of built-in sounds


@dataclass(frozen=True)
class StreamSuite:
    """Streams of our own as a `Suite`; they are judged by the metrics of `envs.metrics` alone.

    Attributes:
        name: As on the command line.
        tier: Which streams they are: two suites of one name and tier have the same ones.
        scenarios: The streams.
        seeds: Theirs.
        domains: Of the labels of recordings; those of built-in sounds need none.
        learned: Recordings that the classifier learns from, beside built-in sounds.
        recordings: What the streams are made of, where it is no built-in sounds.
    """

    name: str
    tier: str
    scenarios: Callable[[int], Scenario]
    seeds: Sequence[int]
    domains: dict[str, str] = field(default_factory=dict)
    learned: ClipLibrary | None = None
    recordings: ClipLibrary | None = None

    @property
    def notes(self) -> dict[str, str]:
        """None: the metrics' own meanings say all."""
        return {}

    @property
    def coverage(self) -> Coverage:
        """All of it: nothing has to be there."""
        return Coverage(len(self.seeds))

    def scenario(self, seed: int) -> Scenario:
        """Return one stream, known by its seed; one that is dealt has another one, of its own."""
        return replace(self.scenarios(seed), seed=seed)

    def predictions(self, traces: Sequence[Trace]) -> list[dict[str, Any]]:
        """Return what was said in each stream."""
        return [
            {"seed": trace.seed, "replies": [{"start_s": r.start_s, "text": r.text} for r in trace.replies]}
            for trace in traces
        ]

    def score(self, traces: Sequence[Trace]) -> dict[str, Metric]:
        """Return every metric over what was played."""
        return evaluate_traces(traces)


def built_in_suite(name: str, count: int = DEFAULT_COUNT, seed: int = 0) -> StreamSuite:
    """Return `count` streams of built-in sounds whose seeds no training has.

    Raises:
        ScenarioError: for a name that `ABILITY_OF` does not have.
    """
    scenarios = default_scenarios(ABILITY_OF.get(name, name))
    return StreamSuite(name, f"seed {seed}, {count} streams", scenarios, seeds(HELD_OUT_SEEDS, seed, count))


def clip_suite(clips: ClipFolder, seed: int = 0, held_out: float | None = None) -> StreamSuite:
    """Return proactive streams made of recordings, as `soundflow evaluate --clips` plays them.

    Args:
        clips: The recordings.
        seed: Of the streams.
        held_out: Judge only on this share of the recordings; None: on all of them.

    Raises:
        ManifestError, ScenarioError: when the recordings cannot be used.
    """
    learned, judged = (None, clips.read()) if held_out is None else clips.split(held_out)
    scenarios = DealtScenarios(tuple(deal(judged, seed)), seed)
    share = "" if held_out is None else f", held out {held_out}" + f", fold {clips.fold}" * (clips.fold > 0)
    tier = f"{clips.path.name}: {len(judged)} recordings{share}, seed {seed}, {len(scenarios)} streams"
    domains = {recording.clip.label: recording.clip.domain for recording in judged.recordings}
    return StreamSuite("clips", tier, scenarios, range(len(scenarios)), domains, learned, judged)
