"""A LALM put together from tensors, after all of them were checked."""

from collections.abc import Mapping

import torch
from torch import Tensor

from policies.checkpoint_tensors import check_tensors, lalm_shapes
from policies.configuration_lalm import LALMConfig
from policies.modeling_lalm import LALM


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
    expected = lalm_shapes(config)
    zeros = {name: torch.zeros(shape) for name, shape in expected.items() if name.startswith("decision_head.")}
    tensors = {**zeros, **tensors}
    check_tensors(expected, {name: tensor.shape for name, tensor in tensors.items()}, source)
    return LALM.from_pretrained(None, config=config, state_dict=tensors, dtype=dtype).eval()
