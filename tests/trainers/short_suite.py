"""A suite of short streams, and a process that dies in its second block; nothing here imports torch."""

import os
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path

from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.scenario import Scenario
from trainers.built_in_suites import StreamSuite
from trainers.judge import Question, judge

COUNT = 66  # two blocks, the second of them short


@cache
def rendered(seed: int) -> Scenario:
    return ProactiveScenarios(Foley(), 1.0, (14, 14))(seed)


def short(seed: int) -> Scenario:
    """Six streams, which come again and again."""
    return replace(rendered(seed % 6), seed=seed)


def deadly(seed: int) -> Scenario:
    """The last stream, asked for in the second block, takes the process with it."""
    if seed == COUNT - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return short(seed)


QUESTION = Question(StreamSuite("short", "66", short, range(COUNT)), "66")


def die(policies: list[str], out: Path) -> None:
    judge(policies, replace(QUESTION, suite=StreamSuite("short", "66", deadly, range(COUNT))), out)
