"""What a run consists of, as typed dataclasses; `configs/*.yaml` and dotted overrides fill them."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Part = Annotated[float, Field(gt=0.0, lt=1.0)]
Beginning = Annotated[float, Field(ge=0.0, lt=1.0)]  # a share after which something is left
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy and transformers take
BYTES_AND_SPECIAL_TOKENS = 266  # the least vocabulary of a byte-level tokenizer
NEW_TOKENS = "new_tokens"  # of a stage's `trains`: those rows of the embedding that belong to control tokens
LANGUAGE_MODEL = ("projector", "text_model", "lm_head")


@dataclass(frozen=True)
class StreamsConfig:
    """Which streams are trained on and judged by.

    Attributes:
        real_share: Share of the training draws that take recordings, where clips are given.
        respond_share: Share of foreground sounds that deserve a reply.
        min_chunks: Least length of a stream, in chunks of 0.4 s.
        max_chunks: Greatest length.
        held_out_count: Streams for the final evaluation.
        held_out_clips: Part of the recordings held out, whole recordings and speakers at a time.
        workers: Processes that compose streams.
    """

    real_share: Share = 0.6
    respond_share: Share = 0.4
    min_chunks: PositiveInt = 40
    max_chunks: PositiveInt = 60
    held_out_count: PositiveInt = 448
    held_out_clips: Part = 0.3
    workers: PositiveInt = 2

    def __post_init__(self) -> None:
        if self.min_chunks > self.max_chunks:
            raise ValueError(f"min_chunks is {self.min_chunks}, expected at most max_chunks, {self.max_chunks}")


@dataclass(frozen=True)
class ValidatedStreamsConfig(StreamsConfig):
    """Which streams a run is trained on and judged by that looks at some on its way.

    Attributes:
        validation_count: Streams that are judged on in the course of the run.
    """

    validation_count: PositiveInt = 64


@dataclass(frozen=True)
class ScenesConfig(ValidatedStreamsConfig):
    """Which streams are composed, those of supervised training included.

    Attributes:
        train_count: Streams for supervised training.
    """

    train_count: PositiveInt = 1800


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
    """How one supervised stage learns; what it learns from is said elsewhere. Subclasses have the defaults of each.

    Attributes:
        learns_from: The single sounds of the streams, as offline turns, or the streams.
        learns: To name sounds, by a head that is thrown away, or to reply.
        steps: Updates of the weights.
        learning_rate: Its maximum; it rises over `warmup_share` of the steps and falls along a cosine.
        trains: Modules of the model, by name; `new_tokens` are the embeddings of control tokens. Others are frozen.
        max_tokens_per_batch: Of the padded batch that goes through the model at once, all processes together.
        accumulate: Such batches an update.
        stream_weight: lambda, the weight of the control tokens' loss beside the reply tokens'.
        response_weight: Weight of a `response` among the control tokens, most of which are `silent`.
        naming_weight: Of the loss of naming the sound that is on, at every decision of a stream.
        early_share: Of a stream's replies, moved to some moment between `ready_s` and the sound's end.
        weight_decay: Of AdamW, on matrices.
        warmup_share: Of the steps.
        eval_every: Steps between two validations; there is one at the end.
        save_every: Steps between two checkpoints.
        keep: Checkpoints kept.
    """

    learns_from: ClassVar[Literal["sounds", "streams"]] = "sounds"
    learns: ClassVar[Literal["names", "replies"]] = "replies"

    steps: PositiveInt = 1000
    learning_rate: PositiveFloat = 1e-4
    trains: tuple[str, ...] = LANGUAGE_MODEL
    max_tokens_per_batch: PositiveInt = 16_384
    accumulate: PositiveInt = 1
    stream_weight: NonNegativeFloat = 0.0
    response_weight: PositiveFloat = 1.0
    naming_weight: NonNegativeFloat = 0.0
    early_share: Share = 0.0
    weight_decay: NonNegativeFloat = 0.01
    warmup_share: Beginning = 0.03
    eval_every: PositiveInt = 500
    save_every: PositiveInt = 500
    keep: PositiveInt = 3

    def __post_init__(self) -> None:
        if self.learns_from == "streams":
            return
        for key in ("stream_weight", "naming_weight", "early_share"):
            if getattr(self, key):
                raise ValueError(f"{key} is {getattr(self, key)}, expected 0 where single sounds are learned from")


@dataclass(frozen=True)
class QuickHearingConfig(StageConfig):
    """The quickstart's first stage: naming single sounds, which teaches the encoder."""

    learns: ClassVar[Literal["names", "replies"]] = "names"

    steps: PositiveInt = 1000
    learning_rate: PositiveFloat = 3e-3
    trains: tuple[str, ...] = ("encoder", "projector")
    max_tokens_per_batch: PositiveInt = 1100
    warmup_share: Beginning = 0.05
    save_every: PositiveInt = 200


@dataclass(frozen=True)
class QuickFormatConfig(StageConfig):
    """The second: from single sounds to text, the paper's stages 1 and 2."""

    steps: PositiveInt = 250
    learning_rate: PositiveFloat = 2e-3
    max_tokens_per_batch: PositiveInt = 1100
    warmup_share: Beginning = 0.05
    eval_every: PositiveInt = 125
    save_every: PositiveInt = 125


@dataclass(frozen=True)
class QuickStreamsConfig(StageConfig):
    """The third: when to speak, and what to say, the paper's stage 3."""

    learns_from: ClassVar[Literal["sounds", "streams"]] = "streams"

    steps: PositiveInt = 450
    learning_rate: PositiveFloat = 2e-3
    max_tokens_per_batch: PositiveInt = 1900
    stream_weight: NonNegativeFloat = 2.0
    response_weight: PositiveFloat = 4.0
    naming_weight: NonNegativeFloat = 0.5
    early_share: Share = 0.5
    warmup_share: Beginning = 0.05
    eval_every: PositiveInt = 225
    save_every: PositiveInt = 90


@dataclass(frozen=True)
class SupervisedConfig:
    """The quickstart's three stages. Their samples are composed once, as `scenes` says.

    The paper starts from a pretrained audio tower; `compact` is trained from nothing, so its hearing comes first.

    Attributes:
        hearing: Naming single sounds: the encoder.
        format: From single sounds to text: the language model.
        streams: When to speak, and what to say: the dual loss, and naming.
    """

    hearing: QuickHearingConfig = field(default_factory=QuickHearingConfig)
    format: QuickFormatConfig = field(default_factory=QuickFormatConfig)
    streams: QuickStreamsConfig = field(default_factory=QuickStreamsConfig)


@dataclass(frozen=True)
class ReinforcementConfig:
    """PPO or GRPO on the environment's reward; discounting is per chunk.

    When to speak and what to say are two policies with one trunk, and the log-odds of the control tokens are two rows
    of the vocabulary's head. So `mode` says which of them is optimised, and the other is only held: by the KL, which
    counts on both in every mode. Nothing but `train: head` leaves the words exactly as they were.

    Attributes:
        algorithm: `ppo` has a critic; `grpo` compares the episodes of one scenario with each other.
        iterations: Of rollouts and updates.
        episodes_per_iteration: Streams played at once.
        episodes_per_scenario: Of `grpo`: the size of a group.
        epochs: Passes over an iteration's episodes.
        minibatches: Updates a pass.
        tokens_per_minibatch: The most tokens that go through the model at once, padding included. An update's episodes
            are then taken in pieces of about one length, and their gradients add up to the same. None: all at once.
        learning_rate: Of the language model; it falls linearly to 0.
        decision_learning_rate: Of the decision's own head, which has few weights and much to learn.
        gamma: Discount a chunk.
        gae_lambda: Decay of the advantage's trace, a chunk.
        clip: Of the probability ratio.
        mode: `joint`: both; `decision_only`: when to speak, the words held; `content_only`: the words, the decision
            held and its head frozen.
        train: `trunk`: the language model and the decision's head; `head`: of `decision_only`, its head alone.
        objective: `split`: decisions are a binary policy beside the reply tokens. `raw_token`: control tokens and reply
            tokens are one policy over the vocabulary, all tokens of a turn with its one advantage. It is the ablation's
            other arm, and gained half as much (docs/experiments.md). It knows no `decision_coef`, `content_coef` or
            `decision_clip_high`, and its decision's head is not trained.
        decision_sharpness: What the decision's log-odds are multiplied by before the first rollout. The choice at 0.5
            stays, and chance has less of a say: a policy that says `response` at 0.1 in every chunk of quiet is a good
            one at a threshold, and a bad one by the dice. PPO need not unlearn that first.
        decision_coef: Weight of the decision's policy loss.
        content_coef: Weight of the reply tokens' policy loss.
        kl_coef: Weight of the divergence from the supervised policy.
        kl_target: Divergence of one action that `kl_coef` is steered to after each iteration, for decisions and for
            words on their own (Ziegler et al. 2019); None: it stays.
        decision_clip_high: How far a decision's ratio may grow beyond 1; it may fall by `clip`.
        critic: `scenario` knows what the stream will bring; `hidden` is a head on the frozen trunk's states.
        whiten_advantages: Subtract the mean of the decisions' advantages before they are divided by their deviation.
            Words are compared with the mean of their kind in any case.
        lora_rank: Above 0, adapters of this rank are trained in place of the trunk, and merged at the end. The
            reference is the model without them: there is no second copy.
        streams: Different streams to play; they are played again when all were.
        episode_chunks: A time limit: an episode is cut after so many chunks, and what it was worth to go on from there
            is the critic's estimate. None: streams are played to their end.
        rollout_workers: Ray actors that play, of each process that learns; 0: that process plays.
        episodes_per_task: Episodes that are played in one batch. The last bits depend on it, and on nothing else of
            where they are played. None: as many as there are for this process, or for each of its workers.
        fsdp: Under `torchrun`, have each process hold a part of every trained weight, its gradient and its moments, and
            not all of them (FSDP). What plays, and the reference, are whole in the memory of each process's host, and
            on its GPU while they compute.
        max_staleness: By how many updates an iteration's rollouts may be behind. 1: the next ones are played while the
            policy is updated, by the one before; their ratios count from the policy that sampled them.
    """

    algorithm: Literal["ppo", "grpo"] = "ppo"
    iterations: PositiveInt = 22
    episodes_per_iteration: PositiveInt = 64
    episodes_per_scenario: PositiveInt = 8
    epochs: PositiveInt = 2
    minibatches: PositiveInt = 4
    tokens_per_minibatch: PositiveInt | None = None
    learning_rate: PositiveFloat = 3e-4
    decision_learning_rate: PositiveFloat = 3e-3
    gamma: Share = 0.95
    gae_lambda: Share = 0.95
    clip: Part = 0.2
    mode: Literal["joint", "decision_only", "content_only"] = "joint"
    train: Literal["trunk", "head"] = "trunk"
    objective: Literal["split", "raw_token"] = "split"
    decision_sharpness: PositiveFloat = 1.0
    decision_coef: NonNegativeFloat = 1.0
    content_coef: NonNegativeFloat = 0.1
    kl_coef: NonNegativeFloat = 0.01
    kl_target: PositiveFloat | None = None
    decision_clip_high: PositiveFloat = 1.0
    critic: Literal["scenario", "hidden"] = "scenario"
    whiten_advantages: bool = False
    lora_rank: NonNegativeInt = 0
    streams: PositiveInt = 448
    episode_chunks: PositiveInt | None = None
    rollout_workers: NonNegativeInt = 0
    episodes_per_task: PositiveInt | None = None
    max_staleness: Literal[0, 1] = 0
    fsdp: bool = False

    @property
    def scenarios_per_iteration(self) -> int:
        """Different streams that an iteration plays."""
        return self.episodes_per_iteration // (self.episodes_per_scenario if self.algorithm == "grpo" else 1)

    def __post_init__(self) -> None:
        if self.episodes_per_iteration % self.minibatches:
            raise ValueError(
                f"episodes_per_iteration is {self.episodes_per_iteration}, "
                f"expected a multiple of minibatches ({self.minibatches})"
            )
        if self.algorithm == "grpo":
            self._check_groups()
        if self.streams < self.scenarios_per_iteration:
            what = "episodes_per_iteration" + (" / episodes_per_scenario" if self.algorithm == "grpo" else "")
            raise ValueError(f"streams is {self.streams}, expected at least {what} ({self.scenarios_per_iteration})")
        if self.train == "head" and self.mode != "decision_only":
            raise ValueError(f"train is 'head' and mode is {self.mode!r}, expected mode: decision_only with it")
        if self.train == "head" and self.lora_rank:
            raise ValueError(f"lora_rank is {self.lora_rank} and train is 'head', expected train: trunk with adapters")
        if self.objective == "raw_token" and self.mode != "joint":
            raise ValueError(f"objective is 'raw_token' and mode is {self.mode!r}, expected mode: joint with it")
        if self.objective == "raw_token" and self.max_staleness:  # what a decision's token had, rollouts do not keep
            raise ValueError("max_staleness is 1 and objective is 'raw_token', expected max_staleness: 0 with it")
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("kl_coef is 0.0 and kl_target is given, expected a kl_coef above 0 to begin with")

    def _check_groups(self) -> None:
        if self.episodes_per_scenario < 2:
            raise ValueError(
                f"episodes_per_scenario is {self.episodes_per_scenario}, expected at least 2 for algorithm: grpo"
            )
        if self.episodes_per_iteration % self.episodes_per_scenario:
            raise ValueError(
                f"episodes_per_iteration is {self.episodes_per_iteration}, "
                f"expected a multiple of episodes_per_scenario ({self.episodes_per_scenario})"
            )


@dataclass(frozen=True)
class JudgingConfig:
    """How policies are judged: streams at once, and resamples of the intervals."""

    batch_size: PositiveInt = 64
    bootstrap: PositiveInt = 1000


@dataclass(frozen=True)
class EvaluationConfig(JudgingConfig):
    """How policies are judged; `thresholds` are the decision thresholds tried on validation streams."""

    thresholds: Annotated[tuple[Part, ...], Field(min_length=1)] = (0.35, 0.5, 0.65)


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
