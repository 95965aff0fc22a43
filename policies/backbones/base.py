"""What a backbone is: the parts that a LALM is put together from."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from transformers.models.qwen2 import Qwen2Config

from policies.configuration_lalm import LALMConfig
from policies.features import ChunkFeatures


class Encoder(nn.Module):
    """Encodes chunks, each from its own features alone, so that one by one and all at once is the same computation."""

    output_size: int
    _no_split_modules: tuple[str, ...] = ()  # classes of its layers; a `transformers` model asks its children

    def forward(self, features: Tensor) -> Tensor:
        """Return [M, N, output_size] for the features [M, frames, n_mels] of M chunks."""
        raise NotImplementedError


@dataclass(frozen=True)
class Backbone:
    """Makes the parts of a LALM from its configuration. The language model is a `Qwen2Model` in all of them."""

    features: Callable[[LALMConfig], ChunkFeatures]
    encoder: Callable[[LALMConfig], Encoder]
    projector: Callable[[int, Qwen2Config], nn.Module]  # from the encoder's output size to the language model's
