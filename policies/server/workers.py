"""Slow work beside the event loop: what a server speaks with, and what it tells voices by."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Protocol, TypeVar

from policies.server.response import Modality
from policies.server.turns import VADKind

T = TypeVar("T")


class Aside(Protocol):
    """Has work done elsewhere; what is handed over first is done first."""

    def __call__(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do `work` in another thread, and call `then` with its result in this one, unless the session has ended."""


@dataclass(frozen=True)
class Helpers:
    """What a session has done for it.

    Attributes:
        speak: Speech is made there.
        hear: Voices are told from other sounds there.
        later: Calls back in so many seconds.
    """

    speak: Aside
    hear: Aside
    later: Callable[[float, Callable[[], None]], None]


def _one_thread(name: str) -> Callable[[], Executor]:
    return lambda: ThreadPoolExecutor(1, name)


@dataclass(frozen=True)
class Skills:
    """What a server can beside what its policy can, with a thread for each.

    Attributes:
        modality: Of replies, where a client does not say which it wants.
        vad: How speech is told.
    """

    modality: Modality = "text"
    vad: VADKind = "energy"
    speaking: Executor = field(default_factory=_one_thread("speech"))
    hearing: Executor = field(default_factory=_one_thread("vad"))

    def close(self) -> None:
        """Leave what is still to do, and end the threads."""
        for executor in (self.speaking, self.hearing):
            executor.shutdown(cancel_futures=True)


def can_speak() -> bool:
    """Return whether the extra `speech` is installed."""
    return find_spec("espeakng_loader") is not None
