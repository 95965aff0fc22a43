"""What every policy is: `reset` and `act` over a batch of streams."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Observations = dict[str, NDArray[Any]]  # "audio": float32 [B, 6400], "speaking": int64 [B], "elapsed": float32 [B, 1]
Actions = dict[str, NDArray[np.int64]]  # "kind": [B], "tokens": [B, K], padded with the vocabulary's size


class Policy(Protocol):
    """Decides for a batch of streams, one chunk at a time."""

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Begin new streams in the slots where `mask` [B] is True."""

    def act(self, observations: Observations) -> Actions:
        """Return the actions after one more chunk of every stream."""

    @property
    def response_probabilities(self) -> list[float | None]:
        """P(response) of the last `act` per slot; None where no decision was taken or there is no such number."""


@runtime_checkable
class Retiring(Protocol):
    """A policy that need not go on with a stream that is over."""

    def retire(self, slot: int) -> None:
        """End the stream of a slot; it waits until it is reset."""


@runtime_checkable
class Numbered(Protocol):
    """A policy whose draws in a stream follow from how many streams it has begun: who goes on at stream n sets n."""

    episodes: int
