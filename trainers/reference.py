"""The supervised policy that a reinforced one is held to, without a second copy where adapters are trained."""

import copy

import torch
from torch import Tensor, nn

from policies.lora import adapters_off
from policies.modeling_lalm import LALM, SequenceBatch
from trainers.config import ReinforcementConfig
from trainers.experience import Experience
from trainers.ppo_loss import raw_ids, raw_log_probs


class AdaptersOff(nn.Module):
    """A model with fresh adapters as it was without them, with the decision's head that it had.

    It looks like the `LALM` that it was. Only the adapters and the decision's head of the model may be trained.
    """

    def __init__(self, model: LALM) -> None:
        super().__init__()
        self._of = (model,)  # in a tuple, so that it is no part of this module
        self.decision_head = copy.deepcopy(model.decision_head).requires_grad_(False)

    @property
    def layout(self) -> object:
        """The model's."""
        return self._of[0].layout

    @property
    def lm_head(self) -> nn.Module:
        """The model's."""
        return self._of[0].lm_head

    def hidden_states(self, batch: SequenceBatch, audio_embeddings: Tensor) -> Tensor:
        """Return what the model's would be without adapters."""
        with adapters_off(self._of[0]):
            return self._of[0].hidden_states(batch, audio_embeddings)

    def content_log_probs(self, hidden: Tensor) -> Tensor:
        """Return the model's, over its head."""
        return self._of[0].content_log_probs(hidden)

    def decision_log_probs(self, hidden: Tensor) -> Tensor:
        """Return the model's, with the decision's head that it began with."""
        return self._of[0].decision_log_probs(hidden, self.decision_head)

    def decision_odds(self, hidden: Tensor) -> Tensor:
        """Return what that head adds to the log-odds."""
        return self._of[0].decision_odds(hidden, self.decision_head)


@torch.no_grad()
def hold_to_reference(batch: Experience, policy: LALM, reference: LALM, config: ReinforcementConfig) -> Tensor:
    """Add the reference's probabilities to a batch, and what the vocabulary-wide policy sampled with where it is one.

    Args:
        batch: Takes them.
        policy: That sampled.
        reference: That it is held to; a model, or what looks like one.
        config: Of the run.

    Returns:
        The reference's hidden states that predict the actions: [A, hidden].
    """
    budget, decided = config.tokens_per_minibatch, batch.is_decision
    states = batch.states_of(reference, budget)
    if config.objective == "raw_token":
        own = raw_log_probs(policy, batch.states_of(policy, budget), decided)
        batch.raw_log_prob = own.gather(1, raw_ids(policy, batch).unsqueeze(1)).squeeze(1)
        batch.raw_reference = raw_log_probs(reference, states, decided)
    else:
        batch.reference = (
            reference.decision_log_probs(states[decided]),
            reference.content_log_probs(states[~decided]),
        )
    return states
