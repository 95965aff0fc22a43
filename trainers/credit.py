"""Who is to be praised: advantages of an iteration's decisions and words, from a critic or from the group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainers.advantages import content_advantages, decision_advantages, group_advantages
from trainers.config import ReinforcementConfig
from trainers.critic import Critic, situation
from trainers.rollouts import Rollout

CRITIC_STEPS = 100  # of fitting, an iteration


@dataclass(frozen=True)
class Advantages:
    """Of A actions, D of them decisions; each kind in the order of the rollouts. All on the CPU."""

    decision_weight: Tensor  # float32 [D, 2] how much of each choice's gain counts
    decision: Tensor  # float32 [D, 2] of both choices
    content: Tensor  # float32 [A - D]
    raw: Tensor  # float32 [A] where all tokens are one policy

    def of(self, rollouts: Sequence[Rollout], episodes: range) -> "Advantages":
        """Return those of some of the episodes that they were found for, which follow each other."""
        ends = (episodes.start, episodes.stop)
        actions = slice(*(sum(len(r.is_decision) for r in rollouts[:end]) for end in ends))
        decisions = slice(*(sum(len(r.probability) for r in rollouts[:end]) for end in ends))
        contents = slice(actions.start - decisions.start, actions.stop - decisions.stop)
        return Advantages(
            self.decision_weight[decisions], self.decision[decisions], self.content[contents], self.raw[actions]
        )


class Credit(Protocol):
    """Finds the advantages of an iteration."""

    def assign(
        self, rollouts: Sequence[Rollout], frozen: Tensor | None, first: bool
    ) -> tuple[Advantages, dict[str, float]]:
        """Return the advantages of an iteration, and what to log.

        Args:
            rollouts: All its episodes, whoever played them.
            frozen: [D, hidden], the reference policy's states where decisions were taken; for `critic: hidden` alone.
            first: Whether it is the first iteration.
        """


class CriticCredit:
    """Generalised advantages over a critic that is fitted to what was earned."""

    def __init__(self, critic: Critic, config: ReinforcementConfig, max_reply_tokens: int) -> None:
        self.critic, self.config, self.max_reply_tokens = critic, config, max_reply_tokens

    def assign(
        self, rollouts: Sequence[Rollout], frozen: Tensor | None, first: bool
    ) -> tuple[Advantages, dict[str, float]]:
        """Return the advantages, and fit the critic to the returns.

        `critic/explained` is the share of the returns' variance that the critic knew before it saw them, at most 1; in
        the first iteration after it saw them, since before that it knows nothing.
        """
        critic, config = self.critic, self.config
        known = self._known(rollouts, frozen)
        taken, sampled = _taken(rollouts), _sampled(rollouts)
        if first:  # it knows nothing yet: what was earned to the end is all there is
            critic.fit(known, taken, self._returns(rollouts, known, torch.zeros(len(taken)), 1.0), 4 * CRITIC_STEPS)
            critic.memory.clear()  # from now on these returns count with the critic's values in them
        with torch.no_grad():
            worth = critic(known)
        values = (worth * sampled).sum(-1)
        returns = self._returns(rollouts, known, values, config.gae_lambda)
        advantage = worth - values.unsqueeze(1)
        advantage.scatter_(1, taken.unsqueeze(1), (returns - values).unsqueeze(1))
        result = Advantages(
            decision_weight=sampled,
            decision=scaled(advantage, sampled, config.whiten_advantages),
            content=content_advantages(rollouts, self.max_reply_tokens),
            raw=_of_tokens(returns - values, rollouts, config.whiten_advantages),
        )
        error = returns - worth.gather(1, taken.unsqueeze(1)).squeeze(1)
        critic.fit(known, taken, returns, CRITIC_STEPS)
        return result, {"critic/explained": 1.0 - float(error.var() / returns.var().clamp_min(1e-6))}

    def _known(self, rollouts: Sequence[Rollout], frozen: Tensor | None) -> Tensor:
        """Return what the critic is told of each decision: float32 [D, its inputs], on the CPU."""
        if frozen is not None:
            return frozen.float().cpu()
        return torch.cat([situation(r.trace, r.decision_chunks, r.probability, self.config.gamma) for r in rollouts])

    def _returns(self, rollouts: Sequence[Rollout], known: Tensor, values: Tensor, gae_lambda: float) -> Tensor:
        """Return the lambda-returns of all decisions, float32 [D]: advantages plus values [D]."""
        gamma, result = self.config.gamma, []
        counts = [len(rollout.decision_chunks) for rollout in rollouts]
        for rollout, own, seen in zip(rollouts, values.split(counts), known.split(counts), strict=True):
            last = self._value_of_cut(rollout, seen[-1:]) if rollout.truncated else 0.0
            rewards, chunks = rollout.decision_rewards, torch.tensor(rollout.decision_chunks)
            end = len(rollout.trace.steps)
            result.append(own + decision_advantages(rewards, own, chunks, end, last, gamma, gae_lambda))
        return torch.cat(result)

    def _value_of_cut(self, rollout: Rollout, latest: Tensor) -> float:
        """Return what would have come after a stream was cut.

        Of hidden states there is none after the last decision, `latest` [1, inputs]: its own value has to do.
        """
        if self.config.critic == "hidden":
            return self.critic.value_of(latest, rollout.probability[-1])
        trace = rollout.trace
        ahead = situation(trace, [len(trace.steps)], [rollout.probability[-1]], self.config.gamma)
        return self.critic.value_of(ahead, rollout.probability[-1])


class GroupCredit:
    """Group-relative advantages (GRPO, Shao et al. 2024): episodes of one scenario are compared with each other.

    Words are compared as `content_advantages` does, but within the group: with what was said of the same stream.
    """

    def __init__(self, config: ReinforcementConfig, max_reply_tokens: int) -> None:
        self.config, self.max_reply_tokens = config, max_reply_tokens

    def assign(
        self, rollouts: Sequence[Rollout], frozen: Tensor | None, first: bool
    ) -> tuple[Advantages, dict[str, float]]:
        """Return the advantages; a group stands together. The choice that was not taken counts nothing.

        `group/without_difference` is the share of groups whose episodes earned the same: nothing is learned from them.
        """
        size, config = self.config.episodes_per_scenario, self.config
        groups = [rollouts[i : i + size] for i in range(0, len(rollouts), size)]
        own = [group_advantages(group, config.gamma) for group in groups]
        advantage, taken = torch.cat(own), _taken(rollouts).unsqueeze(1)
        both = torch.zeros(len(advantage), 2)
        weight, decision = both.scatter(1, taken, 1.0), both.scatter(1, taken, advantage.unsqueeze(1))
        result = Advantages(
            decision_weight=weight,
            decision=scaled(decision, weight, True) if config.whiten_advantages else decision,
            content=torch.cat([content_advantages(g, self.max_reply_tokens) for g in groups]),
            raw=_of_tokens(advantage, rollouts, config.whiten_advantages),
        )
        return result, {"group/without_difference": sum(not a.any() for a in own) / len(own)}


def make_credit(config: ReinforcementConfig, critic: Critic, max_reply_tokens: int) -> Credit:
    """Return what the configuration asks for; a group needs no critic."""
    if config.algorithm == "grpo":
        return GroupCredit(config, max_reply_tokens)
    return CriticCredit(critic, config, max_reply_tokens)


def _taken(rollouts: Sequence[Rollout]) -> Tensor:
    return torch.cat([rollout.choices for rollout in rollouts])


def _sampled(rollouts: Sequence[Rollout]) -> Tensor:
    return torch.cat([rollout.decision_policy for rollout in rollouts])


def scaled(advantage: Tensor, weight: Tensor, whiten: bool) -> Tensor:
    """Divide by the deviation from 0, or (`whiten`) subtract the mean and divide by the deviation from it.

    Args:
        advantage: float32 [D, choices].
        weight: float32 [D, choices] that sum to 1 over the choices.
        whiten: Whether the mean is subtracted.
    """
    if whiten:
        advantage = advantage - (weight * advantage).sum(-1).mean()
    scale = (weight * advantage.square()).sum(-1).mean().sqrt()
    return advantage / (scale + 1e-6)


def _of_tokens(advantage: Tensor, rollouts: Sequence[Rollout], whiten: bool) -> Tensor:
    """Give a decision's advantage [D] to its control token and the reply tokens that follow it: float32 [A]."""
    is_decision = torch.tensor([d for rollout in rollouts for d in rollout.is_decision])
    of_decision = is_decision.cumsum(0) - 1  # every episode begins with a decision
    own = advantage[of_decision].unsqueeze(1)
    return scaled(own, torch.ones_like(own), whiten).squeeze(1)
