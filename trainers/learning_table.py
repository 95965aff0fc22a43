"""What `soundflow bench train` learned, as rows of Markdown: what docs/experiments.md is made of."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from envs.metrics import Metric
from trainers.learning_bench import SeedNumbers

_HEAD = """
| varied | seed | streams | policy | F1 | balanced accuracy | false alarms an hour | reply quality | repetition | \
latency p50 | mean reward | goals missed |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


class LearningLog:
    """A section of a Markdown file that gets its rows as soon as a seed was judged: a kill costs one run.

    Raises:
        OSError: when the file cannot be written.
    """

    def __init__(self, path: Path, command: str) -> None:
        with path.open("a", encoding="utf-8"):  # what cannot be written is known before hours of training
            self.path = path
        self.opening = f"\n## `{command}` ({datetime.date.today().isoformat()})\n{_HEAD}"

    def append(self, numbers: SeedNumbers) -> None:
        """Write the rows of one seed.

        Raises:
            OSError: when the file cannot be written.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self.opening + "".join(rows(numbers)))
        self.opening = ""


def rows(numbers: SeedNumbers) -> list[str]:
    """Return two rows for each suite: the supervised policy, and what reinforcement made of it."""
    lines = []
    for suite, learned in numbers.suites.items():
        missed = ", ".join(name for name, reached in learned.reached().items() if not reached) or "none"
        for policy, metrics, goals in (("supervised", learned.supervised, ""), ("ppo", learned.ppo, missed)):
            cells = [numbers.varied or "nothing", str(numbers.seed), suite, policy, *_cells(metrics), goals]
            lines.append(f"| {' | '.join(cells)} |\n")
    return lines


def _cells(metrics: Mapping[str, Metric]) -> list[str]:
    return [
        _number(metrics["trigger_f1"], 3, span=True),
        _number(metrics["balanced_accuracy"], 3),
        _number(metrics["false_alarms_per_hour"], 1, span=True),
        _number(metrics["reply_quality"], 3, span=True),
        _number(metrics["repetition"], 4),
        _number(metrics["latency_p50_s"], 2, unit=" s"),
        _number(metrics["mean_reward"], 3, span=True),
    ]


def _number(metric: Metric, digits: int, span: bool = False, unit: str = "") -> str:
    if metric.value is None:
        return "none"
    interval = f" [{metric.low:.{digits}f}, {metric.high:.{digits}f}]" if span and metric.low is not None else ""
    return f"{metric.value:.{digits}f}{unit}{interval}"
