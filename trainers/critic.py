"""The critic: what waiting and responding are worth, read off the scenario.

Only the policy has to live in the dark. A critic serves in training alone, so it may know the scenario (asymmetric
actor-critic, Pinto et al. 2018): which cues are open, how late it is for each, what is about to come. Without that,
most of a return's variance is what the stream has yet to bring, which no decision can change and no listener can
foresee. It looks at a handful of numbers and not at the policy's hidden states: a few dozen streams are too few to
learn from those. With more, and where scenarios say little (rewards of one's own), `critic: hidden` may: the same
network over the states of the frozen, supervised trunk.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from envs.clock import CHUNK_S, chunk_end_s
from envs.trace import Trace

SITUATION_SIZE = 14
_SCALE_S = 5.0  # the longest sound; what is given in seconds is divided by it


def situation(trace: Trace, chunks: Sequence[int], probabilities: Sequence[float], gamma: float) -> Tensor:
    """Return what an all-knowing critic sees of an episode when decisions are due.

    Args:
        trace: The episode, played out.
        chunks: [D], when the decisions were taken; a decision counts from the end of its chunk.
        probabilities: [D], P(response) of the policy: what it makes of what it hears.
        gamma: Discount a chunk, for what lies ahead.

    Returns:
        float32 [D, SITUATION_SIZE], about the size of 1: see `_of_cues` for the first; then whether a sound is on that
        deserves no reply, how near the end is, and the policy's log-odds.
    """
    now = np.array([[chunk_end_s(chunk)] for chunk in chunks])
    cues = _of_cues(trace, now, gamma) if trace.cues else np.zeros((len(now), SITUATION_SIZE - 3))
    distractors = [e for e in trace.events if e.role == "foreground" and e.decision == "IGNORE"]
    begin, end = (np.array([[getattr(e, name) for e in distractors]]) for name in ("onset_s", "end_s"))
    distracted = ((begin <= now) & (now <= end + CHUNK_S)).any(axis=1)
    left = gamma ** np.maximum(trace.num_chunks - 1 - np.array(chunks), 0)
    p = np.clip(np.array(probabilities), 1e-4, 1 - 1e-4)
    return torch.from_numpy(np.column_stack((cues, distracted, left, np.log(p / (1 - p)) / _SCALE_S))).float()


def _of_cues(trace: Trace, now: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Return [D, 11] at the times `now` [D, 1].

    Of the cue that a reply would answer: whether there is one; what is left of its window, from 1 at `ready_s` to 0 at
    the deadline, by urgency; how premature a reply would be; its urgency; the discounted cost of its miss; seconds to
    the deadline. Then: how many more cues are open; discounted counts of the cues ahead and, by urgency, of the
    deadlines to come; whether a sound may still be on that was answered, and for how long.
    """
    onset, ready, deadline, urgency = (
        np.array([[getattr(cue, name) for cue in trace.cues]])
        for name in ("onset_s", "ready_s", "deadline_s", "urgency")
    )
    answered_at = np.full_like(onset, np.inf)
    for reply in trace.replies:
        if reply.cue is not None:
            answered_at[0, reply.cue] = reply.start_s
    is_open = (onset <= now) & (now <= deadline) & (now <= answered_at)
    first = is_open & (np.cumsum(is_open, axis=1) == 1)
    ahead, answered = onset > now, (now > answered_at) & (now < deadline)
    to_deadline = np.clip(deadline - now, 0.0, None)
    cost = np.where(is_open | ahead, urgency * gamma ** (to_deadline / CHUNK_S), 0.0)
    return np.column_stack(
        [
            is_open.any(axis=1),
            (first * np.clip(urgency * (deadline - now) / (deadline - ready), 0.0, 1.0)).sum(axis=1),
            (first * np.maximum(ready - now, 0.0) / (ready - onset)).sum(axis=1),
            (first * urgency).sum(axis=1),
            (first * cost).sum(axis=1),
            (first * to_deadline).sum(axis=1) / _SCALE_S,
            np.maximum(is_open.sum(axis=1) - 1, 0),
            np.where(ahead, gamma ** (np.maximum(ready - now, 0.0) / CHUNK_S), 0.0).sum(axis=1),
            cost.sum(axis=1),
            answered.any(axis=1),
            (answered * to_deadline).sum(axis=1) / _SCALE_S,
        ]
    )


class Critic(nn.Module):
    """Values of both decisions, fitted to the returns of the decisions that were taken.

    Args:
        inputs: How many numbers it is told of each decision.
        width: Of its layers.
        remembered: Iterations that it is fitted to.
    """

    base_model_prefix = "trunk"  # TRL looks there for a language model; ours has none

    def __init__(self, inputs: int = SITUATION_SIZE, width: int = 128, remembered: int = 8) -> None:
        super().__init__()
        self.trunk = nn.Identity()
        last = nn.Linear(width, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.score = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last)
        self.optimizer = torch.optim.AdamW(self.score.parameters(), 1e-3, weight_decay=0.03)
        self.memory: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=remembered)  # of the latest iterations

    def forward(self, situations: Tensor) -> Tensor:
        """Return the values of (waiting, responding): [..., inputs] -> [..., 2], on the device of the input."""
        own = next(self.score.parameters()).device  # the trainer's; what is known of an episode is on the CPU
        return self.score(situations.to(own)).to(situations.device)

    def value_of(self, known: Tensor, probability: float) -> float:
        """Return the value of deciding with P(response) `probability` where this is known: [1, inputs]."""
        with torch.no_grad():
            wait, respond = self(known)[0].tolist()
        return (1.0 - probability) * wait + probability * respond

    def fit(self, situations: Tensor, decisions: Tensor, returns: Tensor, steps: int) -> None:
        """Fit the values of the decisions taken, of this iteration and those remembered.

        Args:
            situations: float32 [D, inputs].
            decisions: int64 [D], 0 or 1.
            returns: float32 [D].
            steps: Of gradient descent, on 2,048 decisions each.
        """
        self.memory.append((situations, decisions, returns))
        known, taken, targets = (torch.cat(column) for column in zip(*self.memory, strict=True))
        for _ in range(steps):
            chosen = torch.randint(len(taken), (2048,))
            values = self(known[chosen]).gather(1, taken[chosen].unsqueeze(1)).squeeze(1)
            error = F.mse_loss(values, targets[chosen])
            self.optimizer.zero_grad()
            error.backward()
            self.optimizer.step()
