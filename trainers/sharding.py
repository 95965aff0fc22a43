"""Fully sharded learning (FSDP): each process holds a part of every weight, of its gradient, and of its two moments.

`policies.fsdp` cuts a module up. What plays, is measured or is written has to be whole: that is a model of plain
tensors in the memory of the host, which is filled (`gather`) once an iteration or a validation, and is on the learning
device (`visiting`) only while it computes. Checkpoints hold whole tensors, as those of any run.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

from envs.errors import ConfigError
from policies.fsdp import wrap_policy
from policies.modeling_lalm import LALM
from trainers.learners import Learners

P = ParamSpec("P")
T = TypeVar("T")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def check_fsdp(key: str, asked: bool) -> None:
    """Ask whether there are processes to shard over, where that is asked for.

    Raises:
        ConfigError: naming the key, when there is one process.
    """
    if asked and Learners().count == 1:
        raise ConfigError(
            f"{key} is true, and there is one process, which would hold all the weights; start several with"
            f" `torchrun --nproc_per_node N -m trainers.cli train`, or set {key}=false"
        )


def shard(module: ModuleT, learners: Learners) -> ModuleT:
    """Return a copy of a module with a LALM in it, of which each process holds its part on its device.

    Its forward has to be called for everything that is computed with it, by all processes, equally often.

    Raises:
        ConfigError: when there is one process.
    """
    check_fsdp("fsdp", True)
    mesh = init_device_mesh(learners.device.type, (learners.count,))
    copied = copy.deepcopy(module)
    wrap_policy(copied, mesh)
    return copied


@torch.no_grad()
def gather(sharded: nn.Module, into: nn.Module) -> None:
    """Fill a whole module with the weights and buffers of its sharded copy; all processes have to call it.

    Where nothing is sharded they are one module, and nothing is done.
    """
    if sharded is into:
        return
    for own, whole in zip(_tensors(sharded), _tensors(into), strict=True):
        whole.copy_(_whole(own))


def gather_tensors(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Return tensors whole, the sharded ones on the CPU; a process that keeps none only helps, and gets none."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():  # one after another: together they may be more than the device holds
        whole = _whole(tensor)
        if keep:
            found[name] = whole.cpu() if isinstance(tensor, DTensor) else whole
    return found


def laid_out_as(like: Tensor | None, whole: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, as that of `like`; where `like` has no parts, the tensor.

    Args:
        like: Of as many dimensions, where it is sharded; as long in the one that is.
        whole: The same in all processes.
    """
    if not isinstance(like, DTensor) or whole.dim() != like.dim():  # Adam's count of steps is a number
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def visiting(device: torch.device, home: torch.device, *modules: nn.Module) -> Iterator[None]:
    """Have modules on a device so long as the context lasts, and at home after it."""
    for module in modules:
        module.to(device)
    try:
        yield
    finally:
        for module in modules:
            module.to(home)


class ReplicatedPolicy:
    """A policy that learns, whole in each process: gradients are added up after the last backward pass."""

    def __init__(self, policy: LALM, learners: Learners) -> None:
        self.policy, self.learners = policy, learners

    def compute(self, what: Callable[Concatenate[LALM, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `what(policy, ...)`: whatever is computed with the policy while it learns."""
        return what(self.policy, *args, **kwargs)

    def passes(self, pieces: Sequence[Tensor], spare: Tensor) -> list[tuple[Tensor, float]]:
        """Return the pieces of an update to be computed here, each with the factor of its loss.

        Args:
            pieces: Of this process, maybe none.
            spare: A piece to compute for nothing, where the others have more.
        """
        return [(piece, 1.0) for piece in pieces]

    def add_gradients(self) -> None:
        """Give every process the sums of all gradients.

        DDP adds them up only where a forward went through its wrapper. Ours goes through parts of the policy, in as
        many pieces as a process has of the minibatch, maybe none; and it takes means, where these are shares.
        """
        self.learners.add_gradients(self.policy.parameters())

    def gather(self, into: LALM) -> None:
        """Fill the policy that plays with what was learned; here they are one."""

    def present(self, *modules: nn.Module) -> AbstractContextManager[None]:
        """Have whole modules where they compute so long as the context lasts; here they always are."""
        return nullcontext()


class ShardedPolicy(ReplicatedPolicy):
    """A policy that learns, of which each process holds its part; the one that it is made of stays whole.

    Layers are gathered and gradients summed within passes: so all processes make equally many of them.
    """

    def __init__(self, policy: LALM, learners: Learners) -> None:
        self._root = shard(_Computing(policy.cpu()), learners)
        policy.requires_grad_(False)  # it plays
        super().__init__(self._root.policy, learners)

    def compute(self, what: Callable[Concatenate[LALM, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `what(policy, ...)`; within it the policy's layers are whole in turn."""
        result: T = self._root(what, *args, **kwargs)
        return result

    def passes(self, pieces: Sequence[Tensor], spare: Tensor) -> list[tuple[Tensor, float]]:
        """Return the pieces, and as many spare ones as others have more; FSDP takes means, where these are shares."""
        most = max(self.learners.gather([len(pieces)]))
        own = [(piece, float(self.learners.count)) for piece in pieces]
        return own + [(spare, 0.0)] * (most - len(own))

    def add_gradients(self) -> None:
        """Do nothing: the backward passes did."""

    def gather(self, into: LALM) -> None:
        """Fill the policy that plays with what was learned; once an iteration."""
        gather(self.policy, into)

    def present(self, *modules: nn.Module) -> AbstractContextManager[None]:
        """Have whole modules on the learning device so long as the context lasts, and then on the host."""
        return visiting(self.learners.device, torch.device("cpu"), *modules)


class _Computing(nn.Module):
    """Has a forward for a policy, which has none: what is computed with it."""

    def __init__(self, policy: LALM) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, what: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return what(self.policy, *args, **kwargs)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
