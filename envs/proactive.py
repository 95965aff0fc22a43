"""The proactive ability: streams of sounds, some of which deserve a word and most of which do not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.composition import compose
from envs.planning import RESPOND_SHARE, ScenePlan, plan_scene
from envs.scenario import Scenario
from envs.sources import ClipSource


@dataclass(frozen=True)
class ProactiveScenarios:
    """The scenario of every seed, planned from a source of clips."""

    source: ClipSource
    respond_share: float = RESPOND_SHARE
    chunks: tuple[int, int] = (40, 60)

    def __call__(self, seed: int) -> Scenario:
        """Return the scenario of `seed`: same seed, same bytes."""
        rng = np.random.default_rng([seed, 0x9A])
        plan = plan_scene(self.source, rng, respond_share=self.respond_share, chunks=self.chunks)
        return compose(plan, seed)


@dataclass(frozen=True)
class DealtScenarios:
    """Scenarios of given plans: number i renders plan i."""

    plans: Sequence[ScenePlan]
    seed: int = 0

    def __len__(self) -> int:
        return len(self.plans)

    def __call__(self, index: int) -> Scenario:
        """Return the scenario of plan `index`."""
        return compose(self.plans[index], int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0]))
