"""A LALM put together from tensors, after all of them were checked."""

from collections.abc import Mapping

import torch
from torch import Tensor

from envs.errors import PolicyError
from policies.configuration_lalm import LALMConfig
from policies.modeling_lalm import LALM

_SHOWN = 8  # of the tensors that are wrong in one way


def assemble(config: LALMConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype, source: object) -> LALM:
    """Return the LALM of a configuration with the given tensors.

    Args:
        config: Its shape.
        tensors: Every tensor by its name in the LALM; `decision_head` may be left out and is zero then.
        dtype: What they are converted to.
        source: Where they come from, for the message.

    Raises:
        PolicyError: naming all tensors that are missing, unexpected or of another shape.
    """
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in LALM(config).state_dict().items()}
    zeros = {name: torch.zeros(shape) for name, shape in expected.items() if name.startswith("decision_head.")}
    tensors = {**zeros, **tensors}
    check_tensors(expected, tensors, source)
    return LALM.from_pretrained(None, config=config, state_dict=tensors, dtype=dtype).eval()


def check_tensors(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor], source: object) -> None:
    """Check that tensors have the expected names and shapes.

    Raises:
        PolicyError: naming all that are missing, unexpected or of another shape.
    """
    both = sorted(expected.keys() & found.keys())
    wrong = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{name} {list(found[name].shape)}, not {list(expected[name])}"
            for name in both
            if tuple(found[name].shape) != expected[name]
        ],
    }
    if any(wrong.values()):
        parts = [f"{len(names)} {how}: {_some(names)}" for how, names in wrong.items() if names]
        raise PolicyError(f"{source}: tensors do not fit: {'; '.join(parts)}")


def _some(names: list[str]) -> str:
    left = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {left} more" if left > 0 else "")
