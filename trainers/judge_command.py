"""`soundflow evaluate --out`: from what the command was told to numbers, a leaderboard and a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.suites.catalogue import SUITES, open_suite
from envs.suites.long_stream import LongStream
from envs.suites.proactive_sound_bench import ProactiveSoundBench
from envs.thinking import ThinkingTime
from trainers.built_in_suites import ABILITY_OF, DEFAULT_COUNT, built_in_suite, clip_suite
from trainers.clips import ClipFolder
from trainers.conditions import scorer_words, suite_conditions
from trainers.config_loading import read_yaml
from trainers.judge import Judged, Question, judge, read_command
from trainers.leaderboard import LEADERBOARD, rows_of, write_leaderboard
from trainers.suite_run import read_scorer

REPORT = "report.html"


@dataclass(frozen=True)
class Told:
    """What `soundflow evaluate --out` was told of the suite.

    Attributes:
        suite: One of `BUILT_IN_SUITES` or of the published ones.
        data: Holds the release of a published one that is not built in.
        tier: Of a published one; None: its first.
        clips: The recordings of the suite "clips".
        held_out: The share of them that is judged on; None: all.
        count: Streams of built-in sounds; None: 256.
        seed: Of streams and baselines.
        thinking_s: See `trainers.evaluation.play`.
        scorer: A YAML file of what judges answers to open questions.
    """

    suite: str
    data: Path | None = None
    tier: str | None = None
    clips: ClipFolder | None = None
    held_out: float | None = None
    count: int | None = None
    seed: int = 0
    thinking_s: ThinkingTime = field(default=0.0)
    scorer: Path | None = None

    def question(self) -> Question:
        """Open the suite.

        Raises:
            ManifestError, ScenarioError: when its recordings or its manifests cannot be used.
        """
        if self.suite in ABILITY_OF:
            built_in = built_in_suite(self.suite, self.count or DEFAULT_COUNT, self.seed)
            told: dict[str, Any] = {"--count": self.count or DEFAULT_COUNT}
            return Question(built_in, built_in.tier, self.seed, self.thinking_s, told=told)
        if self.clips is not None:
            clips = clip_suite(self.clips, self.seed, self.held_out)
            told = {"--clips": str(self.clips.path), "--layout": self.clips.layout, "--held-out": self.held_out}
            told["--fold"] = self.clips.fold
            known = suite_conditions(clips, clips.recordings)
            return Question(clips, clips.tier, self.seed, self.thinking_s, clips.learned, clips.domains, told, known)
        tier = self.tier or SUITES[self.suite].tiers[0]
        scorer = None if self.scorer is None else read_scorer(self.scorer)
        suite = open_suite(self.suite, self.data, tier, scorer)
        domains = {}
        if isinstance(suite, ProactiveSoundBench):
            domains = {item.description: item.domain for stream in suite.streams for item in stream}
        told = {"--data": None if self.data is None else str(self.data), "--tier": tier}
        known = suite_conditions(suite)
        if self.scorer is not None:
            told["--scorer"] = read_yaml(self.scorer)
            known["scorer"] = scorer_words(told["--scorer"])
        if isinstance(suite, LongStream):
            tier = suite.tier
        return Question(suite, tier, self.seed, self.thinking_s, domains=domains, told=told, conditions=known)


def evaluate_into(policies: Sequence[str], told: Told, out: Path) -> Judged:
    """Judge policies, and write numbers, traces, a leaderboard and a page into `out`; after a kill, go on.

    Raises:
        SoundFlowError: as `judge` and `Told.question`.
    """
    question = told.question()
    judged = judge(policies, question, out)
    write_leaderboard(out / LEADERBOARD, rows_of(judged))
    from trainers.judge_page import write_judge_page  # noqa: PLC0415 - matplotlib is heavy, and comes last

    write_judge_page(out / REPORT, judged, question, read_command(out))
    return judged
