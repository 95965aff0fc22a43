"""Configuration of the large audio language model (LALM): encoder, projector, language model, token layout."""

from dataclasses import asdict
from typing import Any

from transformers import PretrainedConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig

from envs.errors import ConfigError
from policies.features import CHUNK_FRAMES, Normalisation
from policies.token_layout import TokenLayout

FORMAT_VERSION = 1
_TWIN_SHRINKS = (1, 2, 4, 8, 16, 32, 64)  # 128 values of a language model's head become at least 2: one rotary pair


def check_window(layout: TokenLayout, max_reply_tokens: int) -> None:
    """Check that what is heard under the longest reply fits into the window.

    Raises:
        ConfigError: when it does not.
    """
    longest = layout.reply_chunks(max_reply_tokens)
    if layout.window_chunks < longest + 1:
        raise ConfigError(
            f"model.window_chunks is {layout.window_chunks}, expected at least {longest + 1}: a reply of"
            f" {max_reply_tokens} tokens lasts {longest} chunks at {layout.tokens_per_chunk} tokens a chunk"
        )


class LALMConfig(PretrainedConfig):
    """A LALM's shape.

    Attributes:
        text_config: The causal language model, a `Qwen2Config` as a dict.
        layout: The token layout, a `TokenLayout` as a dict.
        backbone: Which parts it is put together from, a key of `policies.backbones.BACKBONES`.
        encoder_channels: Channels of the chunk encoder's four convolutions (`compact`).
        audio_config: The audio tower, its configuration in `transformers` as a dict (all but `compact`).
        normalisation: Of the features, as `policies.features.WhisperLogMel` has it (all but `compact`).
        max_reply_tokens: A reply is ended after this many tokens.
        origin: The `checkpoint` of others that it was made of, its name or id on the hub, and a `note` on how; empty
            for one that began from nothing.
    """

    model_type = "soundflow_lalm"

    def __init__(
        self,
        text_config: dict[str, Any] | None = None,
        layout: dict[str, int] | None = None,
        encoder_channels: tuple[int, ...] = (16, 32, 64, 128),
        max_reply_tokens: int = 32,
        format_version: int = FORMAT_VERSION,
        backbone: str = "compact",
        audio_config: dict[str, Any] | None = None,
        normalisation: Normalisation = "fixed",
        origin: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.text_config = text_config or {}
        self.layout = layout or {}
        self.encoder_channels = tuple(encoder_channels)
        self.max_reply_tokens = max_reply_tokens
        self.format_version = format_version
        self.backbone = backbone
        self.audio_config = audio_config or {}
        self.normalisation = normalisation
        self.origin = origin or {}
        super().__init__(**kwargs)

    @property
    def token_layout(self) -> TokenLayout:
        """The layout as its dataclass."""
        return TokenLayout(**self.layout)

    @classmethod
    def compact(
        cls,
        layout: TokenLayout,
        vocab_size: int,
        *,
        hidden_size: int = 256,
        num_layers: int = 2,
        num_heads: int = 8,
        intermediate_size: int = 704,
        encoder_channels: tuple[int, ...] = (16, 32, 64, 128),
        max_reply_tokens: int = 32,
    ) -> "LALMConfig":
        """Return the shape of the compact backbone: 2.6 M parameters, trained from nothing on a CPU.

        Raises:
            ConfigError: when the window is shorter than the longest reply: what is heard meanwhile has to fit into it.
        """
        check_window(layout, max_reply_tokens)
        text = Qwen2Config(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            num_key_value_heads=num_heads // 2,
            intermediate_size=intermediate_size,
            tie_word_embeddings=True,
            use_cache=False,
        )
        return cls(
            text_config=text.to_dict(),
            layout=asdict(layout),
            encoder_channels=encoder_channels,
            max_reply_tokens=max_reply_tokens,
            tie_word_embeddings=True,
        )

    @classmethod
    def qwen_omni(
        cls,
        layout: TokenLayout,
        text_config: Qwen2Config,
        audio_config: PretrainedConfig,
        *,
        normalisation: Normalisation = "fixed",
        max_reply_tokens: int = 64,
        origin: dict[str, str] | None = None,
    ) -> "LALMConfig":
        """Return the shape of the `qwen2.5-omni` backbone around a language model and an audio tower.

        Args:
            layout: The token layout; ten audio tokens a chunk.
            text_config: The language model.
            audio_config: The audio tower, a `Qwen2_5OmniAudioEncoderConfig`; its windows become chunks.
            normalisation: Of the features.
            max_reply_tokens: A reply is ended after this many tokens.
            origin: The checkpoint that both come from.

        Raises:
            ConfigError: when the window is shorter than the longest reply.
        """
        return cls.with_tower(
            "qwen2.5-omni",
            layout,
            text_config,
            {**audio_config.to_dict(), "n_window": CHUNK_FRAMES // 2},  # a window is two of its n_window
            normalisation=normalisation,
            max_reply_tokens=max_reply_tokens,
            origin=origin,
        )

    @classmethod
    def with_tower(
        cls,
        backbone: str,
        layout: TokenLayout,
        text_config: Qwen2Config,
        audio_config: dict[str, Any],
        *,
        normalisation: Normalisation = "fixed",
        max_reply_tokens: int = 64,
        origin: dict[str, str] | None = None,
    ) -> "LALMConfig":
        """Return the shape of a backbone around a language model and an audio tower.

        Args:
            backbone: "qwen2.5-omni", "qwen2-audio" or "voxtral".
            layout: The token layout; ten audio tokens a chunk, five with "voxtral".
            text_config: The language model.
            audio_config: The audio tower, the configuration that `transformers` has for it as a dict.
            normalisation: Of the features.
            max_reply_tokens: A reply is ended after this many tokens.
            origin: The checkpoint that both come from.

        Raises:
            ConfigError: when the window is shorter than the longest reply.
        """
        check_window(layout, max_reply_tokens)
        return cls(
            text_config=text_config.to_dict(),
            layout=asdict(layout),
            max_reply_tokens=max_reply_tokens,
            backbone=backbone,
            audio_config=audio_config,
            normalisation=normalisation,
            origin=origin,
            tie_word_embeddings=text_config.tie_word_embeddings,
        )

    @classmethod
    def qwen_omni_twin(
        cls,
        layout: TokenLayout,
        vocab_size: int,
        *,
        shrink: int = 8,
        normalisation: Normalisation = "fixed",
        max_reply_tokens: int = 64,
    ) -> "LALMConfig":
        """Return the shape of Qwen2.5-Omni-3B's thinker with every width divided by `shrink`.

        Depth and the numbers of heads stay: 36 layers with 16 heads over 2 key-value heads, and 32 layers with 20
        heads in the audio tower. A matrix has 1/shrink^2 of the parameters, so that the default is the 1/64-size twin:
        widths 2048, 11,008, 1280 and 5120 become 256, 1376, 160 and 640, and 3.40 billion parameters in layers become
        53 million, which a CPU trains. With 1 and a vocabulary of 151,936 it is Qwen2.5-Omni-3B itself. The
        vocabulary is not divided: it is the tokenizer's.

        Args:
            layout: The token layout; ten audio tokens a chunk.
            vocab_size: Ids of the tokenizer.
            shrink: A power of two up to 64.
            normalisation: Of the features.
            max_reply_tokens: A reply is ended after this many tokens.

        Raises:
            ConfigError: when no head would be left whole, or the window is shorter than the longest reply.
        """
        if shrink not in _TWIN_SHRINKS:
            raise ConfigError(f"shrink is {shrink}, expected one of {', '.join(map(str, _TWIN_SHRINKS))}")
        text = Qwen2Config(
            vocab_size=vocab_size,
            hidden_size=2048 // shrink,
            intermediate_size=11_008 // shrink,
            num_hidden_layers=36,
            num_attention_heads=16,
            num_key_value_heads=2,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            tie_word_embeddings=False,
            use_cache=False,
        )
        tower = Qwen2_5OmniAudioEncoderConfig(
            d_model=1280 // shrink,
            encoder_ffn_dim=5120 // shrink,
            encoder_layers=32,
            encoder_attention_heads=20,
            output_dim=2048 // shrink,
        )
        return cls.qwen_omni(layout, text, tower, normalisation=normalisation, max_reply_tokens=max_reply_tokens)
