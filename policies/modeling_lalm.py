"""The LALM: chunk encoder -> projector -> causal language model, as a `transformers` model."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.qwen2 import Qwen2Config, Qwen2Model

from policies.backbones import find_backbone
from policies.configuration_lalm import LALMConfig
from policies.device import sent
from policies.features import ChunkFeatures
from policies.token_layout import NO_AUDIO


class ExactRotaryEmbedding(nn.Module):
    """Rotary angles in float64: float32 loses the small angles after an hour of positions.

    It holds no tensor: `from_pretrained` leaves buffers that are not in the file uninitialised.
    """

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.theta = config.rope_parameters["rope_theta"]

    def forward(self, x: Tensor, position_ids: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        """Return cos and sin of the angles: each [B, L, head_dim] in x's dtype."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float64, device=x.device) / self.head_dim
        angles = position_ids.to(torch.float64).unsqueeze(-1) * self.theta**-exponents
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        return torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x [..., heads, D] by rotary angles [..., D]."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


@dataclass
class SequenceBatch:
    """Token columns as tensors, padded on the right."""

    ids: Tensor  # int64 [B, L]
    audio_index: Tensor  # int64 [B, L] rows of `audio_embeddings`, or NO_AUDIO
    position: Tensor  # int64 [B, L]
    mask: Tensor  # bool [B, 1, L, L], True where a query may look

    def to(self, device: torch.device) -> "SequenceBatch":
        """Return the batch on a device."""
        return SequenceBatch(
            self.ids.to(device), self.audio_index.to(device), self.position.to(device), self.mask.to(device)
        )


class LALM(PreTrainedModel):
    """Hears chunks, predicts a control token after each run of them, and writes replies."""

    config_class = LALMConfig
    base_model_prefix = "text_model"
    _tied_weights_keys: ClassVar = {"lm_head.weight": "text_model.embed_tokens.weight"}
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    def __init__(self, config: LALMConfig) -> None:
        super().__init__(config)
        layout = config.token_layout
        text_config = Qwen2Config(**config.text_config)
        backbone = find_backbone(config.backbone)
        self.encoder = backbone.encoder(config)
        self.projector = backbone.projector(self.encoder.output_size, text_config)
        self.text_model = Qwen2Model(text_config)
        self.text_model.config._attn_implementation = "sdpa"
        self.text_model.rotary_emb = ExactRotaryEmbedding(text_config)
        self.lm_head = nn.Linear(text_config.hidden_size, text_config.vocab_size, bias=False)
        self.decision_head = nn.Linear(text_config.hidden_size, 1)
        self.layout = layout
        self.post_init()
        nn.init.zeros_(self.decision_head.weight)

    def train(self, mode: bool = True) -> "LALM":
        """Set the training mode; a frozen encoder keeps its statistics, as it keeps its weights."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        return self.text_model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        return self.lm_head

    def make_features(self) -> ChunkFeatures:
        """Return what turns samples into features for `encode`, on the model's device, in float32.

        No part of the model: `from_pretrained` would leave its tensors uninitialised.
        """
        return find_backbone(self.config.backbone).features(self.config).to(self.device)

    def encode(self, features: Tensor) -> Tensor:
        """Return audio embeddings: float32 [M, frames, n_mels] -> [M, N, hidden]."""
        return self.projector(self.encoder(features.to(self.dtype)))

    def hidden_states(self, batch: SequenceBatch, audio_embeddings: Tensor) -> Tensor:
        """Run the language model over whole sequences.

        Args:
            batch: The sequences.
            audio_embeddings: float32 [rows, hidden], indexed by `batch.audio_index`.

        Returns:
            float32 [B, L, hidden].
        """
        inputs = self.text_model.embed_tokens(batch.ids)
        audio = batch.audio_index != NO_AUDIO
        if audio.any():
            heard = audio_embeddings[batch.audio_index[audio]].to(inputs.dtype)  # autocast has computed them in another
            inputs = inputs.masked_scatter(audio.unsqueeze(-1), heard)
        output = self.text_model(
            inputs_embeds=inputs,
            attention_mask={"full_attention": batch.mask},
            position_ids=batch.position,
            use_cache=False,
        )
        return output.last_hidden_state

    def content_log_probs(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities over what can be spoken (text and the end token): [..., vocab]."""
        silenced = sent(torch.tensor(self.layout.not_speakable, device="cpu"), hidden.device)
        return F.log_softmax(self.lm_head(hidden).float().index_fill(-1, silenced, -torch.inf), dim=-1)

    def decision_odds(self, hidden: Tensor, head: nn.Linear | None = None) -> Tensor:
        """Return what `decision_head`, or another `head` in its place, adds to the log-odds of `response`: [...]."""
        head = self.decision_head if head is None else head
        return F.linear(hidden.float(), head.weight.float(), head.bias.float()).squeeze(-1)

    def decision_log_probs(self, hidden: Tensor, head: nn.Linear | None = None) -> Tensor:
        """Return log-probabilities of (silent, response), the policy's binary decision: [..., 2].

        The log-odds of the two control tokens, and what `decision_head` (or another `head` in its place) adds to them:
        it is zero until the threshold is found and timing is reinforced. 0.5 is where the policy speaks.
        """
        hidden = hidden.float()  # bfloat16 would leave three digits of the odds
        odds = hidden @ self._control_weight() + self.decision_odds(hidden, head)
        return torch.stack((F.logsigmoid(-odds), F.logsigmoid(odds)), dim=-1)

    @torch.no_grad()
    def sharpen_decision(self, factor: float) -> None:
        """Multiply the log-odds of `response` by a factor, by way of `decision_head`; the choice at 0.5 stays."""
        self.decision_head.weight.mul_(factor).add_((factor - 1) * self._control_weight())
        self.decision_head.bias.mul_(factor)

    def _control_weight(self) -> Tensor:
        """Return what the head makes the log-odds of `response` of, beside `decision_head`: float32 [hidden]."""
        return self.lm_head.weight[self.layout.response].float() - self.lm_head.weight[self.layout.silent].float()
