"""Compose many scenarios at once, in worker processes, in the order of their seeds."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice

from envs.errors import ScenarioError
from envs.scenario import Scenario

_BLOCK = 4

_scenarios: Callable[[int], Scenario] | None = None  # of a worker process, set once by its initializer


def compose_all(
    scenarios: Callable[[int], Scenario], wanted: Iterable[int], workers: int
) -> Generator[Scenario, None, None]:
    """Yield the scenario of every seed, in order; `workers` processes work ahead.

    Args:
        scenarios: Makes the scenario of a seed; pickled, where there are several workers.
        wanted: The seeds; they may have no end: close the iterator when there are enough.
        workers: With 1, everything is composed in this process.
    """
    if workers <= 1:
        yield from map(scenarios, wanted)
        return
    ahead: deque[Future[list[Scenario]]] = deque()  # bounded: a slow consumer must not fill the memory
    seeds = iter(wanted)
    pool = _pool(scenarios, workers)
    try:
        while block := list(islice(seeds, _BLOCK)):
            with _children_not_interrupted():
                ahead.append(pool.submit(_compose, block))
            if len(ahead) > 2 * workers:
                yield from _result(ahead.popleft())
        while ahead:
            yield from _result(ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)  # nobody waits for what was to come


class RenderedAhead:
    """The scenarios of `scenarios`, those that were announced composed by worker processes in the meantime.

    Args:
        scenarios: Makes the scenario of a seed; it is pickled.
        workers: Processes; they begin with the first announcement, and end with `close` or this process.
    """

    def __init__(self, scenarios: Callable[[int], Scenario], workers: int) -> None:
        self.scenarios = scenarios
        self._pool = _pool(scenarios, workers)
        self._announced: dict[int, Future[list[Scenario]]] = {}
        self._closed = False

    def announce(self, seed: int) -> None:
        """Say that the scenario of `seed` will be asked for."""
        if seed not in self._announced and not self._closed:
            with _children_not_interrupted():
                self._announced[seed] = self._pool.submit(_compose, [seed])

    def withdraw(self, seed: int) -> None:
        """Say that it will not be asked for after all."""
        announced = self._announced.pop(seed, None)
        if announced is not None:
            announced.cancel()

    def __call__(self, seed: int) -> Scenario:
        """Return the scenario of a seed; one that was not announced is composed here."""
        announced = self._announced.pop(seed, None)
        return self.scenarios(seed) if announced is None else _result(announced)[0]

    def close(self) -> None:
        """End the workers; scenarios can be asked for still, and are composed here."""
        self._closed = True
        self._announced.clear()
        self._pool.shutdown(cancel_futures=True)


def _result(composed: Future[list[Scenario]]) -> list[Scenario]:
    """Wait for scenarios.

    Raises:
        ScenarioError: when a worker ended before it had composed them, or they cannot be sent between processes.
    """
    try:
        return composed.result()
    except BrokenProcessPool as error:
        raise ScenarioError(
            "a worker process ended before its streams were composed; was the memory full? Ask for fewer workers, and"
            ' in a script stand under `if __name__ == "__main__":`'
        ) from error


def _pool(scenarios: Callable[[int], Scenario], workers: int) -> ProcessPoolExecutor:
    try:
        pickle.dumps(scenarios)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ScenarioError(
            f"these scenarios cannot be sent to worker processes ({error}); make them a function or class of a module,"
            " or ask for no workers"
        ) from error
    context = multiprocessing.get_context("spawn")  # torch has threads: a fork of it may hang
    return ProcessPoolExecutor(workers, context, _begin, (scenarios,))


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


def _begin(scenarios: Callable[[int], Scenario]) -> None:
    global _scenarios  # noqa: PLW0603 - the pool's way to hand a worker something once
    _scenarios = scenarios
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent was killed: a worker would wait for its next block for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _compose(block: Sequence[int]) -> list[Scenario]:
    assert _scenarios is not None
    return [_scenarios(seed) for seed in block]
