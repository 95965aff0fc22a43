"""Which scenarios serve which purpose, and those composed once to be played often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from envs.curriculum import Curriculum, Stage
from envs.scenario import Scenario
from envs.workers import compose_all

# Seeds of training, validation and evaluation never meet, nor do those of corpora on disk (`envs.corpus.layout`).
TRAIN_SEEDS, PPO_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS = 0, 10_000_000, 20_000_000, 30_000_000

ScenariosAt = Callable[[float], Callable[[int], Scenario]]  # of a training's progress in [0, 1]: those of its moment


def seeds(base: int, run_seed: int, count: int) -> range:
    """Return `count` scenario seeds of one purpose and run."""
    first = base + run_seed * 100_000_000
    return range(first, first + count)


class Composed:
    """Scenarios composed beforehand, by seed; for streams that are played several times."""

    def __init__(self, scenarios: Callable[[int], Scenario], wanted: Sequence[int], workers: int) -> None:
        self.by_seed = dict(zip(wanted, compose_all(scenarios, wanted, workers), strict=True))

    def __call__(self, seed: int) -> Scenario:
        """Return the scenario of a seed."""
        return self.by_seed[seed]


@dataclass(frozen=True)
class Steady:
    """Scenarios that are the same in the whole course of a training: no curriculum."""

    scenarios: Callable[[int], Scenario]

    def __call__(self, progress: float) -> Callable[[int], Scenario]:
        """Return the scenarios, whatever the progress."""
        return self.scenarios


class ComposedCurriculum:
    """A curriculum's scenarios: all that are wanted are composed when their stage begins, or is gone on with.

    Args:
        curriculum: Of the training.
        wanted: Seeds of the streams that are played, in each stage again.
        workers: Processes that compose.
        at: Give the scenarios of a moment, which change with the stage alone; default: the curriculum's.
    """

    def __init__(
        self, curriculum: Curriculum, wanted: Sequence[int], workers: int, at: ScenariosAt | None = None
    ) -> None:
        self.curriculum, self.wanted, self.workers = curriculum, wanted, workers
        self.at: ScenariosAt = at or curriculum.at
        self._composed: tuple[Stage | None, Composed] | None = None  # of one stage: the one before it is done

    def __call__(self, progress: float) -> Composed:
        """Return the scenarios of a moment of the training."""
        stage = self.curriculum.stage_at(progress)
        if self._composed is None or self._composed[0] != stage:
            self._composed = stage, Composed(self.at(progress), self.wanted, self.workers)
        return self._composed[1]
