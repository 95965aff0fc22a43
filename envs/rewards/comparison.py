"""Rewards side by side on the same traces: how each ranks the policies, what it is made of, and what is odd."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from envs.errors import ScenarioError
from envs.metrics import Metric, compare_traces, evaluate_traces
from envs.rewards.rescoring import rescore
from envs.rewards.reward import Reward
from envs.trace import Trace

DOMINATES = 0.8  # share of the absolute total from which a component stands for the whole reward
Played = Mapping[str, Sequence[Trace]]  # traces by policy


@dataclass(frozen=True)
class Standing:
    """What one policy is worth under one reward, as means over streams."""

    policy: str
    reward: Metric
    components: dict[str, float]
    curves: dict[str, NDArray[np.float64]]  # [chunks + 1] of each component, summed up to then


@dataclass(frozen=True)
class Finding:
    """Something about a reward that its author should look at."""

    kind: Literal["never fires", "dominates", "disagrees"]
    names: tuple[str, ...]  # the component, or the two policies
    message: str


@dataclass(frozen=True)
class RewardReport:
    """One reward: the policies from best to worst, and what is odd about it."""

    name: str
    standings: tuple[Standing, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; curves are left to the page."""
        ranking = [
            {"policy": s.policy, "mean_reward": s.reward.to_json(), "components": s.components} for s in self.standings
        ]
        warnings = [{"kind": f.kind, "names": list(f.names), "message": f.message} for f in self.findings]
        return {"ranking": ranking, "warnings": warnings}


def compare_rewards(
    rewards: Mapping[str, Reward], played: Played, seed: int = 0, resamples: int = 1000
) -> list[RewardReport]:
    """Score the traces of policies under every reward.

    Args:
        rewards: By name.
        played: Traces by policy, of the same streams.
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.

    Raises:
        ScenarioError: when there are no traces, they are not of the same streams, or cannot be scored again.
        ConfigError: when a component fails, naming it, the scenario and the step.
    """
    aligned = _aligned(played)
    return [_report(name, reward, aligned, seed, resamples) for name, reward in rewards.items()]


def _aligned(played: Played) -> dict[str, list[Trace]]:
    """Return every policy's traces in one order of streams."""
    if not all(played.values()) or not played:
        raise ScenarioError("there are no traces to score; play at least one stream with each policy")
    streams = {policy: [(t.ability, t.seed, t.num_chunks, t.cues) for t in traces] for policy, traces in played.items()}
    first, *others = played
    aligned = {policy: list(traces) for policy, traces in played.items()}
    if any(streams[other] != streams[first] for other in others):  # in another order, at best
        for policy, traces in aligned.items():
            traces.sort(key=lambda t: (t.ability, t.seed))
            streams[policy] = [(t.ability, t.seed, t.num_chunks, t.cues) for t in traces]
    for other in others:
        if streams[other] != streams[first]:
            raise ScenarioError(
                f"the {len(aligned[other])} traces of {other!r} and the {len(aligned[first])} of {first!r} are not of"
                " the same streams; play all policies on the same seeds and sounds"
            )
    return aligned


def _report(name: str, reward: Reward, played: Played, seed: int, resamples: int) -> RewardReport:
    scored = {policy: rescore(traces, reward) for policy, traces in played.items()}
    metrics = {policy: evaluate_traces(traces, seed, resamples) for policy, traces in scored.items()}
    standings = [
        _standing(policy, traces, metrics[policy]["mean_reward"], list(reward.names))
        for policy, traces in scored.items()
    ]
    standings.sort(key=lambda standing: -(standing.reward.value or 0.0))
    findings = [*_of_components(scored, list(reward.names)), *_of_rankings(scored, metrics, seed, resamples)]
    return RewardReport(name, tuple(standings), tuple(findings))


def _standing(policy: str, traces: Sequence[Trace], reward: Metric, names: Sequence[str]) -> Standing:
    chunks = max(trace.num_chunks for trace in traces)
    curves = {}
    for name in names:
        steps = np.zeros((len(traces), chunks + 1))
        for row, trace in zip(steps, traces, strict=True):
            row[1 : len(trace.steps) + 1] = [step.rewards[name] for step in trace.steps]
        curves[name] = steps.cumsum(axis=1).mean(axis=0)  # a stream that is over keeps what it earned
    return Standing(policy, reward, {name: float(curve[-1]) for name, curve in curves.items()}, curves)


def _of_components(scored: Played, names: Sequence[str]) -> list[Finding]:
    """Find components that never fire, and one that is nearly all there is."""
    absolute = dict.fromkeys(names, 0.0)
    for traces in scored.values():
        for trace in traces:
            for step in trace.steps:
                for name, value in step.rewards.items():
                    absolute[name] += abs(value)
    total = sum(absolute.values())
    findings = [
        Finding("never fires", (name,), f"{name} is 0 at every step of every trace; nothing here is rewarded by it")
        for name, amount in absolute.items()
        if amount == 0.0
    ]
    for name, amount in absolute.items():
        if len(names) > 1 and amount > DOMINATES * total:
            share = f"{100 * amount / total:.0f} % of all that is rewarded or punished"
            findings.append(Finding("dominates", (name,), f"{name} is {share}; the other components hardly matter"))
    return findings


def _of_rankings(
    scored: Played, metrics: Mapping[str, Mapping[str, Metric]], seed: int, resamples: int
) -> list[Finding]:
    """Find the pairs of policies of which the reward prefers the one with the lower trigger F1."""
    findings = []
    for one, other in combinations(scored, 2):
        f1 = {policy: metrics[policy]["trigger_f1"].value or 0.0 for policy in (one, other)}
        better, worse = (one, other) if f1[one] > f1[other] else (other, one)
        rewards = {policy: metrics[policy]["mean_reward"].value or 0.0 for policy in (one, other)}
        if f1[better] == f1[worse] or rewards[better] >= rewards[worse]:
            continue
        difference = compare_traces(scored[better], scored[worse], seed, resamples)
        several = len(scored[better]) > 1  # one stream resampled is always itself
        sure = several and all(_is_sure(difference[name]) for name in ("trigger_f1", "mean_reward"))
        findings.append(
            Finding(
                "disagrees",
                (better, worse),
                f"{better} has the better trigger F1, {f1[better]:.3f} against {f1[worse]:.3f} of {worse}, and the"
                f" lower reward, {rewards[better]:.3f} against {rewards[worse]:.3f};"
                f" {'both differences are beyond chance' if sure else 'this may be chance'}",
            )
        )
    return findings


def _is_sure(difference: Metric) -> bool:
    """Return whether the interval of a difference leaves 0 out."""
    return difference.low is not None and difference.high is not None and (difference.low > 0 or difference.high < 0)
