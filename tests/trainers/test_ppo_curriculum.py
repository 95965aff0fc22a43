"""PPO under a curriculum: the streams follow from iteration and seed alone, whoever composes them, after any kill."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from envs.curriculum import Curriculum, Stage
from envs.errors import ConfigError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from envs.scenario import Scenario
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model
from trainers.config import JudgingConfig, ReinforcementConfig, StreamsConfig
from trainers.ppo import train_ppo
from trainers.reinforce import PPORunConfig, run_ppo
from trainers.scenes import ComposedCurriculum

CURRICULUM = Curriculum(ProactiveScenarios(Foley(), 0.8, (12, 13)), [Stage(0.5, chunks=(9, 9)), Stage(1.0)])
PPO = ReinforcementConfig(iterations=4, episodes_per_iteration=2, epochs=1, minibatches=1, streams=4)
pytestmark = pytest.mark.usefixtures("hasty_critic")


@dataclass
class Noted:
    """Scenarios that note what was played, and when."""

    played: list[tuple[float, int, int]] = field(default_factory=list)  # progress, seed, chunks
    composed: ComposedCurriculum = field(default_factory=lambda: ComposedCurriculum(CURRICULUM, range(4), 1))

    def __call__(self, progress: float) -> Callable[[int], Scenario]:
        def scenario(seed: int) -> Scenario:
            made = self.composed(progress)(seed)
            self.played.append((progress, seed, made.num_chunks))
            return made

        return scenario


def test_streams_follow_from_the_iteration_and_a_run_goes_on_in_its_stage(
    tokenizer: ReplyTokenizer, tmp_path: Path
) -> None:
    def train() -> tuple[Noted, dict[str, torch.Tensor]]:
        noted, model = Noted(), tiny_model(tokenizer)
        train_ppo(model, tokenizer, noted, range(4), Reward.default(), PPO, tmp_path, 0, tmp_path / "kept", 3)
        return noted, model.state_dict()

    whole, weights = train()
    assert [progress for progress, _, _ in whole.played[::2]] == [0.0, 0.25, 0.5, 0.75]
    assert {chunks for progress, _, chunks in whole.played if progress < 0.5} == {9}
    assert all(chunks >= 12 for progress, _, chunks in whole.played if progress >= 0.5)
    resumed, same = train()
    assert resumed.played == whole.played[-2:], "it goes on after three iterations, in the second stage"
    assert all(same[name].equal(value) for name, value in weights.items())


def test_worker_processes_compose_what_the_curriculum_says() -> None:
    composed = ComposedCurriculum(CURRICULUM, range(3), 2)
    for progress in (0.0, 0.4, 0.5, 1.0):
        for seed in range(3):
            assert (composed(progress)(seed).audio == CURRICULUM.at(progress)(seed).audio).all()


def test_a_run_takes_its_curriculum_from_the_configuration(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """One that makes no sense is refused before anything is written; a harder beginning leads elsewhere."""
    write_policy(tmp_path / "begin", tiny_model(tokenizer), tokenizer)
    config = PPORunConfig(
        policy=str(tmp_path / "begin"),
        scenes=StreamsConfig(min_chunks=9, max_chunks=12, held_out_count=2, workers=1),
        ppo=replace(PPO, iterations=2),
        evaluation=JudgingConfig(bootstrap=20),
        reward=[{"name": "false_alarm"}],
    )
    with pytest.raises(ConfigError, match=r"curriculum: the last stage ends at 0\.5, expected 1"):
        run_ppo(replace(config, curriculum=(Stage(0.5),)), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    for name, stages in {
        "plain": (),
        "steady": (Stage(1.0),),
        "grown": (Stage(0.5, chunks=(20, 20)), Stage(1.0)),
    }.items():
        run_ppo(replace(config, curriculum=stages), tmp_path / name)
    plain, steady, grown = (
        (tmp_path / name / "policy" / "model.safetensors").read_bytes() for name in ("plain", "steady", "grown")
    )
    assert plain == steady
    assert plain != grown
