"""The LALM: chunk encoder -> projector -> causal language model, as a `transformers` model."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.models.qwen2 import Qwen2Config, Qwen2Model

from policies.configuration_lalm import LALMConfig
from policies.features import CHUNK_FRAMES, CONTEXT_FRAMES, N_MELS
from policies.token_layout import NO_AUDIO


class ChunkEncoder(nn.Module):
    """Four strided convolutions over one chunk's log-mel window, then N frames of features.

    A chunk is encoded from its own frames and a fixed context of the past, so encoding chunks one by one and all
    at once is the same computation.
    """

    def __init__(self, channels: tuple[int, ...], num_embeddings: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        previous = 1
        for i, width in enumerate(channels):
            stride = (2, 2) if i < 3 else (1, 2)  # (time, mel): 48 x 64 -> 6 x 4
            blocks += [nn.Conv2d(previous, width, 5 if i == 0 else 3, stride, 2 if i == 0 else 1, bias=False)]
            blocks += [nn.BatchNorm2d(width), nn.GELU()]
            previous = width
        self.convolutions = nn.Sequential(*blocks)
        self.frames = (CONTEXT_FRAMES + CHUNK_FRAMES) // 8
        if self.frames % num_embeddings:
            raise ValueError(f"audio_tokens_per_chunk must divide {self.frames}, got {num_embeddings}")
        self.num_embeddings = num_embeddings
        self.output_size = channels[-1] * (N_MELS // 16) * self.frames // num_embeddings

    def forward(self, log_mel: Tensor) -> Tensor:
        """Encode chunks: float32 [M, 48, 64] -> [M, N, output_size]."""
        x = self.convolutions(log_mel.unsqueeze(1))  # [M, C, 6, 4]
        return x.permute(0, 2, 1, 3).reshape(len(log_mel), self.num_embeddings, -1)


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
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


@dataclass
class SequenceBatch:
    """Token columns as tensors, padded on the right."""

    ids: Tensor  # int64 [B, L]
    audio_index: Tensor  # int64 [B, L] rows of `audio_embeddings`, or NO_AUDIO
    position: Tensor  # int64 [B, L]
    mask: Tensor  # bool [B, 1, L, K], True where a query may look


class LALM(PreTrainedModel):
    """Hears chunks, predicts a control token after each run of them, and writes replies."""

    config_class = LALMConfig
    base_model_prefix = "text_model"
    _tied_weights_keys: ClassVar = {"lm_head.weight": "text_model.embed_tokens.weight"}
    _supports_sdpa = True

    def __init__(self, config: LALMConfig) -> None:
        super().__init__(config)
        layout = config.token_layout
        text_config = Qwen2Config(**config.text_config)
        self.encoder = ChunkEncoder(config.encoder_channels, layout.audio_tokens_per_chunk)
        self.projector = nn.Sequential(
            nn.Linear(self.encoder.output_size, text_config.hidden_size),
            nn.LayerNorm(text_config.hidden_size),
        )
        self.text_model = Qwen2Model(text_config)
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

    def encode(self, log_mel: Tensor) -> Tensor:
        """Return audio embeddings: float32 [M, 48, 64] -> [M, N, hidden]."""
        return self.projector(self.encoder(log_mel))

    def hidden_states(
        self, batch: SequenceBatch, audio_embeddings: Tensor, past_key_values: Cache | None = None
    ) -> Tensor:
        """Run the language model.

        Args:
            batch: The new tokens; `mask` covers the keys that `past_key_values` returns.
            audio_embeddings: float32 [rows, hidden], indexed by `batch.audio_index`.
            past_key_values: The engine's cache; None for a whole sequence at once.

        Returns:
            float32 [B, L, hidden].
        """
        inputs = self.text_model.embed_tokens(batch.ids)
        audio = batch.audio_index != NO_AUDIO
        if audio.any():
            inputs = inputs.masked_scatter(audio.unsqueeze(-1), audio_embeddings[batch.audio_index[audio]])
        output = self.text_model(
            inputs_embeds=inputs,
            attention_mask={"full_attention": batch.mask},
            position_ids=batch.position,
            past_key_values=past_key_values,
            use_cache=past_key_values is not None,
        )
        return output.last_hidden_state

    def content_log_probs(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities over what can be spoken (text and the end token): [..., vocab]."""
        silenced = torch.tensor(self.layout.not_speakable, device=hidden.device)
        return F.log_softmax(self.lm_head(hidden).index_fill(-1, silenced, -torch.inf), dim=-1)

    def decision_log_probs(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities of (silent, response), the policy's binary decision: [..., 2].

        The log-odds of the two control tokens, and what `decision_head` adds to them: it is zero until the threshold
        is found and timing is reinforced. 0.5 is where the policy speaks.
        """
        weight = self.lm_head.weight[self.layout.response] - self.lm_head.weight[self.layout.silent]
        odds = hidden @ weight + self.decision_head(hidden).squeeze(-1)
        return torch.stack((F.logsigmoid(-odds), F.logsigmoid(odds)), dim=-1)
