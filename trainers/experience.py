"""Rollouts as tensors, for the training forward: what PPO sees of an iteration."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from policies.modeling_lalm import LALM, SequenceBatch
from policies.sequences import collate, lay_out
from trainers.rollouts import Rollout


def _empty() -> Tensor:
    return torch.empty(0)


@dataclass
class Experience:
    """Rollouts as tensors. `at` arrays index (episode, position that predicts an action token).

    A actions are D decisions and A - D tokens of replies, each kind in the rollouts' own order. What stands below
    `decision_policy` is filled in when the rollouts are judged.
    """

    tokens: SequenceBatch
    lengths: tuple[int, ...]  # tokens of each episode, without padding
    audio: Tensor  # float32 [rows, hidden]
    row: Tensor  # int64 [A] episode of each action token
    at: Tensor  # int64 [A] position whose hidden state predicts it
    is_decision: Tensor  # bool [A]
    action: Tensor  # int64 [A]: 1 or 0 for a decision, the token id for content
    log_prob: Tensor  # float32 [A] as sampled
    decision_policy: Tensor  # float32 [D, 2] probabilities that decisions were sampled with
    decision_weight: Tensor = field(default_factory=_empty)  # float32 [D, 2] how much of each choice's gain counts
    decision_advantage: Tensor = field(default_factory=_empty)  # float32 [D, 2] of both choices
    content_advantage: Tensor = field(default_factory=_empty)  # float32 [A - D]
    reference: tuple[Tensor, Tensor] = field(default_factory=lambda: (_empty(), _empty()))  # [D, 2] and [A - D, vocab]
    raw_log_prob: Tensor = field(default_factory=_empty)  # float32 [A] of the vocabulary-wide policy that sampled
    raw_advantage: Tensor = field(default_factory=_empty)  # float32 [A]
    raw_reference: Tensor = field(default_factory=_empty)  # float32 [A, vocab]

    def counts(self, chosen: Tensor) -> dict[str, float]:
        """Return how many `actions` and `decisions` some episodes have: int64 [B]."""
        of_them = torch.isin(self.row, chosen)
        return {"actions": int(of_them.sum()), "decisions": int((of_them & self.is_decision).sum())}

    @property
    def shortest(self) -> Tensor:
        """The piece that costs least: its shortest episode, int64 [1]."""
        return torch.tensor([self.lengths.index(min(self.lengths))], device=self.row.device)

    def pieces(self, budget: int | None, chosen: Tensor | None = None) -> Iterator[Tensor]:
        """Yield episodes that go through the model together: int64 indices, ascending in each piece.

        Args:
            budget: Tokens of a piece, padding included; episodes of about one length share it. One that is longer than
                the budget goes alone. None: all in one piece.
            chosen: int64 [B] of the episodes; default: all. Of none there is no piece.
        """
        device = self.row.device
        chosen = torch.arange(len(self.lengths), device=device) if chosen is None else chosen
        if not len(chosen):
            return
        if budget is None:
            yield chosen
            return
        piece: list[int] = []
        for episode in sorted(chosen.tolist(), key=lambda e: (-self.lengths[e], e)):
            if piece and self.lengths[piece[0]] * (len(piece) + 1) > budget:
                yield torch.tensor(sorted(piece), device=device)
                piece = []
            piece.append(episode)
        yield torch.tensor(sorted(piece), device=device)

    def hidden_of(self, model: LALM, chosen: Tensor, trimmed: bool) -> tuple[Tensor, Tensor]:
        """Run the model over some episodes.

        Args:
            model: The model, or what has its `hidden_states`.
            chosen: int64 [B] of the episodes.
            trimmed: Cut the padding that none of them needs. Other shapes round otherwise in the last digit.

        Returns:
            The hidden states that predict their actions [a, hidden], and which actions these are: bool [A].
        """
        new_row = torch.full((len(self.tokens.ids),), -1, device=chosen.device)
        new_row[chosen] = torch.arange(len(chosen), device=chosen.device)
        taken = new_row[self.row] >= 0
        length = max(self.lengths[i] for i in chosen.tolist()) if trimmed else self.tokens.ids.shape[1]
        tokens = SequenceBatch(
            self.tokens.ids[chosen, :length],
            self.tokens.audio_index[chosen, :length],
            self.tokens.position[chosen, :length],
            self.tokens.mask[chosen, :, :length, :length],
        )
        hidden = model.hidden_states(tokens, self.audio)[new_row[self.row[taken]], self.at[taken]]
        return hidden, taken

    def states_of(self, model: LALM, budget: int | None) -> Tensor:
        """Return the hidden states of a model that predict all actions, [A, hidden]; see `pieces` for the budget."""
        done = [self.hidden_of(model, piece, budget is not None) for piece in self.pieces(budget)]
        result = torch.empty(len(self.row), done[0][0].shape[1], dtype=done[0][0].dtype, device=done[0][0].device)
        for hidden, taken in done:
            result[taken] = hidden
        return result


def experience(model: LALM, rollouts: Sequence[Rollout]) -> Experience:
    """Lay the rollouts out as one padded batch on the model's device, action tokens in the rollouts' own order."""
    layout, device = model.layout, model.device
    sequences = [lay_out(layout, rollout.turns) for rollout in rollouts]
    counts = [len(rollout.embeddings) for rollout in rollouts]
    row, at, action = [], [], []
    for index, (rollout, sequence) in enumerate(zip(rollouts, sequences, strict=True)):
        decisions, contents = iter(sequence.decisions), iter(sequence.contents)
        for is_decision in rollout.is_decision:
            position = next(decisions if is_decision else contents)
            token = sequence.columns.ids[position]
            row.append(index)
            at.append(position - 1)
            action.append(int(token == layout.response) if is_decision else token)
    return Experience(
        tokens=collate(sequences, counts, layout.audio_tokens_per_chunk).to(device),
        lengths=tuple(len(sequence) for sequence in sequences),
        audio=torch.cat([e for rollout in rollouts for e in rollout.embeddings]).clone().to(device),
        row=torch.tensor(row, device=device),
        at=torch.tensor(at, device=device),
        is_decision=torch.tensor([d for rollout in rollouts for d in rollout.is_decision], device=device),
        action=torch.tensor(action, device=device),
        log_prob=torch.tensor([p for rollout in rollouts for p in rollout.log_prob], device=device),
        decision_policy=torch.cat([rollout.decision_policy for rollout in rollouts]).to(device),
    )
