"""The samples of a supervised stage: its data mix composed, cut up, checked, and a part that is never trained on."""

import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
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
from trainers.sample_store import SampleWriter, StoredSamples
from trainers.samples import SampleMaker, StreamSample
from trainers.scenes import TRAIN_SEEDS, VALIDATION_SEEDS, seeds
from trainers.stage_config import DataPart, MixedStageConfig, StageName

_MOST_HELD = 5  # of a corpus, at most one stream in so many is held out
_FIRST_LOOK = 16  # streams after which the room that all will take is known well enough


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
        validation: Held-out samples of each part of the mix, by its name; of several processes, the main one's.
        listening: A held-out stream to be heard by people, with something to reply to where the mix has that.
    """

    train: StoredSamples
    validation: dict[str, list[StreamSample]] = field(default_factory=dict)
    listening: Scenario | None = None

    def listen_to(self, scenario: Scenario) -> None:
        """Take a held-out stream to be heard, where it is the first, or the first with something to reply to."""
        if self.listening is None or (scenario.cues and not self.listening.cues):
            self.listening = scenario


@dataclass(frozen=True)
class Job:
    """One stream to compose."""

    part: int
    held_out: bool
    seed: int


def compose_stage(
    name: StageName,
    config: MixedStageConfig,
    sounds: Sounds,
    maker: SampleMaker,
    seed: int,
    workers: int,
    folder: Path,
) -> StageData:
    """Compose the streams of a stage and make its samples; those to learn from are written into `folder`.

    Where they are there already, because the run goes on after a kill, only what is held out is composed.

    Raises:
        ConfigError: when nothing in the mix deserves a reply though the stage is to learn when to reply, a sample has
            more tokens than a batch may have, or the disk has no room for the samples.
        ScenarioError: when the streams have no room for a single sound.
        ManifestError, AudioError, SpeechError: when a corpus or speech cannot be used.
    """
    mix, jobs = mix_of(config, sounds, seed)

    def samples_of(held_out: bool) -> Generator[tuple[Job, Scenario, list[StreamSample]], None, None]:
        wanted = [i for i, job in enumerate(jobs) if job.held_out == held_out]
        with one_thread():
            streams = compose_all(mix, wanted, workers)
            for i, scenario in tqdm(zip(wanted, streams, strict=True), total=len(wanted), unit="stream"):
                stream = maker.stream(scenario)
                samples = [stream] if config.learns_from == "streams" else maker.sounds(scenario, stream)
                _check_size(name, config, config.part_names[jobs[i].part], scenario, samples)
                yield jobs[i], scenario, samples

    if not folder.is_dir():
        cues, total = 0, sum(not job.held_out for job in jobs)
        with SampleWriter(folder) as writer, closing(samples_of(held_out=False)) as made:
            for done, (_, scenario, samples) in enumerate(made, 1):
                cues += len(scenario.timeline)
                for sample in samples:
                    writer.add(sample)
                check_room([writer], f"{name}.streams", done, total)
            if config.learns_from == "streams" and cues == 0:
                raise ConfigError(
                    f"{name}.data: none of its {total} streams has a cue, so there is nothing to reply to; mix in an"
                    " ability with replies, or compose more streams"
                )
            if not len(writer):
                raise _no_sounds(name)
    data = StageData(StoredSamples(folder))
    for job, scenario, samples in samples_of(held_out=True):
        data.validation.setdefault(config.part_names[job.part], []).extend(samples)
        data.listen_to(scenario)
    if not all(data.validation.values()):
        raise _no_sounds(name)
    return data


def check_room(writers: Sequence[SampleWriter], key: str, done: int, total: int) -> None:
    """Ask at some moments, the first of them early, whether the disk has room for what is still to be written.

    Args:
        writers: Of the samples, all into one folder.
        key: Of the configuration, that says how many streams there are.
        done: How many have been written.
        total: How many there are to be.

    Raises:
        ConfigError: when it has not.
    """
    if done < _FIRST_LOOK or done & (done - 1):  # at powers of two
        return
    folder, written = writers[0].folder.parent, sum(writer.written for writer in writers)
    wanted, room = written / done * total, written + shutil.disk_usage(folder).free
    if wanted > room:
        raise ConfigError(
            f"{key} is {total}, whose samples take {wanted / 1e9:.2g} GB, and {folder} has room for"
            f" {room / 1e9:.2g} GB; compose fewer streams, or name a folder with more room by --out"
        )


def _no_sounds(name: str) -> ScenarioError:
    return ScenarioError(f"{name}.data: its streams have no single sound in the foreground; compose more of them")


def open_parts(config: MixedStageConfig, sounds: Sounds) -> None:
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


def mix_of(config: MixedStageConfig, sounds: Sounds, seed: int) -> tuple[ScenarioMix, list[Job]]:
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
    name: StageName, config: MixedStageConfig, part: str, scenario: Scenario, samples: Sequence[StreamSample]
) -> None:
    for sample in samples:
        if len(sample.sequence) > config.max_tokens_per_batch:
            raise ConfigError(
                f"{name}.max_tokens_per_batch is {config.max_tokens_per_batch}, and a sample of {part}, seed"
                f" {scenario.seed}, has {len(sample.sequence)} tokens; allow at least as many"
            )


def _mixture(library: ClipLibrary, share: float) -> ClipSource:
    if share == 0.0:
        return Foley()
    return library if share == 1.0 else Mixture((Foley(), library), (1.0 - share, share))
