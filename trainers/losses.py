"""The losses of supervised stages, as modules whose forward is the loss of a batch.

| loss | of | is |
|---|---|---|
| `Tagger` | single sounds | cross-entropy over labels, by a head that is thrown away |
| `DualLoss` | offline turns, streams | `L_lm + lambda * L_stream` (paper, section on the training objective) |
| `NamingLoss` | streams | the dual loss, and `L_name` |

`L_lm` and `L_stream` are cross-entropies over reply tokens and over control tokens, each divided by the weight of its
targets. Of some thirty control tokens one is `response`; `response_weight` balances them. `L_name` is not the paper's:
from the state of every decision a head, thrown away later, names the foreground sound that is on. The dual loss alone
teaches at a sound's end, once in thirty chunks; naming teaches at each, and what is known early can be reinforced to be
said early.

Where a batch is dealt out over several processes, each divides by the `counts` of all: the losses of the parts add up
to that of the batch.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.modeling_lalm import LALM
from trainers.samples import SampleBatch

Counts = Mapping[str, float]  # what the sums of a loss are divided by, by name


class NamingHead(nn.Linear):
    """Names sounds by states; it is thrown away when the stage is over."""

    def __init__(self, model: LALM, labels: Sequence[str]) -> None:
        names = sorted(set(labels))
        super().__init__(model.text_model.config.hidden_size, len(names))
        self.index = {name: i for i, name in enumerate(names)}

    def loss(self, states: Tensor, labels: Sequence[str]) -> Tensor:
        """Return the sum of the cross-entropies of the labels, by states [labels, hidden]."""
        wanted = torch.tensor([self.index[label] for label in labels], dtype=torch.int64, device=states.device)
        return F.cross_entropy(self(states.float()), wanted, reduction="sum")


class Tagger(nn.Module):
    """Names a sound by the mean of its chunks' embeddings: how an encoder without a past learns to hear."""

    def __init__(self, model: LALM, labels: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.head = NamingHead(model, labels)

    def counts(self, batch: SampleBatch) -> dict[str, float]:
        """Return what the loss of a batch is divided by."""
        return {"sounds": float(len(batch.labels))}

    def forward(self, batch: SampleBatch, counts: Counts | None = None) -> Tensor:
        """Return the cross-entropy over the labels; `counts` are those of the batch that this one is a part of."""
        counts = self.counts(batch) if counts is None else counts
        batch = batch.to(self.model.device)
        chunks = self.model.encode(batch.log_mel).mean(dim=1)  # [sum of T, hidden]
        sounds = torch.stack([own.mean(dim=0) for own in chunks.split(batch.num_chunks)])
        labelled = sounds[: len(batch.labels)]  # a part without a share has a sound, and no label
        return self.head.loss(labelled, batch.labels) / counts["sounds"]


class DualLoss(nn.Module):
    """The dual loss of a batch; without control tokens it is `L_lm` alone."""

    def __init__(self, model: LALM, stream_weight: float, response_weight: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.stream_weight, self.response_weight = stream_weight, response_weight

    def counts(self, batch: SampleBatch) -> dict[str, float]:
        """Return the weights of the reply tokens and of the control tokens to predict."""
        return {name: float(self._weights(batch, mask).sum()) for name, mask in self._targets(batch).items()}

    def hidden(self, batch: SampleBatch) -> Tensor:
        """Return the states that predict each next token: float32 [B, L - 1, hidden]."""
        embeddings = self.model.encode(batch.log_mel).flatten(0, 1)
        return self.model.hidden_states(batch.tokens, embeddings)[:, :-1]

    def parts(self, batch: SampleBatch, hidden: Tensor, counts: Counts | None = None) -> tuple[Tensor, Tensor]:
        """Return `L_lm` and `L_stream`; where there is nothing to predict, 0.

        Args:
            batch: On the model's device.
            hidden: Its states.
            counts: Of the batch that this one is a part of; None: it is whole.
        """
        counts = self.counts(batch) if counts is None else counts

        def cross_entropy(name: str, mask: Tensor) -> Tensor:
            ids = batch.tokens.ids[:, 1:][mask]
            losses = F.cross_entropy(self.model.lm_head(hidden[mask]).float(), ids, reduction="none")
            return (losses * self._weights(batch, mask)).sum() / (counts[name] or 1.0)

        lm, stream = (cross_entropy(name, mask) for name, mask in self._targets(batch).items())
        return lm, stream

    def combined(self, batch: SampleBatch, hidden: Tensor, counts: Counts | None = None) -> Tensor:
        """Return `L_lm + stream_weight * L_stream`."""
        lm, stream = self.parts(batch, hidden, counts)
        return lm + self.stream_weight * stream

    def forward(self, batch: SampleBatch, counts: Counts | None = None) -> Tensor:
        """Return `L_lm + stream_weight * L_stream`; `counts` are those of the batch that this one is a part of."""
        batch = batch.to(self.model.device)
        return self.combined(batch, self.hidden(batch), counts)

    def _targets(self, batch: SampleBatch) -> dict[str, Tensor]:
        return {"contents": batch.contents[:, 1:], "decisions": batch.decisions[:, 1:]}

    def _weights(self, batch: SampleBatch, mask: Tensor) -> Tensor:
        ids = batch.tokens.ids[:, 1:][mask]
        return torch.where(ids == self.model.layout.response, self.response_weight, 1.0)


class NamingLoss(DualLoss):
    """The dual loss, and the cross-entropy of naming the foreground sound that is on at every decision."""

    def __init__(
        self, model: LALM, stream_weight: float, response_weight: float, labels: Sequence[str], naming_weight: float
    ) -> None:
        super().__init__(model, stream_weight, response_weight)
        self.naming_weight = naming_weight
        self.head = NamingHead(model, labels)

    def counts(self, batch: SampleBatch) -> dict[str, float]:
        """Return what the parts of the loss are divided by."""
        return {**super().counts(batch), "heard": float(len(batch.heard))}

    def combined(self, batch: SampleBatch, hidden: Tensor, counts: Counts | None = None) -> Tensor:
        """Return `L_lm + stream_weight * L_stream + naming_weight * L_name`."""
        counts = self.counts(batch) if counts is None else counts
        naming = self.head.loss(hidden[batch.decisions[:, 1:]], batch.heard) / (counts["heard"] or 1.0)
        return super().combined(batch, hidden, counts) + self.naming_weight * naming
