"""Streams of several sources as one: what worker processes are handed, who import no torch for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from envs.scenario import Scenario


@dataclass(frozen=True)
class ScenarioMix:
    """Scenarios by number: number i is that of `picks[i]`, a source's index and a seed."""

    sources: Sequence[Callable[[int], Scenario]]
    picks: Sequence[tuple[int, int]] | Mapping[int, tuple[int, int]]

    def __len__(self) -> int:
        return len(self.picks)

    def __call__(self, number: int) -> Scenario:
        """Return a scenario by its number."""
        source, seed = self.picks[number]
        return self.sources[source](seed)
