"""How a session decides and writes: its own threshold, temperature and seed, whatever the batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.errors import PolicyError


@dataclass(frozen=True)
class Sampling:
    """How a session decides and writes.

    Attributes:
        threshold: Speak when P(response) reaches it, above 1 never; None samples the decision.
        temperature: Of the reply's tokens; 0 takes the most likely one.
        seed: Each session draws from its own generator.
        bias: Added to the log-odds of `response`: the user's dial, above 0 for fewer misses, below for fewer false
            alarms.
        top_p: Tokens are drawn from the fewest that have this much of the probability together.
        max_reply_tokens: A reply is ended after this many tokens, the end token included; None: the model's own limit,
            which is never exceeded.
        stop: A reply is ended once its last tokens are one of these runs of ids.
        unhurried: A reply is written in one step, as if it took no time; else at K tokens a chunk.
        opens: The model may open a reply; else none but those that `Engine.steer` asks for.
    """

    threshold: float | None = 0.5
    temperature: float = 0.0
    seed: int = 0
    bias: float = 0.0
    top_p: float = 1.0
    max_reply_tokens: int | None = None
    stop: tuple[tuple[int, ...], ...] = ()
    unhurried: bool = False
    opens: bool = True

    def __post_init__(self) -> None:
        wrong = {
            "threshold": self.threshold is not None and np.isnan(self.threshold),
            "seed": not isinstance(self.seed, int) or self.seed < 0,
            "temperature": not 0.0 <= self.temperature < np.inf,
            "bias": not np.isfinite(self.bias),
            "top_p": not 0.0 < self.top_p <= 1.0,
            "max_reply_tokens": self.max_reply_tokens is not None and self.max_reply_tokens < 1,
            "stop": not all(self.stop),
        }
        expected = {
            "threshold": "None or a number",
            "seed": "a whole number from 0 on",
            "temperature": "a number from 0 on",
            "bias": "a finite number",
            "top_p": "a share above 0, at most 1",
            "max_reply_tokens": "None or a count from 1 on",
            "stop": "runs of at least one id",
        }
        if found := [f"{k} is {getattr(self, k)!r}, expected {expected[k]}" for k, bad in wrong.items() if bad]:
            raise PolicyError(f"sampling: {'; '.join(found)}")

    def decide(self, probability: float, rng: np.random.Generator) -> bool:
        """Return whether to respond; a draw is taken only where there is no threshold."""
        return bool(rng.random() < probability if self.threshold is None else probability >= self.threshold)

    def must_end(self, reply: Sequence[int], longest: int) -> bool:
        """Return whether the next token has to be the end of a reply that may have `longest` tokens."""
        limit = longest if self.max_reply_tokens is None else min(longest, self.max_reply_tokens)
        return len(reply) + 1 >= limit or any(tuple(reply[-len(run) :]) == run for run in self.stop)


def biased(log_probs: Tensor, biases: Sequence[float]) -> Tensor:
    """Return log-probabilities of (silent, response) [B, 2] with a bias on the log-odds of each row."""
    if not any(biases):
        return log_probs
    odds = log_probs[:, 1] - log_probs[:, 0] + log_probs.new_tensor(list(biases))
    return torch.stack((torch.nn.functional.logsigmoid(-odds), torch.nn.functional.logsigmoid(odds)), dim=-1)


def draw_tokens(log_probs: Tensor, samplings: Sequence[Sampling], rngs: Sequence[np.random.Generator]) -> list[int]:
    """Draw one token a row: log-probabilities float32 [B, vocab] -> B ids, each with its own generator."""
    tokens: list[int] = log_probs.argmax(-1).tolist()
    drawn = [i for i, sampling in enumerate(samplings) if sampling.temperature > 0]
    if drawn:
        rows = log_probs[drawn].double().cpu()
        rows -= rows.amax(-1, keepdim=True)  # over the least temperatures the best would be as infinite as the others
        scale = rows.new_tensor([samplings[i].temperature for i in drawn]).unsqueeze(1)
        for i, row in zip(drawn, (rows / scale).softmax(-1).numpy(), strict=True):
            kept = row if samplings[i].top_p == 1.0 else _nucleus(row, samplings[i].top_p)
            tokens[i] = int(rngs[i].choice(len(kept), p=kept))
    return tokens


def _nucleus(probabilities: np.ndarray, top_p: float) -> np.ndarray:
    """Return the probabilities of the fewest tokens that have `top_p` together, as a distribution (Holtzman 2020)."""
    order = np.argsort(-probabilities, kind="stable")
    needed = int(np.searchsorted(np.cumsum(probabilities[order]), top_p)) + 1
    kept = np.zeros_like(probabilities)
    kept[order[:needed]] = probabilities[order[:needed]]
    return kept / kept.sum()
