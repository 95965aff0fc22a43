"""One stream's state inside the engine."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from envs.clock import chunk_end_s
from policies.features import FeatureStream
from policies.token_layout import StreamLayout, TokenLayout

Decision = Literal["silent", "response", "speaking"]


@dataclass(frozen=True)
class StepEvent:
    """What one session did in one engine step."""

    session: int
    chunk: int  # the last chunk heard
    decision: Decision  # "speaking": in the middle of a reply no decision is taken
    probability: float | None  # of `response`, where a decision was taken
    token_ids: tuple[int, ...]  # reply tokens of this step, the end token included
    reply_ended: bool
    log_prob: float | None = None  # of the decision taken, as sampled
    token_log_probs: tuple[float, ...] = ()
    embeddings: Tensor | None = None  # of the last chunk heard [N, hidden], for a learner over a frozen encoder

    @property
    def time_s(self) -> float:
        """The moment at which the chunk had been heard, in seconds of the stream."""
        return chunk_end_s(self.chunk)


@dataclass
class Sampling:
    """How a session decides and writes.

    Attributes:
        threshold: Speak when P(response) reaches it; None samples the decision.
        temperature: Of the reply's tokens; 0 takes the most likely one.
        seed: Each session draws from its own generator.
    """

    threshold: float | None = None
    temperature: float = 0.0
    seed: int = 0


@dataclass
class Session:
    """State of one stream: what was heard and not yet understood, and what is being said."""

    id: int
    slot: int
    stream: StreamLayout
    sampling: Sampling
    rng: np.random.Generator
    audio: FeatureStream  # what was heard and is not yet encoded
    queue: deque[Tensor] = field(default_factory=deque)  # encoded chunks [N, hidden], not yet drained
    last_embedding: Tensor | None = None
    hidden: Tensor | None = None  # at the position that predicts the next token
    chunks_heard: int = 0
    reply: list[int] | None = None  # tokens of the reply being said; None while silent

    @classmethod
    def fresh(cls, id: int, slot: int, layout: TokenLayout, sampling: Sampling, context_samples: int) -> "Session":
        """Return the state before the first sample."""
        rng = np.random.default_rng(sampling.seed)
        return cls(id, slot, StreamLayout(layout), sampling, rng, FeatureStream(context_samples))

    def take_windows(self) -> list[Tensor]:
        """Take all complete chunks that are not yet encoded: each float32 [context_samples + 6400]."""
        windows = self.audio.take()
        self.chunks_heard += len(windows)
        return windows
