"""The samples of a supervised stage: its data mix composed, cut up, checked, and a part that is never trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from envs.clip_library import ClipLibrary
from envs.corpus import Corpus
from envs.errors import ConfigError, ManifestError, ScenarioError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.scenario import Scenario
from envs.scenario_mix import ScenarioMix
from envs.sources import ClipSource, Mixture
from envs.stream_env import Scenarios, default_scenarios
from envs.workers import compose_all
from trainers.run import one_thread
from trainers.samples import SampleMaker, StreamSample
from trainers.scenes import TRAIN_SEEDS, VALIDATION_SEEDS, seeds
from trainers.stage_config import DataPart, StageConfig, StageName

_MOST_HELD = 5  # of a corpus, at most one stream in so many is held out


@dataclass(frozen=True)
class Sounds:
    """Where sounds come from: those to train on, and those that only validation hears."""

    train: ClipSource = field(default_factory=Foley)
    held_out: ClipSource = field(default_factory=Foley)

    @classmethod
    def with_recordings(cls, train: ClipLibrary, held_out: ClipLibrary, share: float) -> "Sounds":
        """Return built-in sounds with a share of recordings among them."""
        return cls(_mixture(train, share), _mixture(held_out, share))


@dataclass
class StageData:
    """What a stage learns from, and what it is judged on while it does.

    Attributes:
        train: The samples.
        validation: Held-out samples of each part of the mix, by its name.
        listening: A held-out stream to be heard by people, with something to reply to where the mix has that.
    """

    train: list[StreamSample] = field(default_factory=list)
    validation: dict[str, list[StreamSample]] = field(default_factory=dict)
    listening: Scenario | None = None


@dataclass(frozen=True)
class Job:
    """One stream to compose."""

    part: int
    held_out: bool
    seed: int


def compose_stage(
    name: StageName, config: StageConfig, sounds: Sounds, maker: SampleMaker, seed: int, workers: int
) -> StageData:
    """Compose the streams of a stage and make its samples.

    Raises:
        ConfigError: when nothing in the mix deserves a reply though the stage is to learn when to reply, or a sample
            has more tokens than a batch may have.
        ScenarioError: when the streams have no room for a single sound.
        ManifestError, AudioError, SpeechError: when a corpus or speech cannot be used.
    """
    (mix, jobs), data, cues = mix_of(config, sounds, seed), StageData(), 0
    streams = compose_all(mix, range(len(mix)), workers)
    with one_thread():
        for job, scenario in tqdm(zip(jobs, streams, strict=True), total=len(jobs), unit="stream"):
            stream, part = maker.stream(scenario), config.data[job.part]
            samples = [stream] if config.learns_from == "streams" else maker.sounds(scenario, stream)
            _check_size(name, config, part, scenario, samples)
            if not job.held_out:
                cues += len(scenario.timeline)
                data.train += samples
                continue
            data.validation.setdefault(part.name, []).extend(samples)
            if data.listening is None or (scenario.cues and not data.listening.cues):
                data.listening = scenario
    if config.learns_from == "streams" and cues == 0:
        raise ConfigError(
            f"{name}.data: none of its {len(data.train)} streams has a cue, so there is nothing to reply to; mix in an"
            " ability with replies, or compose more streams"
        )
    if not data.train or not all(data.validation.values()):
        raise ScenarioError(f"{name}.data: its streams have no single sound in the foreground; compose more of them")
    return data


def open_parts(config: StageConfig, sounds: Sounds) -> None:
    """Open what the mix of a stage names, so that a run of hours fails in its first second.

    Raises:
        SoundFlowError: as `compose_stage`, for what can be known without composing.
    """
    for part in config.data:
        part_scenarios(part, ProactiveScenarios(sounds.train))


def shares(weights: Sequence[float], count: int) -> list[int]:
    """Return how many of `count` things each of several parts gets, by weight; each gets at least one.

    They are `count` together, where there is one for each part.
    """
    exact = [weight * count / sum(weights) for weight in weights]
    whole = [max(1, int(number)) for number in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: whole[i] - exact[i])
    for index in by_rest[: max(0, count - sum(whole))]:
        whole[index] += 1
    while sum(whole) > max(count, len(whole)):  # so many parts had less than one
        whole[whole.index(max(whole))] -= 1
    return whole


def mix_of(config: StageConfig, sounds: Sounds, seed: int) -> tuple[ScenarioMix, list[Job]]:
    """Return the streams of a stage, and what each is of and for."""
    counts = shares([part.weight for part in config.data], config.streams)
    train = [part_scenarios(part, ProactiveScenarios(sounds.train)) for part in config.data]
    held_out = [part_scenarios(part, ProactiveScenarios(sounds.held_out)) for part in config.data]
    jobs = list[Job]()
    first = 0
    for index, (scenarios, count) in enumerate(zip(train, counts, strict=True)):
        wanted = range(first, first + count)
        first += count
        taken, held = _seeds(scenarios, wanted, config.validation_streams, seed)
        jobs += [Job(index, False, one) for one in taken] + [Job(index, True, one) for one in held]
    picks = [(job.part + len(train) * job.held_out, job.seed) for job in jobs]
    return ScenarioMix((*train, *held_out), picks), jobs


def _seeds(scenarios: Scenarios, wanted: range, held_out: int, seed: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return the seeds to train on and those held out; of a corpus, its first streams and its last."""
    if not isinstance(scenarios, Corpus):
        trained = seeds(TRAIN_SEEDS, seed, wanted.stop)[wanted.start :]
        return trained, seeds(VALIDATION_SEEDS, seed, held_out)
    rest, held = split_corpus(scenarios, held_out)
    return [index % len(rest) for index in range(len(wanted))], held


def split_corpus(corpus: Corpus, held_out: int) -> tuple[range, range]:
    """Return which streams of a corpus are trained on and which are held out: its last, a fifth of it at most."""
    held = min(held_out, max(1, len(corpus) // _MOST_HELD))
    rest = len(corpus) - held
    return range(rest), range(rest, len(corpus))


def part_scenarios(part: DataPart, proactive: ProactiveScenarios) -> Scenarios:
    """Return the streams of a part of a mix.

    Args:
        part: Of the mix.
        proactive: Those of ability Proactive, where the part does not say how many sounds deserve a reply; other
            abilities take their sounds from its source.

    Raises:
        SoundFlowError: when there is no such ability, sub-task or corpus.
    """
    if part.corpus is not None:
        corpus = Corpus(Path(part.corpus))
        if len(corpus) < 2:
            raise ManifestError(f"{part.corpus}: one stream, expected at least 2: one to train on, and one held out")
        return corpus
    if part.is_of_sounds:
        return proactive if part.respond_share is None else replace(proactive, respond_share=part.respond_share)
    assert part.ability is not None  # the configuration has checked it
    return default_scenarios(part.ability, part.sub_task, proactive.source)


def _check_size(
    name: StageName, config: StageConfig, part: DataPart, scenario: Scenario, samples: Sequence[StreamSample]
) -> None:
    for sample in samples:
        if len(sample.sequence) > config.max_tokens_per_batch:
            raise ConfigError(
                f"{name}.max_tokens_per_batch is {config.max_tokens_per_batch}, and a sample of {part.name}, seed"
                f" {scenario.seed}, has {len(sample.sequence)} tokens; allow at least as many"
            )


def _mixture(library: ClipLibrary, share: float) -> ClipSource:
    if share == 0.0:
        return Foley()
    return library if share == 1.0 else Mixture((Foley(), library), (1.0 - share, share))
