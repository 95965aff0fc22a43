"""A LALM's chunk encoder by itself, for learners that take its embeddings as they are."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.models.qwen2 import Qwen2Config

from policies.backbones import find_backbone
from policies.backbones.base import Encoder
from policies.configuration_lalm import LALMConfig
from policies.features import FeatureStream
from policies.modeling_lalm import LALM
from policies.policy_folder import find_policy, read_policy


class FrozenEncoder(nn.Module):
    """Encodes chunks as the engine does, and never changes: it has no gradients and no training mode.

    Args:
        config: The LALM's.
        encoder: The LALM's chunk encoder; it is frozen here.
        projector: What follows it; likewise.

    Attributes:
        embedding_size: How many numbers a chunk becomes: N embeddings of the language model's size.
    """

    def __init__(self, config: LALMConfig, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.config, self.encoder, self.projector = config, encoder, projector
        self.features = find_backbone(config.backbone).features(config)
        self.embedding_size = config.token_layout.audio_tokens_per_chunk * int(config.text_config["hidden_size"])
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def of(cls, model: LALM) -> "FrozenEncoder":
        """Return a copy of a model's encoder, on its device; training the model later does not change it."""
        return cls(model.config, deepcopy(model.encoder), deepcopy(model.projector)).to(model.device)

    @classmethod
    def from_policy(cls, folder: str | Path) -> "FrozenEncoder":
        """Return the encoder of a policy folder.

        Raises:
            PolicyError: when it is no usable one.
        """
        return cls.of(read_policy(find_policy(folder))[0])

    @classmethod
    def of_random_weights(cls, config: LALMConfig) -> "FrozenEncoder":
        """Return one of that shape, for weights to be loaded into."""
        backbone = find_backbone(config.backbone)
        encoder = backbone.encoder(config)
        return cls(config, encoder, backbone.projector(encoder.output_size, Qwen2Config(**config.text_config)))

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stay in evaluation mode: statistics are frozen as well."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, windows: Sequence[Tensor], streams: Sequence[FeatureStream]) -> Tensor:
        """Return the embeddings of chunks, those that the engine gives in `StepEvent.embeddings`.

        Args:
            windows: M chunks as `FeatureStream.take` returns them, each float32 [context_samples + 6400].
            streams: The stream of each; rows of one stream are in order.

        Returns:
            float32 [M, N, hidden].
        """
        weight = next(self.parameters())
        features = self.features(torch.stack(list(windows)).to(weight.device), streams)
        embeddings: Tensor = self.projector(self.encoder(features.to(weight.dtype)))
        return embeddings.float()
