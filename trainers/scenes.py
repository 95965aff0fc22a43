"""Which scenarios serve which purpose, and those composed once to be played often."""

from collections.abc import Callable, Sequence

from envs.scenario import Scenario
from envs.workers import compose_all

# Seeds of training, validation and evaluation never meet, nor do those of corpora on disk (`envs.corpus.layout`).
TRAIN_SEEDS, PPO_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS = 0, 10_000_000, 20_000_000, 30_000_000


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
