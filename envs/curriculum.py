"""A curriculum: streams that grow harder in the course of a training, and follow from progress and seed alone.

In a run's YAML, each stage lasts until a share of the training is done; what it leaves out is as in any stream:

    curriculum:
      - {until: 0.3, snr_db: [20, 30], distractors: 0.2, background: [0, 0], answer_window_s: 3.0}
      - {until: 1.0, snr_db: [5, 20], distractors: 0.6, background: [0, 2], answer_window_s: 2.0}
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from envs.clock import CHUNK_S, chunks_to_cover
from envs.errors import ConfigError
from envs.planning import TAIL_S
from envs.proactive import ProactiveScenarios
from envs.scenario import GRACE_S

_BOUNDS: dict[str, tuple[float, float]] = {
    "snr_db": (-20.0, 60.0),
    "distractors": (0.0, 1.0),
    "background": (0, 8),
    "chunks": (chunks_to_cover(TAIL_S) + 1, 9000),  # an hour
    "answer_window_s": (CHUNK_S, 10.0),
}
# The sign in which each grows harder; a longer stream is neither harder nor easier.
_HARDER = {"snr_db": -1, "distractors": 1, "background": 1, "answer_window_s": -1}


@dataclass(frozen=True)
class Stage:
    """How hard the streams of one part of a training are; None: as without a curriculum.

    Attributes:
        until: The share of the training at which the stage ends, in (0, 1].
        snr_db: Least and greatest distance of the foreground's level to the noise's, in dB.
        distractors: Share of the foreground sounds that deserve silence, in [0, 1].
        background: Least and greatest number of sounds that lie under the foreground.
        chunks: Least and greatest length of a stream, in chunks.
        answer_window_s: Seconds from the moment at which a reply is due (mostly its sound's end) to its deadline.
    """

    until: float
    snr_db: tuple[float, float] | None = None
    distractors: float | None = None
    background: tuple[int, int] | None = None
    chunks: tuple[int, int] | None = None
    answer_window_s: float | None = None


class Curriculum:
    """Scenarios that become harder with a training's progress.

    The scenario of a progress and a seed has the same bytes always: `at` draws nothing, and what it returns can be
    pickled for worker processes.

    Args:
        base: The scenarios of a training without a curriculum; stages change them.
        stages: In order; the last ends at 1. None at all: the base, always.

    Raises:
        ConfigError: naming the stage and the key, when the stages do not follow each other from easy to hard, or one
            cannot be composed.
    """

    def __init__(self, base: ProactiveScenarios, stages: Sequence[Stage] = ()) -> None:
        self.base, self.stages = base, tuple(stages)
        faults = [*_faults(self.stages)] or [*self._steps_back()]
        if faults:
            raise ConfigError("; ".join(faults))

    def at(self, progress: float) -> ProactiveScenarios:
        """Return the scenarios of a moment of the training.

        Args:
            progress: The share of it that is done, in [0, 1].

        Raises:
            ConfigError: when there is no such share.
        """
        return self._of(self.stage_at(progress))

    def stage_at(self, progress: float) -> Stage | None:
        """Return the stage of a moment of the training; None without any: as `at` does."""
        if not 0.0 <= progress <= 1.0:
            raise ConfigError(f"curriculum: the progress is {progress}, expected a share from 0 to 1")
        at_its_end = self.stages[-1:] or (None,)
        return next((stage for stage in self.stages if progress < stage.until), at_its_end[0])

    def _of(self, stage: Stage | None) -> ProactiveScenarios:
        if stage is None:
            return self.base
        base = self.base
        return replace(
            base,
            snr_db=base.snr_db if stage.snr_db is None else stage.snr_db,
            respond_share=base.respond_share if stage.distractors is None else 1.0 - stage.distractors,
            background=base.background if stage.background is None else stage.background,
            chunks=base.chunks if stage.chunks is None else stage.chunks,
            answer_window_s=base.answer_window_s if stage.answer_window_s is None else stage.answer_window_s,
        )

    def _steps_back(self) -> Iterator[str]:
        """Yield where a stage is easier than the one before it."""
        levels = [_levels(self._of(stage)) for stage in self.stages]
        for number, (before, after) in enumerate(pairwise(levels), start=2):
            for key, sign in _HARDER.items():
                if sign * (after[key] - before[key]) < 0:
                    yield (
                        f"curriculum: stage {number} is easier than the one before: {key} is {after[key]:g} after"
                        f" {before[key]:g} (of a range, its middle); go from easy to hard"
                    )


def _levels(scenarios: ProactiveScenarios) -> dict[str, float]:
    """Return how hard scenarios are, by key; a range counts by its middle."""
    window = scenarios.answer_window_s
    return {
        "snr_db": sum(scenarios.snr_db) / 2,
        "distractors": 1.0 - scenarios.respond_share,
        "background": sum(scenarios.background) / 2,
        "answer_window_s": GRACE_S if window is None else window,
    }


def _faults(stages: Sequence[Stage]) -> Iterator[str]:
    """Yield what is wrong with each stage, and with their ends."""
    ends = [0.0, *(stage.until for stage in stages)]
    for number, stage in enumerate(stages, start=1):
        where = f"curriculum: stage {number}"
        before = ends[number - 1]
        if not before < stage.until <= 1.0:
            yield f"{where}: until is {stage.until}, expected more than {before}, at most 1"
        for key, (least, most) in _BOUNDS.items():
            value = getattr(stage, key)
            low, high = value if isinstance(value, Sequence) else (value, value)
            if value is not None and not least <= low <= high <= most:
                kind = "least and greatest" if isinstance(value, Sequence) else "a number"
                yield f"{where}: {key} is {value}, expected {kind} from {least} to {most}"
    if stages and ends[-1] != 1.0:
        yield f"curriculum: the last stage ends at {ends[-1]}, expected 1: what comes after it?"
