"""The streams of a run of PPO: those of its data mix that it plays, and those of each part that it is judged by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.corpus import Corpus
from envs.curriculum import Curriculum
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.scenario import Scenario
from envs.scenario_mix import ScenarioMix
from trainers.config import StreamsConfig
from trainers.scenes import HELD_OUT_SEEDS, Composed, ComposedCurriculum, ScenariosAt, Steady, seeds
from trainers.stage_config import Data, DataPart
from trainers.stage_data import part_scenarios, shares, split_corpus


@dataclass(frozen=True)
class _PartAt:
    """A part of ability Proactive, as a curriculum has it; what the part says of itself stays."""

    part: DataPart
    curriculum: Curriculum

    def __call__(self, progress: float) -> Callable[[int], Scenario]:
        return part_scenarios(self.part, self.curriculum.at(progress))


@dataclass(frozen=True)
class MixedStreams:
    """The streams of several parts at any moment of a training: each seed is one of a part, by its own seed there."""

    parts: tuple[ScenariosAt, ...]
    picks: Mapping[int, tuple[int, int]]

    def __call__(self, progress: float) -> ScenarioMix:
        """Return the streams of a moment of the training."""
        return ScenarioMix([part(progress) for part in self.parts], self.picks)


def played_streams(
    data: Data, curriculum: Curriculum, wanted: Sequence[int], scenes: StreamsConfig, beforehand: bool
) -> MixedStreams:
    """Return the streams that are played, `wanted` of them shared out to the parts by weight.

    Args:
        data: The mix.
        curriculum: Of the streams of ability Proactive; its base has the sounds of all.
        wanted: A seed for each stream.
        scenes: Of the run.
        beforehand: Compose them in processes of this machine, once, and keep them; else whoever plays composes.

    Raises:
        SoundFlowError: when a part cannot be used.
    """
    counts, first = shares([part.weight for part in data], len(wanted)), 0
    parts, picks = list[ScenariosAt](), dict[int, tuple[int, int]]()
    for index, (part, count) in enumerate(zip(data, counts, strict=True)):
        own = list(wanted[first : first + count])
        first += count
        numbers = own
        if part.corpus is not None:
            trained, _ = split_corpus(Corpus(Path(part.corpus)), scenes.held_out_count)
            numbers = [number % len(trained) for number in range(count)]
        picks |= {seed: (index, number) for seed, number in zip(own, numbers, strict=True)}
        parts.append(_part_at(part, curriculum, sorted(set(numbers)), scenes.workers if beforehand else 0))
    return MixedStreams(tuple(parts), picks)


def _part_at(part: DataPart, curriculum: Curriculum, wanted: Sequence[int], workers: int) -> ScenariosAt:
    if part.is_of_sounds:
        at = _PartAt(part, curriculum)
        return ComposedCurriculum(curriculum, wanted, workers, at) if workers else at
    scenarios = part_scenarios(part, curriculum.base)
    return Steady(Composed(scenarios, wanted, workers) if workers else scenarios)


def suite_of(part: DataPart) -> str:
    """Return what the held-out streams of a part are called; the usual ones are those of a run without a mix."""
    usual = part.is_of_sounds and part.respond_share is None
    return "held_out" if usual else f"held_out_{part.name}"


def held_out_streams(part: DataPart, scenes: StreamsConfig, seed: int) -> Composed:
    """Compose the streams of a part that a policy is judged by: of built-in sounds, or the last ones of a corpus.

    Raises:
        SoundFlowError: when the part cannot be used.
    """
    span = (scenes.min_chunks, scenes.max_chunks)
    scenarios = part_scenarios(part, ProactiveScenarios(Foley(), scenes.respond_share, span))
    wanted: Sequence[int] = seeds(HELD_OUT_SEEDS, seed, scenes.held_out_count)
    if part.corpus is not None:
        _, wanted = split_corpus(Corpus(Path(part.corpus)), scenes.held_out_count)
    return Composed(scenarios, wanted, scenes.workers)
