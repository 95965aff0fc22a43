"""The suites by name, as the command line offers them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from envs.errors import ScenarioError, did_you_mean
from envs.suites import Suite, covost2, librispeech, proactive_sound_bench
from envs.suites.proactive_sound_bench import ProactiveSoundBench


@dataclass(frozen=True)
class SuiteKind:
    """How a suite is opened."""

    read: Callable[[Path, str], Suite]  # of the folder that holds the release, and of a tier
    tiers: tuple[str, ...]  # the default first


SUITES = {
    ProactiveSoundBench.name: SuiteKind(ProactiveSoundBench.read, proactive_sound_bench.TIERS),
    librispeech.NAME: SuiteKind(librispeech.read_librispeech, librispeech.TIERS),
    covost2.NAME: SuiteKind(covost2.read_covost2, covost2.TIERS),
}


def open_suite(name: str, folder: Path, tier: str | None = None) -> Suite:
    """Return a suite of `SUITES`.

    Args:
        name: Which.
        folder: Holds its release.
        tier: A part of it; default: the first of its tiers.

    Raises:
        ScenarioError: when it has no such tier.
        ManifestError: when the folder does not hold its release.
    """
    kind = SUITES[name]
    if tier is not None and tier not in kind.tiers:
        raise ScenarioError(f"--tier: {name} has none that is called {tier!r}{did_you_mean(tier, kind.tiers)}")
    return kind.read(folder, tier or kind.tiers[0])
