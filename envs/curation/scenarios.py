"""Curated scenarios: a planner's outline, grounded in clips, composed into a stream."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from envs.clock import CHUNK_S
from envs.composition import compose
from envs.curation.grammar import GrammarPlanner
from envs.curation.grounding import Grounded, Grounding
from envs.curation.llm import LLMPlanner
from envs.curation.outline import Outline, SubEvent
from envs.curation.verification import Hearing, Verdict
from envs.errors import ConfigError, NoPlanError, ScenarioError, did_you_mean
from envs.planning import MEAN_GAP_S, RESPOND_SHARE, TAIL_S, ScenePlan, heard_s
from envs.scenario import Clip, Scenario
from envs.sources import Candidate, ClipSource

PLANNERS = ("grammar", "llm")
_PLANS = 3  # of different sounds, before a seed is given up


class Planner(Protocol):
    """Plans scenes in words, and judges the clips that are found for them."""

    @property
    def counts(self) -> Counter[str]:
        """What it refused of its own plans, by role and reason."""

    def outlines(
        self, rng: np.random.Generator, respond_share: float, candidates: Sequence[Candidate] = ()
    ) -> tuple[Outline, ...]:
        """Plan one scene, or two where what is to be heard cannot share one.

        Raises:
            PlanningError: when no plan can be had.
        """

    def verify(self, event: SubEvent, hearing: Hearing) -> Verdict:
        """Judge whether a clip may stand for a sub-event."""


@dataclass(frozen=True)
class CuratedScene:
    """An outline, and what became of it."""

    outline: Outline
    grounded: tuple[Grounded | None, ...]  # one for each sub-event; None: no clip is like it, or there was no room
    plan: ScenePlan


@dataclass(frozen=True)
class CuratedScenarios:
    """The scenario of every seed, planned by a planner; with the grammar: same seed, same bytes.

    Attributes:
        planner: Writes the outlines.
        source: Where clips are retrieved from.
        respond_share: Of the foreground sounds.
        chunks: Least and greatest length of a stream.
        grounding_counts: What became of every clip that was looked at, in this process.

    Raises:
        ScenarioError: when the share or the length is impossible, or the source is empty.
    """

    planner: Planner
    source: ClipSource
    respond_share: float = RESPOND_SHARE
    chunks: tuple[int, int] = (40, 60)
    grounding_counts: Counter[str] = field(default_factory=Counter, compare=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.respond_share <= 1.0:
            raise ScenarioError(f"respond_share is {self.respond_share}, expected 0 to 1")
        if not 1 <= self.chunks[0] <= self.chunks[1]:
            raise ScenarioError(f"chunks is {self.chunks}, expected the least and the greatest length of a stream")

    @property
    def counts(self) -> Counter[str]:
        """All that was rejected so far in this process: of the planner's answers and of the clips, by reason."""
        return self.planner.counts + self.grounding_counts

    def __call__(self, seed: int) -> Scenario:
        """Return the scenario of `seed`; see `plan`."""
        return compose(self.plan(seed), seed)

    def plan(self, seed: int) -> ScenePlan:
        """Return the plan of `seed`'s scene; where two were planned, even seeds take the first, odd ones the second.

        A seed with no usable plan is planned anew from other sounds, and counted: a corpus must not stop there.

        Raises:
            PlanningError: when the planner cannot be asked, or never has a plan.
        """
        attempt = 0
        while True:
            rng = self._rng(seed, attempt)
            try:
                outlines = self.planner.outlines(rng, self.respond_share, self._candidates)
                return self._curate(outlines[seed % len(outlines)], rng).plan
            except NoPlanError:
                attempt += 1
                if attempt == _PLANS:
                    raise
                self.grounding_counts["given up: a plan"] += 1

    def scenes(self, seed: int) -> Iterator[CuratedScene]:
        """Plan once, and yield each scene as it is grounded.

        Raises:
            PlanningError: when the planner has no plan.
        """
        rng = self._rng(seed, 0)
        for outline in self.planner.outlines(rng, self.respond_share, self._candidates):
            yield self._curate(outline, rng)

    @staticmethod
    def _rng(seed: int, attempt: int) -> np.random.Generator:
        return np.random.default_rng([seed, 0xC7, attempt] if attempt else [seed, 0xC7])

    @cached_property
    def _candidates(self) -> Sequence[Candidate]:
        return self.source.candidates()

    @cached_property
    def _grounding(self) -> Grounding:
        return Grounding(self._candidates, self.planner.verify, self.grounding_counts)

    def _curate(self, outline: Outline, rng: np.random.Generator) -> CuratedScene:
        """Ground one outline; what follows a sub-event that is dropped, by the outline's order, is dropped as well."""
        num_chunks = int(rng.integers(self.chunks[0], self.chunks[1] + 1))
        room_s = num_chunks * CHUNK_S - TAIL_S
        found: dict[int, Grounded] = {}
        foreground, beds = list[Clip](), list[Clip]()
        full = False
        for i in sorted(range(len(outline.sub_events)), key=lambda i: _turn(outline.sub_events[i])):
            event = outline.sub_events[i]
            if event.role != "foreground":
                if (bed := self._grounding.ground(event, rng, foreground, beds)) is not None:
                    found[i] = bed
                    beds.append(bed.clip)
                continue
            if full or any(then == i and first not in found for first, then in outline.order):
                self.grounding_counts["dropped: no room" if full else "dropped: what comes before it is"] += 1
                continue
            if (sound := self._grounding.ground(event, rng, foreground, beds)) is None:
                continue
            room_s -= heard_s(sound.clip) + MEAN_GAP_S
            full = room_s < 0
            if full:  # from here on: what was planned last is left out, so that no order is broken
                self.grounding_counts["dropped: no room"] += 1
                continue
            found[i] = sound
            foreground.append(sound.clip)
        grounded = tuple(found.get(i) for i in range(len(outline.sub_events)))
        return CuratedScene(outline, grounded, _scene_plan([found[i] for i in sorted(found)], num_chunks))


def _turn(event: SubEvent) -> int:
    """What lasts the whole scene is grounded first, then the foreground in its order, then other beds."""
    return 0 if event.whole_scene else 1 if event.role == "foreground" else 2


def _scene_plan(grounded: Sequence[Grounded], num_chunks: int) -> ScenePlan:
    def clips(role: str, whole_scene: bool = False) -> tuple[Clip, ...]:
        return tuple(g.clip for g in grounded if g.event.role == role and g.event.whole_scene == whole_scene)

    return ScenePlan(
        clips("foreground"), clips("background"), clips("ambient"), num_chunks, whole_scene=clips("ambient", True)
    )


def planner_from_options(name: str = "grammar", base_url: str | None = None, model: str | None = None) -> Planner:
    """Return the planner that a command line names.

    Args:
        name: "grammar", or "llm".
        base_url: Of an OpenAI-compatible endpoint, such as "http://127.0.0.1:8000/v1"; for "llm" only.
        model: The name of the endpoint's model; for "llm" only.

    Raises:
        ConfigError: for another name, or options that do not go with it.
        PlanningError: when the base URL is none.
    """
    if name not in PLANNERS:
        raise ConfigError(f"planner is {name!r}{did_you_mean(name, PLANNERS)}")
    if name == "grammar":
        if base_url is not None or model is not None:
            raise ConfigError("the planner 'grammar' asks no model; leave base URL and model out, or take 'llm'")
        return GrammarPlanner()
    if not base_url or not model:
        raise ConfigError(
            "the planner 'llm' needs a base URL and a model: --base-url http://127.0.0.1:8000/v1 --model X"
        )
    return LLMPlanner(base_url, model)


def curated_scenarios(
    source: ClipSource,
    planner: Planner | None = None,
    *,
    respond_share: float = RESPOND_SHARE,
    chunks: tuple[int, int] = (40, 60),
) -> CuratedScenarios:
    """Return scenarios curated from a source of clips; default planner: the grammar."""
    return CuratedScenarios(planner or GrammarPlanner(), source, respond_share, chunks)
