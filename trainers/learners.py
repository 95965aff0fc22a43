"""The processes that learn together, as `torchrun` starts them: who does what, and how it is put together again.

Each plays and learns from its share of the episodes or samples; whatever is a mean over them is one over all. With one
process nothing is sent, and nothing is computed otherwise than without this file.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from envs.errors import ConfigError

T = TypeVar("T")
_PATIENCE = timedelta(days=1)  # composing for all is done by one, and torchrun ends those who wait for one that died


def learning_device() -> torch.device:
    """Return where this process learns and plays: its own GPU where CUDA is there, else the CPU.

    No other accelerator, as `policies.device` has it.

    Raises:
        ConfigError: when more processes were started on this machine than it has GPUs.
    """
    return _process().device if torch.cuda.is_available() else torch.device("cpu")


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """Let GPUs add up in the same order every time, so that a run that goes on ends with the bits of one not killed.

    On a CPU nothing changes.

    Raises:
        RuntimeError: from what is computed in it, where a kernel of a GPU has no such order; torch names it.
    """
    if not torch.cuda.is_available():
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _process() -> PartialState:
    """Return what Accelerate reads from the environment that torchrun set; the first call decides for all.

    It wants to be told what a CPU does, and how long others may be waited for.
    """
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if torch.cuda.is_available() and here > gpus:
        raise ConfigError(
            f"torchrun started {here} processes on this machine, of {gpus} GPU{'s' * (gpus > 1)}: start at most one for"
            " each, or set CUDA_VISIBLE_DEVICES= to learn on CPUs"
        )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # `repeatable_kernels`; cuBLAS reads it but once
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


class Learners:
    """All learners, seen from one of them. Every one has to make the same calls, in the same order."""

    def __init__(self) -> None:
        state = _process()
        self.rank, self.count, self.device = state.process_index, state.num_processes, learning_device()

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and says things."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes have come so far."""
        if self.count > 1:
            distributed.barrier()

    def share(self, total: int) -> range:
        """Return which of `total` episodes are this process's; shares follow each other in the order of the ranks."""
        return range(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def gather(self, own: Sequence[T]) -> list[T]:
        """Return what all processes have, in the order of their ranks; it is pickled."""
        if self.count == 1:
            return list(own)
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, list(own))
        return [one for part in found for one in part]

    def add(self, own: Mapping[str, float]) -> dict[str, float]:
        """Return the sums over all processes; all have the same keys."""
        if self.count == 1:
            return dict(own)
        total = torch.tensor(list(own.values()), dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return dict(zip(own, total.tolist(), strict=True))

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the sums of all gradients; what has none anywhere keeps none."""
        if self.count == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        somewhere = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=self.device)
        distributed.all_reduce(somewhere, distributed.ReduceOp.MAX)
        for parameter, has_one in zip(trained, somewhere.tolist(), strict=True):
            if has_one:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                distributed.all_reduce(parameter.grad)

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the main one's numbers, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), src=0)
