"""Fully sharded training (FSDP2): each process holds a part of every layer, and layers are gathered one at a time.

`Trainer` and Accelerate do the same when they are told the classes of the layers: `layer_classes` names them.
"""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from envs.errors import PolicyError
from policies.modeling_lalm import LALM


def layer_classes(module: nn.Module) -> list[str]:
    """Return the class names of the layers of the LALM in a module: what `fsdp_transformer_layer_cls_to_wrap` takes.

    Raises:
        PolicyError: when there is no LALM in it.
    """
    for part in module.modules():
        if isinstance(part, LALM):
            return sorted(part._no_split_modules)
    raise PolicyError(f"there is no LALM in a {type(module).__name__}")


def wrap_policy(module: nn.Module, mesh: DeviceMesh | None = None) -> nn.Module:
    """Shard the LALM in a module over the processes, in place; make the optimizer afterwards.

    Each decoder layer and each layer of the audio tower is a group of its own. The rest is one more group, which stays
    gathered from the module's forward to its backward: embeddings and a head tied to them must be in the same.

    Args:
        module: What is called in training: a LALM has no forward, the loss around it has.
        mesh: The processes; default: all of them.

    Raises:
        PolicyError: when there is no LALM in it.
    """
    names = layer_classes(module)
    for part in list(module.modules()):
        if type(part).__name__ in names:
            fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module
