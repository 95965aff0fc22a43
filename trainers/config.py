"""What a run consists of, as typed dataclasses; `configs/*.yaml` and dotted overrides fill them."""

from dataclasses import dataclass, field
from typing import Any


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
        held_out_clips: Share of the recordings held out, whole recordings and speakers at a time.
        workers: Processes that compose streams.
    """

    train_count: int = 1600
    real_share: float = 0.6
    respond_share: float = 0.4
    min_chunks: int = 40
    max_chunks: int = 60
    validation_count: int = 96
    held_out_count: int = 192
    held_out_clips: float = 0.3
    workers: int = 2


@dataclass(frozen=True)
class ModelConfig:
    """The compact listener's shape."""

    vocab_size: int = 640
    hidden_size: int = 192
    num_layers: int = 4
    num_heads: int = 6
    intermediate_size: int = 512
    encoder_channels: tuple[int, ...] = (24, 48, 96, 128)
    audio_tokens_per_chunk: int = 2
    tokens_per_chunk: int = 4
    window_chunks: int = 64


@dataclass(frozen=True)
class SupervisedConfig:
    """Supervised training with the dual loss; `stream_weight` is the paper's lambda."""

    batch_size: int = 16
    epochs: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.03
    stream_weight: float = 1.0


@dataclass(frozen=True)
class ReinforcementConfig:
    """PPO on the environment's reward; discounting is per chunk."""

    iterations: int = 16
    episodes_per_iteration: int = 64
    epochs: int = 2
    minibatches: int = 4
    learning_rate: float = 3e-4
    gamma: float = 0.98
    gae_lambda: float = 0.95
    clip: float = 0.2
    decision_coef: float = 1.0
    content_coef: float = 0.1
    kl_coef: float = 0.02
    value_coef: float = 0.5


@dataclass(frozen=True)
class EvaluationConfig:
    """How policies are judged."""

    batch_size: int = 64
    bootstrap: int = 1000


@dataclass(frozen=True)
class QuickstartConfig:
    """The whole loop: compose, train, reinforce, judge."""

    seed: int = 0
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    ppo: ReinforcementConfig = field(default_factory=ReinforcementConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    reward: list[dict[str, Any]] = field(default_factory=list)
