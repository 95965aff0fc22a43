"""What a run consists of, as typed dataclasses; `configs/*.yaml` and dotted overrides fill them."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Part = Annotated[float, Field(gt=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy and transformers take
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

    train_count: PositiveInt = 1800
    real_share: Share = 0.6
    respond_share: Share = 0.4
    min_chunks: PositiveInt = 40
    max_chunks: PositiveInt = 60
    validation_count: PositiveInt = 64
    held_out_count: PositiveInt = 448
    held_out_clips: Part = 0.3
    workers: PositiveInt = 2

    def __post_init__(self) -> None:
        if self.min_chunks > self.max_chunks:
            raise ValueError(f"min_chunks is {self.min_chunks}, expected at most max_chunks, {self.max_chunks}")


@dataclass(frozen=True)
class ModelConfig:
    """The compact listener's shape; `docs/experiments.md` has what others gave."""

    vocab_size: Annotated[int, Field(ge=BYTES_AND_SPECIAL_TOKENS)] = 768
    hidden_size: PositiveInt = 256
    num_layers: PositiveInt = 2
    num_heads: PositiveInt = 8
    intermediate_size: PositiveInt = 704
    encoder_channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64, 128)
    audio_tokens_per_chunk: Literal[1, 2, 3, 6] = 1  # a chunk has six frames of features
    tokens_per_chunk: PositiveInt = 4
    window_chunks: PositiveInt = 64
    sink_chunks: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.num_heads % 2:
            raise ValueError(f"num_heads is {self.num_heads}, expected an even number (two heads share keys)")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size is {self.hidden_size}, expected a multiple of twice num_heads ({2 * self.num_heads})"
            )


@dataclass(frozen=True)
class StageConfig:
    """How long one supervised stage learns, from how many samples at once."""

    steps: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat


@dataclass(frozen=True)
class SupervisedConfig:
    """Supervised training in three stages (see trainers/supervised.py); `stream_weight` is the paper's lambda.

    Attributes:
        hearing: Naming single sounds: the encoder.
        format: From single sounds to text: the language model.
        streams: When to speak, and what to say: the dual loss.
        stream_weight: Weight of the control tokens' loss beside the reply tokens'.
        response_weight: Weight of a `response` among the control tokens, most of which are `silent`.
        early_share: Of a stream's replies, moved to some moment between `ready_s` and the sound's end.
        naming_weight: Of the loss of naming the sound that is on, at every decision of a stream.
        weight_decay: Of AdamW, on matrices.
        warmup_share: Of a stage's steps.
    """

    hearing: StageConfig = StageConfig(steps=1000, batch_size=32, learning_rate=3e-3)
    format: StageConfig = StageConfig(steps=250, batch_size=32, learning_rate=2e-3)
    streams: StageConfig = StageConfig(steps=450, batch_size=8, learning_rate=2e-3)
    stream_weight: NonNegativeFloat = 2.0
    response_weight: PositiveFloat = 4.0
    early_share: Share = 0.5
    naming_weight: NonNegativeFloat = 0.5
    weight_decay: NonNegativeFloat = 0.01
    warmup_share: Part = 0.05


@dataclass(frozen=True)
class ReinforcementConfig:
    """PPO on the environment's reward; discounting is per chunk.

    Attributes:
        iterations: Of rollouts and updates.
        episodes_per_iteration: Streams played at once.
        epochs: Passes over an iteration's episodes.
        minibatches: Updates a pass.
        learning_rate: Of the language model; it falls linearly to 0.
        decision_learning_rate: Of the decision's own head, which has few weights and much to learn.
        gamma: Discount a chunk.
        gae_lambda: Decay of the advantage's trace, a chunk.
        clip: Of the probability ratio.
        decision_coef: Weight of the decision's policy loss.
        content_coef: Weight of the reply tokens' policy loss.
        kl_coef: Weight of the divergence from the supervised policy.
        decision_clip_high: How far a decision's ratio may grow beyond 1; it may fall by `clip`.
        streams: Different streams to play; they are played again when all were.
    """

    iterations: PositiveInt = 22
    episodes_per_iteration: PositiveInt = 64
    epochs: PositiveInt = 2
    minibatches: PositiveInt = 4
    learning_rate: PositiveFloat = 3e-4
    decision_learning_rate: PositiveFloat = 3e-3
    gamma: Share = 0.95
    gae_lambda: Share = 0.95
    clip: PositiveFloat = 0.2
    decision_coef: NonNegativeFloat = 1.0
    content_coef: NonNegativeFloat = 0.1
    kl_coef: NonNegativeFloat = 0.01
    decision_clip_high: PositiveFloat = 1.0
    streams: PositiveInt = 448

    def __post_init__(self) -> None:
        if self.episodes_per_iteration % self.minibatches:
            raise ValueError(
                f"episodes_per_iteration is {self.episodes_per_iteration}, "
                f"expected a multiple of minibatches ({self.minibatches})"
            )
        if self.streams < self.episodes_per_iteration:
            raise ValueError(
                f"streams is {self.streams}, expected at least episodes_per_iteration ({self.episodes_per_iteration})"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """How policies are judged; `thresholds` are the decision thresholds tried on validation streams."""

    batch_size: PositiveInt = 64
    thresholds: Annotated[tuple[Part, ...], Field(min_length=1)] = (0.35, 0.5, 0.65)
    bootstrap: PositiveInt = 1000


@dataclass(frozen=True)
class QuickstartConfig:
    """The whole loop: compose, train, reinforce, judge."""

    seed: Seed = 0
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    ppo: ReinforcementConfig = field(default_factory=ReinforcementConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    reward: list[dict[str, Any]] = field(default_factory=list)
