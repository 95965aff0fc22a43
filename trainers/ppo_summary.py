"""What is said of a run of PPO: of each iteration, and of all of them together."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from trainers.rollouts import Rollout

PHASES = ("rollouts", "judge", "update")


@dataclass(frozen=True)
class Reinforced:
    """What a run of PPO did.

    Attributes:
        curve: After each iteration, the episodes played and the mean reward of the iteration's sampled rollouts.
        rollout_share: Share of an iteration's time that rollouts took, in the mean; one that was played while the
            policy was updated counts as far as it was waited for.
    """

    curve: list[tuple[int, float]]
    rollout_share: float


def reinforced(log_history: Sequence[Mapping[str, float]], episodes_per_iteration: int) -> Reinforced:
    """Return what a trainer's log says of its iterations."""
    entries = [entry for entry in log_history if "reward/total" in entry]
    curve = [((i + 1) * episodes_per_iteration, entry["reward/total"]) for i, entry in enumerate(entries)]
    return Reinforced(curve, float(np.mean([entry["time/rollout_share"] for entry in entries])))


class Stopwatch:
    """Adds up the wall-clock time of an iteration's phases."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a part of a phase."""
        begin = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - begin

    def summary(self) -> dict[str, float]:
        """Return the seconds of each phase, and the share of rollouts in their sum."""
        share = self.seconds["rollouts"] / sum(self.seconds.values())
        return {f"time/{phase}_s": seconds for phase, seconds in self.seconds.items()} | {"time/rollout_share": share}


def summary(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Return what the batch earned: total and by component, replies and their length."""
    traces = [rollout.trace for rollout in rollouts]
    names = traces[0].steps[0].rewards
    replies = [reply for trace in traces for reply in trace.replies]
    result = {"reward/total": float(np.mean([trace.total_reward for trace in traces]))}
    for name in names:
        result[f"reward/{name}"] = float(np.mean([sum(s.rewards[name] for s in t.steps) for t in traces]))
    result["replies/count"] = len(replies) / len(traces)
    result["replies/tokens"] = float(np.mean([r.num_tokens for r in replies])) if replies else 0.0
    return result


def mean_kl(history: Sequence[Counter[str]], part: str) -> float | None:
    """Return the divergence of a part's actions in the mean; None where there were none."""
    counts = [h[f"actions/{part}"] for h in history]
    return float(np.average([h[f"kl/{part}"] for h in history], weights=counts)) if any(counts) else None
