"""Who is to be praised: advantages of an iteration's decisions and words, from a critic or from the group."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from trainers.advantages import content_advantages, decision_advantages, group_advantages
from trainers.config import ReinforcementConfig
from trainers.critic import Critic, situation
from trainers.experience import Experience
from trainers.rollouts import Rollout

CRITIC_STEPS = 100  # of fitting, an iteration


class Credit(Protocol):
    """Fills in the advantages of an iteration."""

    def assign(self, batch: Experience, rollouts: Sequence[Rollout], frozen: Tensor, first: bool) -> dict[str, float]:
        """Give the batch its advantages and weights.

        Args:
            batch: The rollouts as tensors.
            rollouts: The episodes.
            frozen: [D, hidden], the reference policy's states where decisions were taken.
            first: Whether it is the first iteration.

        Returns:
            What to log.
        """


class CriticCredit:
    """Generalised advantages over a critic that is fitted to what was earned."""

    def __init__(self, critic: Critic, config: ReinforcementConfig, max_reply_tokens: int) -> None:
        self.critic, self.config, self.max_reply_tokens = critic, config, max_reply_tokens

    def assign(self, batch: Experience, rollouts: Sequence[Rollout], frozen: Tensor, first: bool) -> dict[str, float]:
        """Give the batch its advantages, and fit the critic to the returns.

        `critic/explained` is the share of the returns' variance that the critic knew before it saw them, at most 1; in
        the first iteration after it saw them, since before that it knows nothing.
        """
        critic, config = self.critic, self.config
        known = self._known(rollouts, frozen)
        taken, sampled = batch.action[batch.is_decision].cpu(), batch.decision_policy.cpu()
        if first:  # it knows nothing yet: what was earned to the end is all there is
            critic.fit(known, taken, self._returns(rollouts, known, torch.zeros(len(taken)), 1.0), 4 * CRITIC_STEPS)
            critic.memory.clear()  # from now on these returns count with the critic's values in them
        with torch.no_grad():
            worth = critic(known)
        values = (worth * sampled).sum(-1)
        returns = self._returns(rollouts, known, values, config.gae_lambda)
        advantage = worth - values.unsqueeze(1)
        advantage.scatter_(1, taken.unsqueeze(1), (returns - values).unsqueeze(1))
        device = batch.row.device
        batch.decision_weight = batch.decision_policy
        batch.decision_advantage = scaled(advantage, sampled, config.whiten_advantages).to(device)
        batch.content_advantage = content_advantages(rollouts, self.max_reply_tokens).to(device)
        batch.raw_advantage = _of_tokens((returns - values).to(device), batch, config.whiten_advantages)
        error = returns - worth.gather(1, taken.unsqueeze(1)).squeeze(1)
        critic.fit(known, taken, returns, CRITIC_STEPS)
        return {"critic/explained": 1.0 - float(error.var() / returns.var().clamp_min(1e-6))}

    def _known(self, rollouts: Sequence[Rollout], frozen: Tensor) -> Tensor:
        """Return what the critic is told of each decision: float32 [D, its inputs], on the CPU."""
        if self.config.critic == "hidden":
            return frozen.float().cpu()
        return torch.cat([situation(r.trace, r.decision_chunks, r.probability, self.config.gamma) for r in rollouts])

    def _returns(self, rollouts: Sequence[Rollout], known: Tensor, values: Tensor, gae_lambda: float) -> Tensor:
        """Return the lambda-returns of all decisions, float32 [D]: advantages plus values [D]."""
        gamma, result = self.config.gamma, []
        counts = [len(rollout.decision_chunks) for rollout in rollouts]
        for rollout, own, seen in zip(rollouts, values.split(counts), known.split(counts), strict=True):
            last = self._value_of_cut(rollout, seen[-1:]) if rollout.truncated else 0.0
            rewards, chunks = rollout.decision_rewards, torch.tensor(rollout.decision_chunks)
            result.append(own + decision_advantages(rewards, own, chunks, last, gamma, gae_lambda))
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

    def assign(self, batch: Experience, rollouts: Sequence[Rollout], frozen: Tensor, first: bool) -> dict[str, float]:
        """Give the batch its advantages; a group stands together. The choice that was not taken counts nothing.

        `group/without_difference` is the share of groups whose episodes earned the same: nothing is learned from them.
        """
        size, config, device = self.config.episodes_per_scenario, self.config, batch.row.device
        groups = [rollouts[i : i + size] for i in range(0, len(rollouts), size)]
        own = [group_advantages(group, config.gamma) for group in groups]
        advantage = torch.cat(own).to(device)
        taken = batch.action[batch.is_decision].unsqueeze(1)
        both = torch.zeros_like(batch.decision_policy)
        batch.decision_weight = both.scatter(1, taken, 1.0)
        batch.decision_advantage = both.scatter(1, taken, advantage.unsqueeze(1))
        if config.whiten_advantages:
            batch.decision_advantage = scaled(batch.decision_advantage, batch.decision_weight, True)
        batch.content_advantage = torch.cat([content_advantages(g, self.max_reply_tokens) for g in groups]).to(device)
        batch.raw_advantage = _of_tokens(advantage, batch, config.whiten_advantages)
        return {"group/without_difference": sum(not a.any() for a in own) / len(own)}


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


def _of_tokens(advantage: Tensor, batch: Experience, whiten: bool) -> Tensor:
    """Give a decision's advantage [D] to its control token and the reply tokens that follow it: float32 [A]."""
    of_decision = batch.is_decision.cumsum(0) - 1  # every episode begins with a decision
    own = advantage[of_decision].unsqueeze(1)
    return scaled(own, torch.ones_like(own), whiten).squeeze(1)
