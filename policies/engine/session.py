"""One stream's state inside the engine, and what it did in a step."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from envs.clock import chunk_end_s
from envs.errors import SessionError
from policies.engine.sampling import Sampling
from policies.features import FeatureStream
from policies.token_layout import StreamLayout, TokenLayout

Decision = Literal["silent", "response", "speaking", "ended"]


@dataclass(frozen=True)
class StepEvent:
    """What one session did in one engine step.

    "silent" and "response" are decisions; "speaking" is the middle of a reply, where half duplex takes none and full
    duplex took the one to go on; "ended" says that the engine closed the session, `error` why.
    """

    session: int
    chunk: int  # the last chunk heard
    decision: Decision
    probability: float | None  # of `response`, where a decision was taken
    token_ids: tuple[int, ...]  # reply tokens of this step, the end token included
    reply_ended: bool
    log_prob: float | None = None  # of the decision taken, as sampled
    token_log_probs: tuple[float, ...] = ()
    embeddings: Tensor | None = field(
        default=None, repr=False
    )  # of the last chunk heard [N, hidden], for a learner over a frozen encoder
    reply_cut: bool = False  # the reply was stopped before its end (full duplex)
    decision_latency_s: float | None = None  # from the arrival of the chunk's last sample to the control token
    first_token_latency_s: float | None = None  # the same to a reply's first token, where this step emitted it
    error: SessionError | None = None

    @property
    def time_s(self) -> float:
        """The moment at which the chunk had been heard, in seconds of the stream."""
        return chunk_end_s(self.chunk)


@dataclass
class Session:
    """State of one stream: what was heard and not yet understood, and what is being said."""

    id: int
    slot: int
    stream: StreamLayout
    sampling: Sampling
    rng: np.random.Generator
    audio: FeatureStream  # what was heard and is not yet encoded
    arrivals: deque[float] = field(default_factory=deque)  # of chunks that are not yet encoded
    pushed_at: float = 0.0  # of the clock
    fresh: bool = True  # its slot holds what another session left
    queue: deque[Tensor] = field(default_factory=deque)  # encoded chunks [N, hidden], not yet drained
    last_embedding: Tensor | None = None
    arrival: float = 0.0  # of the last chunk heard
    chunks_heard: int = 0
    reply: list[int] | None = None  # tokens of the reply being said; None while silent
    respond_at: int | None = None  # the first decision from this chunk on is taken already
    budget: int = 0  # reply tokens that it may still say in this step

    @classmethod
    def begin(
        cls,
        id: int,
        slot: int,
        layout: TokenLayout,
        sampling: Sampling,
        context_samples: int,
        instruction: Sequence[int] = (),
    ) -> "Session":
        """Return the state before the first sample."""
        rng = np.random.default_rng(sampling.seed)
        return cls(id, slot, StreamLayout(layout, instruction), sampling, rng, FeatureStream(context_samples))
