"""What a gate's run consists of; `configs/gate.yaml` and dotted overrides fill it."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from envs.curriculum import Stage
from trainers.config import Seed, Share, ValidatedStreamsConfig


@dataclass(frozen=True)
class GatePPOConfig:
    """PPO of Stable-Baselines3; where it has a name for something, it is the name here.

    Attributes:
        total_timesteps: Chunks heard, all streams together; whole rollouts, so it may become a few more.
        num_envs: Streams at once.
        n_steps: Chunks of each stream in a rollout.
        batch_size: Of a minibatch; a rollout holds a whole number of them.
        n_epochs: Passes over a rollout.
        learning_rate: Of Adam.
        gamma: Discount a chunk.
        gae_lambda: Decay of the advantage's trace, a chunk.
        clip_range: Of the probability ratio.
        ent_coef: Weight of the entropy.
        vf_coef: Weight of the value's loss.
        max_grad_norm: Where gradients are cut.
        net_arch: Widths of the hidden layers of actor and critic.
        width: Numbers that the trained layer makes of each chunk's embedding.
    """

    total_timesteps: PositiveInt = 100_000
    num_envs: Annotated[int, Field(ge=1, le=4096)] = 16
    n_steps: PositiveInt = 128
    batch_size: Annotated[int, Field(ge=2)] = 256
    n_epochs: PositiveInt = 4
    learning_rate: PositiveFloat = 1e-3
    gamma: Share = 0.95
    gae_lambda: Share = 0.95
    clip_range: PositiveFloat = 0.2
    ent_coef: NonNegativeFloat = 0.005
    vf_coef: NonNegativeFloat = 0.5
    max_grad_norm: PositiveFloat = 0.5
    net_arch: tuple[PositiveInt, ...] = (64, 64)
    width: PositiveInt = 32

    def __post_init__(self) -> None:
        if self.rollout % self.batch_size:
            raise ValueError(
                f"batch_size is {self.batch_size}, expected a divisor of num_envs * n_steps"
                f" ({self.num_envs} * {self.n_steps} = {self.rollout})"
            )

    @property
    def rollout(self) -> int:
        """Chunks of a rollout, all streams together."""
        return self.num_envs * self.n_steps


@dataclass(frozen=True)
class GateConfig:
    """A gate: when to speak, learned over an encoder that stays as it is.

    Attributes:
        kind: What sort of run the YAML is.
        seed: Of everything that is drawn.
        encoder: The policy folder whose encoder it listens through; None: log-mel spectra, and nothing was trained
            before.
        device: Where the encoder runs; the gate itself is small and learns on the CPU.
        chunks: How many of the last chunks it sees.
        ppo: How it learns.
        scenes: The streams.
        curriculum: How they grow harder in the course of the run, by share of its steps; it is judged on streams
            without one.
        reward: Named components.
        evaluate_every: Rollouts from one judgement on validation streams to the next.
        checkpoint_every: Rollouts from one checkpoint to the next.
        bootstrap: Resamples of the final evaluation's intervals.
    """

    kind: Literal["gate"] = "gate"
    seed: Seed = 0
    encoder: str | None = None
    device: str = "cpu"
    chunks: PositiveInt = 8
    ppo: GatePPOConfig = field(default_factory=GatePPOConfig)
    scenes: ValidatedStreamsConfig = field(default_factory=ValidatedStreamsConfig)
    curriculum: tuple[Stage, ...] = ()
    reward: list[dict[str, Any]] = field(default_factory=list)
    evaluate_every: PositiveInt = 10
    checkpoint_every: PositiveInt = 10
    bootstrap: PositiveInt = 1000
