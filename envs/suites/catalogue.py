"""The suites by name, as the command line offers them."""

from collections.abc import Callable
from pathlib import Path

from envs.suites import Suite
from envs.suites.proactive_sound_bench import ProactiveSoundBench

SUITES: dict[str, Callable[[Path, str], Suite]] = {  # of the folder that holds the release, and of a tier
    ProactiveSoundBench.name: ProactiveSoundBench.read,
}
