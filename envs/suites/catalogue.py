"""The suites by name, as the command line offers them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from envs.errors import ScenarioError, did_you_mean
from envs.rewards.scoring import Scorer
from envs.suites import (
    Suite,
    covost2,
    false_alarms,
    full_duplex_bench,
    librispeech,
    long_stream,
    mmau,
    proactive_sound_bench,
    voicebench,
)
from envs.suites.false_alarms import FalseAlarms
from envs.suites.full_duplex_bench import FullDuplexBench
from envs.suites.long_stream import LongStream
from envs.suites.proactive_sound_bench import ProactiveSoundBench


@dataclass(frozen=True)
class SuiteKind:
    """How a suite is opened."""

    read: Callable[[Path, str], Suite]  # of the folder that holds the release, and of a tier
    tiers: tuple[str, ...]  # the default first
    built_in: Callable[[str], Suite] | None = None  # of the first tier, which needs no folder
    judged: Callable[[Path, str, Scorer], Suite] | None = None  # as `read`, where a scorer may judge answers


SUITES = {
    ProactiveSoundBench.name: SuiteKind(ProactiveSoundBench.read, proactive_sound_bench.TIERS),
    librispeech.NAME: SuiteKind(librispeech.read_librispeech, librispeech.TIERS),
    covost2.NAME: SuiteKind(covost2.read_covost2, covost2.TIERS),
    LongStream.name: SuiteKind(LongStream.read, long_stream.TIERS, LongStream.built_in),
    FalseAlarms.name: SuiteKind(FalseAlarms.read, false_alarms.TIERS, FalseAlarms.built_in),
    mmau.NAME: SuiteKind(mmau.read_mmau, mmau.TIERS),
    voicebench.NAME: SuiteKind(voicebench.read_voicebench, voicebench.TIERS, judged=voicebench.read_voicebench),
    FullDuplexBench.name: SuiteKind(FullDuplexBench.read, full_duplex_bench.TIERS),
}


def open_suite(name: str, folder: Path | None, tier: str | None = None, scorer: Scorer | None = None) -> Suite:
    """Return a suite of `SUITES`.

    Args:
        name: Which.
        folder: Holds its release; None: the suite is built in.
        tier: A part of it; default: the first of its tiers.
        scorer: What answers to open questions are judged by; None: what the suite has without.

    Raises:
        ScenarioError: when it has no such tier, is not built in, or has nothing for a scorer to judge.
        ManifestError: when the folder does not hold its release.
    """
    kind = SUITES[name]
    if tier is not None and tier not in kind.tiers:
        raise ScenarioError(f"--tier: {name} has none that is called {tier!r}{did_you_mean(tier, kind.tiers)}")
    chosen = tier or kind.tiers[0]
    if scorer is not None:
        if kind.judged is None or folder is None:
            raise ScenarioError(f"--scorer: {name} has no open questions for it to judge; leave it out")
        return kind.judged(folder, chosen, scorer)
    if folder is not None:
        return kind.read(folder, chosen)
    if kind.built_in is None or chosen != kind.tiers[0]:
        raise ScenarioError(f"--data: {name}, {chosen}, is not built in; name the folder that holds its release")
    return kind.built_in(chosen)
