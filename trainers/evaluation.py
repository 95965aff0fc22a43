"""Judge policies: play scenarios through the vector environment, collect traces, compute metrics."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from envs.metrics import Metric, evaluate_traces
from envs.planning import deal
from envs.proactive import DealtScenarios
from envs.rewards import Reward
from envs.scenario import Scenario
from envs.tokenizer import TextTokenizer
from envs.trace import Trace
from envs.vector_env import StreamingAudioVectorEnv
from policies.base import Policy
from trainers.clips import ClipFolder

Progress = Callable[[int], object]  # told how many episodes have been finished


def play(
    policy: Policy,
    scenarios: Callable[[int], Scenario],
    seeds: Sequence[int],
    *,
    num_slots: int,
    tokenizer: TextTokenizer,
    tokens_per_chunk: int,
    reward: Reward | None = None,
    progress: Progress = lambda _: None,
) -> list[Trace]:
    """Play one episode for each seed, `num_slots` at a time, and return their traces in the order of `seeds`."""
    env = StreamingAudioVectorEnv(
        num_slots,
        scenarios=scenarios,
        tokenizer=tokenizer,
        tokens_per_chunk=tokens_per_chunk,
        reward=reward,
        autoreset=False,
    )
    traces: list[Trace] = []
    for first in range(0, len(seeds), num_slots):
        wave = list(seeds[first : first + num_slots])
        filled = wave + [wave[-1]] * (num_slots - len(wave))  # a last short wave repeats its last scenario
        observations, _ = env.reset(options={"scenario_seeds": filled})
        policy.reset(np.ones(num_slots, bool))
        done = np.zeros(num_slots, bool)
        while not done.all():
            actions = policy.act(observations)
            for trace, probability, over in zip(env.traces, policy.response_probabilities, done, strict=True):
                if not over:
                    trace.probabilities.append(probability)
            observations, _, terminated, truncated, _ = env.step(actions)
            done |= terminated | truncated
        traces += env.traces[: len(wave)]
        progress(len(wave))
    return traces


def evaluate_on_clips(policy_dir: Path, clips: ClipFolder, seed: int = 0, num_slots: int = 32) -> dict[str, Metric]:
    """Judge a policy folder on proactive streams made of all recordings of a clip folder."""
    from policies.lalm_policy import load_policy  # noqa: PLC0415 - torch is heavy, and other policies need none

    policy = load_policy(policy_dir, num_slots)
    scenarios = DealtScenarios(tuple(deal(clips.read(), seed)), seed)
    traces = play(
        policy,
        scenarios,
        range(len(scenarios)),
        num_slots=num_slots,
        tokenizer=policy.tokenizer,
        tokens_per_chunk=policy.tokens_per_chunk,
    )
    return evaluate_traces(traces, seed=seed)
