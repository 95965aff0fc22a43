"""The proactive ability: streams of sounds, some of which deserve a word and most of which do not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from envs.composition import compose
from envs.noise import SNR_DB
from envs.planning import BACKGROUND, RESPOND_SHARE, ScenePlan, plan_scene
from envs.scenario import Clip, Scenario
from envs.sources import ClipSource


@dataclass(frozen=True)
class ProactiveScenarios:
    """The scenario of every seed, planned from a source of clips.

    Attributes:
        source: The clips.
        respond_share: Share of the foreground sounds that deserve a reply.
        chunks: Least and greatest length of a stream.
        background: Least and greatest number of sounds that lie under the foreground.
        snr_db: Least and greatest distance of the foreground's level to the noise's, in dB.
        answer_window_s: Seconds from the moment at which a reply is due to its deadline; None: as each sound has it.
    """

    source: ClipSource
    respond_share: float = RESPOND_SHARE
    chunks: tuple[int, int] = (40, 60)
    background: tuple[int, int] = BACKGROUND
    snr_db: tuple[float, float] = SNR_DB
    answer_window_s: float | None = None

    def __call__(self, seed: int) -> Scenario:
        """Return the scenario of `seed`: same seed, same bytes."""
        rng = np.random.default_rng([seed, 0x9A])
        plan = plan_scene(
            self.source, rng, respond_share=self.respond_share, chunks=self.chunks, background=self.background
        )
        if self.answer_window_s is not None:
            plan = replace(plan, foreground=tuple(_with_window(c, self.answer_window_s) for c in plan.foreground))
        return compose(plan, seed, snr_db=self.snr_db)


def _with_window(clip: Clip, seconds: float) -> Clip:
    return replace(clip, answers=tuple(replace(answer, grace_s=seconds) for answer in clip.answers))


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
