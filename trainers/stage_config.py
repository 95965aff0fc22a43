"""What `soundflow train` reads for `kind: supervised`: the paper's four stages, and one of ours before them.

The defaults of a stage are its line of the paper's table (section on supervised training): what it learns from, which
modules it trains, its learning rate, its schedule and the weights of its loss. A YAML says what differs, such as the
size of a run on a laptop.

| stage | paper | learns from | trains | loss |
|---|---|---|---|---|
| hearing | ours | single sounds | encoder, projector | naming the sound, by a head that is thrown away |
| format | 1 | offline single turns | head, embeddings of the control tokens | `L_lm` |
| adapter | 2 | the same | projector | `L_lm` |
| streaming | 3 | streams of four abilities | projector, language model | `L_lm + lambda * L_stream` |
| following | 4 | turns of all abilities, interleaved | projector, language model | the same |

`compact` has neither a pretrained tower nor a pretrained language model: `hearing` stands in for the one, and for the
other its `format` trains the whole language model (configs/stage1.yaml).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from envs import ABILITY_NAMES
from envs.errors import did_you_mean
from trainers.config import NEW_TOKENS, ModelConfig, Part, Seed, Share, StageConfig

StageName = Literal["hearing", "format", "adapter", "streaming", "following"]


@dataclass(frozen=True)
class DataPart:
    """A part of a data mix: streams of an ability, composed on the fly, or of a corpus on disk.

    Attributes:
        weight: Its share of the streams is this over the weights of all parts.
        ability: As in the environment's id.
        sub_task: Of the ability; None: all of them.
        respond_share: Of the sounds of ability Proactive, those that deserve a reply; 0 makes streams that need none
            (the paper's comprehension-aware silence). None: the ability's own.
        corpus: A folder that `soundflow compose` wrote.
    """

    weight: PositiveFloat = 1.0
    ability: str | None = None
    sub_task: str | None = None
    respond_share: Share | None = None
    corpus: str | None = None

    def __post_init__(self) -> None:
        if (self.ability is None) == (self.corpus is None):
            raise ValueError("expected either an ability or a corpus")
        if self.ability is not None and self.ability not in ABILITY_NAMES:
            raise ValueError(f"no ability is called {self.ability!r}{did_you_mean(self.ability, ABILITY_NAMES)}")
        if self.corpus is not None and self.sub_task is not None:
            raise ValueError(f"sub_task is {self.sub_task!r}, which a corpus is not asked for; compose one of it")
        if self.respond_share is not None and not self.is_of_sounds:
            raise ValueError("respond_share is for the ability Proactive, without a sub_task")

    @property
    def is_of_sounds(self) -> bool:
        """Whether its streams are the general ones of ability Proactive: any sounds, of which some deserve a reply."""
        return self.ability == "Proactive" and self.sub_task is None

    @property
    def name(self) -> str:
        """What its numbers are logged under."""
        if self.corpus is not None:
            return f"corpus {self.corpus}"
        if self.respond_share == 0.0:
            return "silence"
        if self.respond_share is not None:
            return f"{self.ability} at {self.respond_share:g}"
        return str(self.ability) if self.sub_task is None else f"{self.ability}.{self.sub_task}"


Data = Annotated[tuple[DataPart, ...], Field(min_length=1)]
SOUNDS: Data = (DataPart(ability="Proactive"),)
STREAMS: Data = tuple(
    DataPart(weight=0.25, ability=name)
    for name in ("SpeechRecognition", "Translation", "VoiceChat", "AudioUnderstanding")
)
# `Mixed` interleaves turns of all abilities; 0.3 of its streams hold proactive turns, and 0.3 a history review
INTERLEAVED: Data = (
    DataPart(weight=0.6, ability="Mixed"),
    DataPart(weight=0.4, ability="Proactive", respond_share=0.0),
)


@dataclass(frozen=True)
class MixedStageConfig(StageConfig):
    """A supervised stage over a data mix of its own; subclasses have the defaults of each.

    Attributes:
        data: The mix of streams.
        streams: How many of them are composed; they are seen again when all were.
        validation_streams: Held-out streams of each part of the mix.
    """

    data: Data = SOUNDS
    streams: PositiveInt = 100_000
    validation_streams: PositiveInt = 16

    @property
    def part_names(self) -> list[str]:
        """What the numbers of each part of the mix are logged under: its name, and a number where others have it."""
        names = [part.name for part in self.data]
        count = Counter(names)
        nth = [names[: i + 1].count(name) for i, name in enumerate(names)]
        return [f"{name} {n}" if count[name] > 1 else name for name, n in zip(names, nth, strict=True)]


@dataclass(frozen=True)
class HearingConfig(MixedStageConfig):
    """Ours: what a pretrained audio tower brings along."""

    learns: ClassVar[Literal["names", "replies"]] = "names"

    data: Data = SOUNDS
    learning_rate: PositiveFloat = 3e-3
    trains: tuple[str, ...] = ("encoder", "projector")


@dataclass(frozen=True)
class FormatConfig(MixedStageConfig):
    """Stage 1: the model learns to use its new tokens."""

    data: Data = SOUNDS
    steps: PositiveInt = 5_000
    learning_rate: PositiveFloat = 1e-4
    trains: tuple[str, ...] = ("lm_head", NEW_TOKENS)


@dataclass(frozen=True)
class AdapterConfig(MixedStageConfig):
    """Stage 2: the projector learns to speak the language model's language."""

    data: Data = SOUNDS
    steps: PositiveInt = 20_000
    learning_rate: PositiveFloat = 1e-4
    trains: tuple[str, ...] = ("projector",)


@dataclass(frozen=True)
class StreamingConfig(MixedStageConfig):
    """Stage 3: when to speak, on streams of four abilities."""

    learns_from: ClassVar[Literal["sounds", "streams"]] = "streams"

    data: Data = STREAMS
    steps: PositiveInt = 80_000
    learning_rate: PositiveFloat = 5e-5
    stream_weight: NonNegativeFloat = 1.0


@dataclass(frozen=True)
class FollowingConfig(MixedStageConfig):
    """Stage 4: instruction following, with proactive turns, history review and silence mixed in."""

    learns_from: ClassVar[Literal["sounds", "streams"]] = "streams"

    data: Data = INTERLEAVED
    steps: PositiveInt = 15_000
    learning_rate: PositiveFloat = 1e-5
    stream_weight: NonNegativeFloat = 1.0


@dataclass(frozen=True)
class SupervisedRunConfig:
    """A run of one stage, or of several in a row, each from the policy folder that the one before it wrote.

    Attributes:
        kind: Of run, for `soundflow train`.
        stages: Which stages, in this order.
        seed: Of everything that is drawn.
        policy: The policy folder to start from; None: a new model of the `compact` backbone.
        model: The shape of a new model.
        workers: Processes that compose streams.
        real_share: Share of the draws that take recordings, where clips are given.
        held_out_clips: Part of the recordings that only validation hears.
        bf16: Compute in bfloat16, weights in float32; for GPUs.
        fsdp: Under `torchrun`, have each process hold a part of every weight, its gradient and its moments, and not
            all of them (FSDP); docs/scaling.md says what that saves.
        hearing: Naming single sounds (ours).
        format: Stage 1.
        adapter: Stage 2.
        streaming: Stage 3.
        following: Stage 4.
    """

    stages: Annotated[tuple[StageName, ...], Field(min_length=1)]
    kind: Literal["supervised"] = "supervised"
    seed: Seed = 0
    policy: str | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    workers: PositiveInt = 2
    real_share: Share = 0.6
    held_out_clips: Part = 0.3
    bf16: bool = False
    fsdp: bool = False
    hearing: HearingConfig = field(default_factory=HearingConfig)
    format: FormatConfig = field(default_factory=FormatConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    following: FollowingConfig = field(default_factory=FollowingConfig)

    def __post_init__(self) -> None:
        if len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages names one twice: {', '.join(self.stages)}")

    def stage(self, name: StageName) -> MixedStageConfig:
        """Return the configuration of a stage."""
        stage: MixedStageConfig = getattr(self, name)
        return stage
