"""`soundflow bench train`: how fast rollouts are collected, and what reinforcement adds, over several seeds."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from envs.foley import Foley
from envs.metrics import Metric, compare_traces, evaluate_traces
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from envs.scenario import Scenario
from envs.stream_env import StreamingAudioEnv, default_scenarios
from envs.trace import Trace
from policies.engine import Sampling
from policies.engine.benchmark import bench_model
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer, train_tokenizer
from trainers.clips import ClipFolder
from trainers.config import QuickstartConfig
from trainers.run import calibrate, compose_suites, play_model, prepare, supervise
from trainers.scenes import HELD_OUT_SEEDS, PPO_SEEDS, Composed, Steady, seeds

_EPISODES, _ALONE_EPISODES, _TRIALS = 64, 4, 3


def bench_rollouts() -> dict[str, float]:
    """Measure collecting rollouts of a random `compact` that talks now and then, streams composed beforehand.

    Returns:
        `rollout_chunks_per_s`: of 64 episodes through the engine and the vector environment.
        `alone_chunks_per_s`: of one environment and one session after another. `rollout_ratio`: of the two.
    """
    from trainers.rollouts import collect  # noqa: PLC0415

    model = bench_model()
    tokenizer = train_tokenizer(["a sound that nobody has to understand"], model.config.text_config["vocab_size"])
    wanted = range(_EPISODES)
    streams = Composed(ProactiveScenarios(Foley(), 0.4, (40, 60)), wanted, 2)
    chunks = sum(streams(seed).num_chunks for seed in wanted)
    reward = Reward.default()
    together = _median_seconds(lambda trial: collect(model, tokenizer, streams, wanted, reward, trial))
    few = wanted[:_ALONE_EPISODES]
    alone = _median_seconds(lambda trial: [_play_alone(model, tokenizer, streams, s, reward, trial) for s in few])
    fast, slow = chunks / together, sum(streams(seed).num_chunks for seed in few) / alone
    return {"rollout_chunks_per_s": fast, "alone_chunks_per_s": slow, "rollout_ratio": fast / slow}


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


def _median_seconds(run: Callable[[int], object]) -> float:
    run(0)
    seconds = []
    for trial in range(_TRIALS):
        begin = time.perf_counter()
        run(trial)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


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
        return {"reached": self.reached(), **{k: _plain(getattr(self, k)) for k in ("supervised", "ppo", "difference")}}


def _plain(metrics: dict[str, Metric]) -> dict[str, object]:
    return {name: metric.to_json() for name, metric in metrics.items()}


@dataclass
class SeedNumbers:
    """One seed: seconds of the phases, the share of PPO that rollouts took, and what was learned by suite."""

    seed: int
    seconds: dict[str, float] = field(default_factory=dict)
    rollout_share: float = 0.0
    suites: dict[str, Learned] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        suites = {name: learned.to_json() for name, learned in self.suites.items()}
        return {"seed": self.seed, "seconds": self.seconds, "rollout_share": round(self.rollout_share, 3), **suites}


def bench_learning(config: QuickstartConfig, clips: ClipFolder | None) -> SeedNumbers:
    """Train, reinforce and judge one seed as `soundflow quickstart` does, on streams of all abilities too.

    Raises:
        ConfigError: when the reward fails.
        ManifestError: when the clips cannot be used.
    """
    from trainers.ppo import train_ppo  # noqa: PLC0415 - importing TRL takes seconds

    torch.manual_seed(config.seed)
    numbers = SeedNumbers(config.seed)
    with TemporaryDirectory() as folder:
        run = prepare(config, Path(folder), clips)
        compose_suites(run)
        wanted = seeds(HELD_OUT_SEEDS, config.seed, config.scenes.held_out_count)
        run.held_out["mixed"] = Composed(default_scenarios("Mixed"), wanted, config.scenes.workers)
        model, tokenizer = supervise(run)
        calibrate(run, model, tokenizer)

        def judge() -> dict[str, Sequence[Trace]]:
            return {
                suite: play_model(run, model, tokenizer, streams, list(streams.by_seed))
                for suite, streams in run.held_out.items()
            }

        before = judge()
        with run.phase("compose streams to reinforce on"):
            wanted = seeds(PPO_SEEDS, config.seed, config.ppo.streams)
            streams = Steady(Composed(run.scenarios(), wanted, config.scenes.workers))
        with run.phase("reinforce (PPO)"):
            arguments = (streams, wanted, run.reward, config.ppo, run.out / "logs", config.seed)
            numbers.rollout_share = train_ppo(model, tokenizer, *arguments).rollout_share
        after = judge()
        numbers.seconds = run.seconds
    resamples = config.evaluation.bootstrap
    for suite, traces in after.items():
        numbers.suites[suite] = Learned(
            evaluate_traces(before[suite], config.seed, resamples),
            evaluate_traces(traces, config.seed, resamples),
            compare_traces(traces, before[suite], config.seed, resamples),
        )
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


def bench_train(config: QuickstartConfig, clips: ClipFolder | None, num_seeds: int) -> TrainNumbers:
    """Measure rollouts, and reinforcement over seeds `config.seed`, `config.seed + 1`, ..."""
    rollouts = bench_rollouts()
    wanted = range(config.seed, config.seed + num_seeds)
    return TrainNumbers(rollouts, [bench_learning(replace(config, seed=seed), clips) for seed in wanted])
