"""`soundflow bench train`: how fast rollouts are collected, and what reinforcement adds, over several seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from envs.foley import Foley
from envs.metrics import Metric, compare_traces, metrics_json
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from envs.scenario import Scenario
from envs.stream_env import StreamingAudioEnv, default_scenarios
from envs.trace import Trace
from policies.engine import Sampling
from policies.engine.benchmark import bench_model, median_seconds
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer, train_tokenizer
from trainers.clips import ClipFolder
from trainers.config import QuickstartConfig
from trainers.quickstart import reinforce
from trainers.results import Results
from trainers.run import calibrate, compose_suites, judge_model, prepare
from trainers.scenes import HELD_OUT_SEEDS, Composed, seeds
from trainers.supervised import supervise

_EPISODES, _GPU_EPISODES, _ALONE_EPISODES = 64, 512, 4


def bench_rollouts() -> dict[str, float]:
    """Measure collecting rollouts of a random `compact` that talks now and then, streams composed beforehand.

    Returns:
        `rollout_episodes`: that are played at once, 64; 512 on a GPU, which has room for more.
        `rollout_chunks_per_s`: of them, through the engine and the vector environment.
        `alone_chunks_per_s`: of one environment and one session after another. `rollout_ratio`: of the two.
    """
    from trainers.rollouts import collect  # noqa: PLC0415

    model = bench_model()
    tokenizer = train_tokenizer(["a sound that nobody has to understand"], model.config.text_config["vocab_size"])
    wanted = range(_EPISODES if model.device.type == "cpu" else _GPU_EPISODES)
    streams = Composed(ProactiveScenarios(Foley(), 0.4, (40, 60)), wanted, 2)
    chunks = sum(streams(seed).num_chunks for seed in wanted)
    reward = Reward.default()
    few = wanted[:_ALONE_EPISODES]

    def play_together(trial: int) -> None:
        collect(model, tokenizer, streams, wanted, reward, trial)

    def play_alone(trial: int) -> None:
        for seed in few:
            _play_alone(model, tokenizer, streams, seed, reward, trial)

    play_together(0)  # warm
    together = median_seconds(play_together)
    play_alone(0)
    alone = median_seconds(play_alone)
    fast, slow = chunks / together, sum(streams(seed).num_chunks for seed in few) / alone
    return {
        "rollout_episodes": len(wanted),
        "rollout_chunks_per_s": fast,
        "alone_chunks_per_s": slow,
        "rollout_ratio": fast / slow,
    }


def _play_alone(
    model: LALM,
    tokenizer: ReplyTokenizer,
    scenarios: Callable[[int], Scenario],
    seed: int,
    reward: Reward,
    sampling_seed: int,
) -> Trace:
    """Play one episode as people begin: one environment, one session, step by step."""
    policy = LALMPolicy(model, tokenizer, 1, Sampling(None, 1.0, sampling_seed))
    env = StreamingAudioEnv(scenarios, tokenizer, tokens_per_chunk=policy.tokens_per_chunk, reward=reward)
    observation, _ = env.reset(options={"scenario_seed": seed})
    policy.reset(np.ones(1, bool))
    over = False
    while not over:
        actions = policy.act({"audio": observation["audio"][None]})
        observation, _, over, _, _ = env.step({"kind": actions["kind"][0], "tokens": actions["tokens"][0]})
    return env.trace


@dataclass(frozen=True)
class Learned:
    """What reinforcement did to one policy on one suite of held-out streams; the streams are the same for both."""

    supervised: dict[str, Metric]
    ppo: dict[str, Metric]
    difference: dict[str, Metric]  # ppo minus supervised, with paired intervals

    def reached(self) -> dict[str, bool]:
        """Return which goals were reached: intervals apart, half the false alarms, nothing else worse."""

        def value(metrics: dict[str, Metric], name: str) -> float:
            return metrics[name].value or 0.0

        before, after = self.supervised, self.ppo
        low, high = after["mean_reward"].low, before["mean_reward"].high
        return {
            "reward_apart": low is not None and high is not None and low > high,
            "false_alarms_halved": value(after, "false_alarms_per_hour") <= value(before, "false_alarms_per_hour") / 2,
            "f1_no_lower": value(after, "trigger_f1") >= value(before, "trigger_f1"),
            "quality_no_lower": value(after, "reply_quality") >= value(before, "reply_quality"),
            "repetition_no_higher": value(after, "repetition") <= value(before, "repetition"),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the goals and all metrics as plain JSON types."""
        return {
            "reached": self.reached(),
            **{k: metrics_json(getattr(self, k)) for k in ("supervised", "ppo", "difference")},
        }


@dataclass
class SeedNumbers:
    """One seed: seconds of the phases, the share of PPO that rollouts took, and what was learned by suite.

    `varied` is the override that the run was given beside those of all runs, such as `ppo.objective=raw_token`.
    """

    seed: int
    varied: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    rollout_share: float = 0.0
    suites: dict[str, Learned] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        suites = {name: learned.to_json() for name, learned in self.suites.items()}
        share = round(self.rollout_share, 3)
        return {"varied": self.varied, "seed": self.seed, "seconds": self.seconds, "rollout_share": share, **suites}


def bench_learning(config: QuickstartConfig, clips: ClipFolder | None, varied: str = "") -> SeedNumbers:
    """Train, reinforce and judge one seed as `soundflow quickstart` does, on streams of all abilities too.

    Args:
        config: Of the run, with what was varied.
        clips: Recordings, to train on and to judge by.
        varied: What was, for who reads the numbers.

    Raises:
        ConfigError: when the reward fails.
        ManifestError: when the clips cannot be used.
    """
    torch.manual_seed(config.seed)
    numbers = SeedNumbers(config.seed, varied)
    with TemporaryDirectory() as folder:
        run = prepare(config, Path(folder), clips)
        compose_suites(run)
        wanted = seeds(HELD_OUT_SEEDS, config.seed, config.scenes.held_out_count)
        run.held_out["mixed"] = Composed(default_scenarios("Mixed"), wanted, config.scenes.workers)
        model, tokenizer = supervise(run)
        calibrate(run, model, tokenizer)
        results: Results = {}
        before = judge_model(run, model, tokenizer, "supervised", results)
        numbers.rollout_share = reinforce(run, model, tokenizer).rollout_share
        after = judge_model(run, model, tokenizer, "ppo", results)
        numbers.seconds = run.seconds
    for suite, table in results.items():
        difference = compare_traces(after[suite], before[suite], config.seed, config.evaluation.bootstrap)
        numbers.suites[suite] = Learned(table["supervised"], table["ppo"], difference)
    return numbers


@dataclass(frozen=True)
class TrainNumbers:
    """What `bench train` measured."""

    rollouts: dict[str, float]
    seeds: list[SeedNumbers]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        rounded = {name: float(f"{value:.4g}") for name, value in self.rollouts.items()}
        return {**rounded, "seeds": [numbers.to_json() for numbers in self.seeds]}


def bench_train(
    configs: Mapping[str, QuickstartConfig],
    clips: ClipFolder | None,
    num_seeds: int,
    report: Callable[[SeedNumbers], None] | None = None,
) -> TrainNumbers:
    """Measure rollouts, and reinforcement under each configuration, over its seed, the next one, ...

    Args:
        configs: By what was varied.
        clips: Recordings, to train on and to judge by.
        num_seeds: Seeds of each configuration.
        report: Called with the numbers of a seed as soon as they are there.

    Raises:
        ConfigError: when a reward fails.
        ManifestError: when the clips cannot be used.
    """
    numbers = TrainNumbers(bench_rollouts(), [])
    for varied, config in configs.items():
        for seed in range(config.seed, config.seed + num_seeds):
            one = bench_learning(replace(config, seed=seed), clips, varied)
            numbers.seeds.append(one)
            if report is not None:
                report(one)
    return numbers
