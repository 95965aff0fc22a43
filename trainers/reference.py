"""The supervised policy that a reinforced one is held to, without a second copy where adapters are trained."""

import copy

from torch import Tensor, nn

from policies.lora import adapters_off
from policies.modeling_lalm import LALM, SequenceBatch


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
