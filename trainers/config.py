"""What a run consists of, as typed dataclasses; `configs/*.yaml` and dotted overrides fill them."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Part = Annotated[float, Field(gt=0.0, lt=1.0)]
BYTES_AND_SPECIAL_TOKENS = 266  # the least vocabulary of a byte-level tokenizer


@dataclass(frozen=True)
class ScenesConfig:
    """Which streams are composed.

    Attributes:
        train_count: Streams for supervised training.
        real_share: Share of the training draws that take recordings, where clips are given.
        respond_share: Share of foreground sounds that deserve a reply.
        min_chunks: Least length of a stream, in chunks of 0.4 s.
        max_chunks: Greatest length.
        validation_count: Streams on which the decision threshold is found.
        held_out_count: Streams for the final evaluation.
        held_out_clips: Part of the recordings held out, whole recordings and speakers at a time.
        workers: Processes that compose streams.
    """

    train_count: PositiveInt = 1600
    real_share: Share = 0.6
    respond_share: Share = 0.4
    min_chunks: PositiveInt = 40
    max_chunks: PositiveInt = 60
    validation_count: PositiveInt = 96
    held_out_count: PositiveInt = 192
    held_out_clips: Part = 0.3
    workers: PositiveInt = 2

    def __post_init__(self) -> None:
        if self.min_chunks > self.max_chunks:
            raise ValueError(f"min_chunks is {self.min_chunks}, expected at most max_chunks, {self.max_chunks}")


@dataclass(frozen=True)
class ModelConfig:
    """The compact listener's shape."""

    vocab_size: Annotated[int, Field(ge=BYTES_AND_SPECIAL_TOKENS)] = 640
    hidden_size: PositiveInt = 192
    num_layers: PositiveInt = 4
    num_heads: PositiveInt = 6
    intermediate_size: PositiveInt = 512
    encoder_channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (24, 48, 96, 128)
    audio_tokens_per_chunk: Literal[1, 2, 3, 6] = 2  # a chunk has six frames of features
    tokens_per_chunk: PositiveInt = 4
    window_chunks: PositiveInt = 64

    def __post_init__(self) -> None:
        if self.num_heads % 2:
            raise ValueError(f"num_heads is {self.num_heads}, expected an even number (two heads share keys)")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size is {self.hidden_size}, expected a multiple of twice num_heads ({2 * self.num_heads})"
            )


@dataclass(frozen=True)
class SupervisedConfig:
    """Supervised training with the dual loss; `stream_weight` is the paper's lambda."""

    batch_size: PositiveInt = 16
    epochs: PositiveInt = 4
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    warmup_share: Share = 0.03
    stream_weight: NonNegativeFloat = 1.0


@dataclass(frozen=True)
class ReinforcementConfig:
    """PPO on the environment's reward; discounting is per chunk."""

    iterations: PositiveInt = 16
    episodes_per_iteration: PositiveInt = 64
    epochs: PositiveInt = 2
    minibatches: PositiveInt = 4
    learning_rate: PositiveFloat = 3e-4
    gamma: Share = 0.98
    gae_lambda: Share = 0.95
    clip: PositiveFloat = 0.2
    decision_coef: NonNegativeFloat = 1.0
    content_coef: NonNegativeFloat = 0.1
    kl_coef: NonNegativeFloat = 0.02
    value_coef: NonNegativeFloat = 0.5

    def __post_init__(self) -> None:
        if self.episodes_per_iteration % self.minibatches:
            raise ValueError(
                f"episodes_per_iteration is {self.episodes_per_iteration}, "
                f"expected a multiple of minibatches ({self.minibatches})"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """How policies are judged; `thresholds` are the decision thresholds tried on validation streams."""

    batch_size: PositiveInt = 64
    thresholds: tuple[Part, ...] = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    bootstrap: PositiveInt = 1000


@dataclass(frozen=True)
class QuickstartConfig:
    """The whole loop: compose, train, reinforce, judge."""

    seed: NonNegativeInt = 0
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    ppo: ReinforcementConfig = field(default_factory=ReinforcementConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    reward: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.scenes.train_count < self.supervised.batch_size:
            raise ValueError(
                f"scenes.train_count is {self.scenes.train_count}, "
                f"expected at least supervised.batch_size ({self.supervised.batch_size})"
            )
