"""Compose many scenarios at once, in worker processes, in the order of their seeds."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

from envs.scenario import Scenario

# Seeds of training, validation and evaluation never meet.
TRAIN_SEEDS, PPO_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS = 0, 10_000_000, 20_000_000, 30_000_000
_BLOCK = 4

_scenarios: Callable[[int], Scenario] | None = None  # of a worker process, set once by its initializer


def seeds(base: int, run_seed: int, count: int) -> range:
    """Return `count` scenario seeds of one purpose and run."""
    first = base + run_seed * 100_000_000
    return range(first, first + count)


def compose_all(scenarios: Callable[[int], Scenario], wanted: Sequence[int], workers: int) -> Iterator[Scenario]:
    """Yield the scenario of every seed, in order; `workers` processes work ahead."""
    if workers <= 1:
        yield from map(scenarios, wanted)
        return
    context = multiprocessing.get_context("spawn")  # torch has threads: a fork of it may hang
    ahead: deque[Future[list[Scenario]]] = deque()  # bounded: a slow consumer must not fill the memory
    blocks = (wanted[i : i + _BLOCK] for i in range(0, len(wanted), _BLOCK))
    with ProcessPoolExecutor(workers, context, _begin, (scenarios,)) as pool:
        for block in blocks:
            with _children_not_interrupted():
                ahead.append(pool.submit(_compose, block))
            if len(ahead) > 2 * workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


@contextmanager
def _children_not_interrupted() -> Iterator[None]:
    """Begin processes that Ctrl-C does not reach: one that died of it in the middle of its queue would hang the pool.

    A blocked signal is inherited; this process gets it as soon as it is unblocked.
    """
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Composed:
    """Scenarios composed beforehand, by seed; for streams that are played several times."""

    def __init__(self, scenarios: Callable[[int], Scenario], wanted: Sequence[int], workers: int) -> None:
        self.by_seed = dict(zip(wanted, compose_all(scenarios, wanted, workers), strict=True))

    def __call__(self, seed: int) -> Scenario:
        """Return the scenario of a seed."""
        return self.by_seed[seed]


def _begin(scenarios: Callable[[int], Scenario]) -> None:
    global _scenarios  # noqa: PLW0603 - the pool's way to hand a worker something once
    _scenarios = scenarios


def _compose(block: Sequence[int]) -> list[Scenario]:
    assert _scenarios is not None
    return [_scenarios(seed) for seed in block]
