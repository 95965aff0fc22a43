"""The loss of PPO over streams: decisions and reply tokens as two policies, or as one over the vocabulary.

A reply is rare and an early one rarer, so the decision's loss counts both choices at every decision (an all-action
policy gradient, Allen et al. 2017): the one taken has its generalised advantage, the other the critic's estimate. And
the ratio may grow further than it may fall: 0.02 grows by a fifth at a time to 0.25 in 14 steps, by twice in 4.
Group-relative advantages know nothing of the other choice; there the one taken counts alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.modeling_lalm import LALM
from trainers.config import ReinforcementConfig
from trainers.experience import Experience
from trainers.kl_controller import KLController

SPLIT, RAW = ("decision", "content"), ("token",)  # parts of the policy under each objective


@dataclass
class Part:
    """One part's share of a loss: sums over its actions in a piece, over how many the whole minibatch has."""

    name: str
    coefficient: float
    policy_loss: Tensor
    kl: Tensor
    clipped: Tensor
    count: int


class PPOLoss:
    """The clipped loss with its KL to the supervised policy, of some episodes of a minibatch."""

    def __init__(self, config: ReinforcementConfig, kl: KLController) -> None:
        self.config, self.kl = config, kl
        self.names = SPLIT if config.objective == "split" else RAW

    @property
    def no_statistics(self) -> dict[str, float]:
        """What is said of no episode at all: zeros, by name."""
        return {f"{name}/{which}": 0.0 for which in self.names for name in ("loss", "kl", "clipped", "actions")}

    def __call__(
        self, policy: LALM, batch: Experience, piece: Tensor, counts: Mapping[str, float]
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a piece and its parts; over the pieces of a minibatch they add up to the minibatch's.

        Args:
            policy: Is trained.
            batch: All episodes.
            piece: int64, those that go through the model now.
            counts: `actions` and `decisions` of the whole minibatch, other processes' episodes included.
        """
        actions, decisions = int(counts["actions"]), int(counts["decisions"])
        hidden, taken = batch.hidden_of(policy, piece, self.config.tokens_per_minibatch is not None)
        if self.config.objective == "raw_token":
            parts = [self._token_part(policy, hidden, batch, taken, actions)]
        else:
            parts = [self._decision_part(policy, hidden, batch, taken, decisions)]
            if (taken & ~batch.is_decision).any():
                parts.append(self._content_part(policy, hidden, batch, taken, actions - decisions))
        loss = hidden.sum() * 0.0
        statistics = self.no_statistics
        for part in parts:
            loss = loss + part.coefficient * part.policy_loss + self.kl.coefficients[part.name] * part.kl
            statistics |= {
                f"loss/{part.name}": part.policy_loss.item(),
                f"kl/{part.name}": part.kl.item(),
                f"clipped/{part.name}": part.clipped.item(),
                f"actions/{part.name}": part.count,
            }
        return loss, statistics

    def _decision_part(self, policy: LALM, hidden: Tensor, batch: Experience, taken: Tensor, total: int) -> Part:
        config, rows = self.config, taken[batch.is_decision]
        log_probs = policy.decision_log_probs(hidden[batch.is_decision[taken]])
        sampled, advantage, weight = batch.decision_policy[rows], batch.decision_advantage[rows], batch.decision_weight
        gain, clipped = all_action_gain(
            log_probs, sampled, advantage, config.clip, config.decision_clip_high, weight[rows]
        )
        chosen = clipped.float().gather(1, batch.action[batch.is_decision][rows].unsqueeze(1))
        coefficient = 0.0 if config.mode == "content_only" else config.decision_coef
        kl = kl_divergence(log_probs, batch.reference[0][rows])
        return _part("decision", coefficient, gain, kl, chosen, total)

    def _content_part(self, policy: LALM, hidden: Tensor, batch: Experience, taken: Tensor, total: int) -> Part:
        config = self.config
        rows, of_content = taken & ~batch.is_decision, taken[~batch.is_decision]
        log_probs = policy.content_log_probs(hidden[~batch.is_decision[taken]])
        ratio = (log_probs.gather(1, batch.action[rows].unsqueeze(1)).squeeze(1) - batch.log_prob[rows]).exp()
        gain, clipped = clipped_gain(ratio, batch.content_advantage[of_content], config.clip, config.clip)
        coefficient = 0.0 if config.mode == "decision_only" else config.content_coef
        kl = kl_divergence(log_probs, batch.reference[1][of_content])
        return _part("content", coefficient, gain, kl, clipped.float(), total)

    def _token_part(self, policy: LALM, hidden: Tensor, batch: Experience, taken: Tensor, total: int) -> Part:
        log_probs = raw_log_probs(policy, hidden, batch.is_decision[taken])
        ids = raw_ids(policy, batch)[taken].unsqueeze(1)
        ratio = (log_probs.gather(1, ids).squeeze(1) - batch.raw_log_prob[taken]).exp()
        gain, clipped = clipped_gain(ratio, batch.raw_advantage[taken], self.config.clip, self.config.clip)
        kl = kl_divergence(log_probs, batch.raw_reference[taken])
        return _part("token", 1.0, gain, kl, clipped.float(), total)


def _part(name: str, coefficient: float, gain: Tensor, kl: Tensor, clipped: Tensor, total: int) -> Part:
    return Part(name, coefficient, -(gain.sum() / total), kl.sum() / total, clipped.sum() / total, len(gain))


def all_action_gain(
    log_probs: Tensor,
    sampled: Tensor,
    advantage: Tensor,
    clip: float,
    clip_high: float,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped gain of decisions, summed over the choices.

    Args:
        log_probs: float32 [D, choices] of the policy being trained.
        sampled: float32 [D, choices], probabilities of the policy that sampled.
        advantage: float32 [D, choices].
        clip: How far a ratio may fall below 1.
        clip_high: How far it may grow beyond 1.
        weight: float32 [D, choices], how much each choice counts; None: as the sampling policy weighs it.

    Returns:
        The gain, float32 [D], and which ratios were clipped, bool [D, choices].
    """
    ratio = log_probs.exp() / sampled.clamp_min(1e-8)
    gain, clipped = clipped_gain(ratio, advantage, clip, clip_high)
    return ((sampled if weight is None else weight) * gain).sum(-1), clipped


def clipped_gain(ratio: Tensor, advantage: Tensor, clip: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """Return PPO's pessimistic gain (Schulman et al. 2017, eq. 7) and which ratios were clipped; shapes stay."""
    clipped = ratio.clamp(1 - clip, 1 + clip_high)
    return torch.minimum(ratio * advantage, clipped * advantage), ratio != clipped


def kl_divergence(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Return the divergences [A] of [A, choices] from the reference; what cannot be chosen has no part in them."""
    difference = torch.where(log_probs > -torch.inf, log_probs - reference, 0.0)
    return (log_probs.exp() * difference).sum(-1)


def raw_log_probs(policy: LALM, hidden: Tensor, is_decision: Tensor) -> Tensor:
    """Return log-probabilities over the whole vocabulary, control tokens and all: float32 [A, vocab].

    At decisions the decision's head adds to the logit of `response`, so that the two control tokens stand to each other
    as they do where the engine decides.

    Args:
        policy: The policy.
        hidden: [A, hidden] that predict the actions.
        is_decision: bool [A].
    """
    odds = policy.decision_odds(hidden) * is_decision
    response = torch.tensor([policy.layout.response], device=odds.device)
    return policy.lm_head(hidden).float().index_add(1, response, odds.unsqueeze(1)).log_softmax(-1)


def raw_ids(policy: LALM, batch: Experience) -> Tensor:
    """Return the vocabulary's ids of all actions, int64 [A]: of a decision, its control token."""
    control = batch.action.new_tensor([policy.layout.silent, policy.layout.response])
    return torch.where(batch.is_decision, control[batch.action.clamp(0, 1)], batch.action)
