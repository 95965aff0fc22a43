"""Sessions that mind their own business while others break the rules: were they harmed?"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from envs.errors import ServerError
from trainers.server_load import SERVER_VAD, Heard, call, cut_into_frames, make_sound

_SOUND_S = 4.0  # of one turn: with two, whether the second cut the reply to the first would depend on the clock
_NEAR = 1e-4  # between probabilities: what the engine promises of a session in a batch and alone


@dataclass(frozen=True)
class Bystanders:
    """Sessions with fixed sounds, each again and again.

    Attributes:
        count: How many at once. Every other one gives the turns to the server, which replies after each.
        settings: Of each session.
        late_ms: A decision later than that is harm.
        sound_s: Of sound in a play.
    """

    count: int
    settings: dict[str, Any]
    late_ms: float
    sound_s: float = _SOUND_S


@dataclass
class Harm:
    """What bystanders suffered.

    Attributes:
        plays: How often a sound was played beside offenders.
        decisions: Taken in them.
        texts: Said in them.
        reasons: How bystanders were harmed, and how many plays of each.
        latest_ms: The latest decision.
    """

    plays: int = 0
    decisions: int = 0
    texts: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    latest_ms: float = 0.0

    def add(self, heard: Heard, alone: Heard, late_ms: float) -> None:
        """Take in one play."""
        self.plays += 1
        self.decisions += len(heard.decided)
        self.texts += len(heard.texts)
        self.latest_ms = max([self.latest_ms, *(one.latency_ms or 0.0 for one in heard.decided)])
        if (reason := harm(heard, alone, late_ms)) is not None:
            self.reasons[reason] += 1


def harm(heard: Heard, alone: Heard, late_ms: float) -> str | None:
    """Return how a bystander was harmed, by what it heard beside others and alone; None: it was not."""
    if heard.troubles:
        return heard.troubles[0]
    if any(one.latency_ms is None for one in heard.decided):
        return "silence took the place of its sound"
    if not _same_decisions(heard, alone):
        return "other decisions than alone"
    if heard.texts != alone.texts:
        return "other texts than alone"
    late = any(one.latency_ms is not None and one.latency_ms > late_ms for one in heard.decided)
    return f"a decision more than {late_ms:.0f} ms late" if late else None


def _same_decisions(heard: Heard, alone: Heard) -> bool:
    if [(one.chunk, one.kind) for one in heard.decided] != [(one.chunk, one.kind) for one in alone.decided]:
        return False
    for own, other in zip(heard.decided, alone.decided, strict=True):
        if own.probability is None or other.probability is None:
            if own.probability is not other.probability:
                return False
        elif abs(own.probability - other.probability) > _NEAR:
            return False
    return True


def hear_alone(address: str, bystanders: Bystanders) -> list[Heard]:
    """Return what each bystander hears while nobody else is there, its sound sent at once.

    Raises:
        ServerError: when the server does not even serve that.
    """
    alone = [asyncio.run(_play(address, bystanders, number, None)) for number in range(bystanders.count)]
    if troubles := [trouble for heard in alone for trouble in heard.troubles]:
        raise ServerError(f"a session that is alone on the server fails: {troubles[0]}")
    return alone


def watch(address: str, bystanders: Bystanders, alone: Sequence[Heard], offenders: "Future[Any]") -> Harm:
    """Let bystanders play in real time until offenders are done, each once at least; compare with `hear_alone`."""
    return asyncio.run(_watch(address, bystanders, alone, offenders))


async def _watch(address: str, bystanders: Bystanders, alone: Sequence[Heard], offenders: "Future[Any]") -> Harm:
    found = Harm()

    async def play(number: int) -> None:
        while True:
            heard = await _play(address, bystanders, number, bystanders.sound_s)
            found.add(heard, alone[number], bystanders.late_ms)
            if offenders.done():
                return

    await asyncio.gather(*(play(number) for number in range(bystanders.count)))
    return found


async def _play(address: str, bystanders: Bystanders, number: int, seconds: float | None) -> Heard:
    sound = make_sound(bystanders.sound_s, number)
    settings = bystanders.settings | (SERVER_VAD if number % 2 == 0 else {})
    return await call(address, cut_into_frames(sound, number), seconds, settings)
