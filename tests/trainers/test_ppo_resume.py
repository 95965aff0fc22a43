"""A run of PPO goes on after a kill as if it had not been killed, and nothing else goes on from its checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.errors import ConfigError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model
from trainers.config import ReinforcementConfig
from trainers.ppo import train_ppo
from trainers.scenes import Steady

STREAMS = Steady(ProactiveScenarios(Foley(), 0.8, (9, 12)))
SEEDS = (1, 4, 7, 8)
USUAL = {"episodes_per_iteration": 2, "minibatches": 1, "epochs": 1, "learning_rate": 1e-2}
pytestmark = pytest.mark.usefixtures("hasty_critic")

WAYS: list[dict[str, Any]] = [
    {"content_coef": 1.0, "kl_coef": 0.1},
    {"lora_rank": 2, "critic": "hidden", "kl_coef": 0.1, "kl_target": 0.01},
    {"algorithm": "grpo", "episodes_per_scenario": 2, "objective": "raw_token"},
]


@pytest.mark.parametrize("options", WAYS, ids=["ppo", "adapters", "grpo"])
def test_a_run_goes_on_from_its_checkpoint_with_the_same_bits(
    tokenizer: ReplyTokenizer, tmp_path: Path, options: dict[str, Any]
) -> None:
    """The checkpoint is in the middle of an epoch; of the two iterations after it, the last begins another."""
    config = ReinforcementConfig(**{**USUAL, "iterations": 5, **options})

    def train() -> tuple[dict[str, torch.Tensor], list[tuple[int, float]]]:
        model = tiny_model(tokenizer)
        play = (model, tokenizer, STREAMS, SEEDS, Reward.default())
        done = train_ppo(*play, config, tmp_path / "logs", 0, tmp_path / "kept", 3)
        return model.state_dict(), done.curve  # how long it took is another matter

    whole, curve = train()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["step-00000003"]
    torch.manual_seed(123)  # as a new process would not know what was drawn
    np.random.seed(123)  # noqa: NPY002
    resumed, same = train()
    assert len(curve) == 5
    assert same == curve
    assert all(value.equal(whole[name]) for name, value in resumed.items())


def test_the_checkpoint_of_another_run_is_refused(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    usual = Reward.default()

    def train(model: LALM, reward: Reward = usual, **options: Any) -> None:
        config = ReinforcementConfig(**{**USUAL, "iterations": 1, **options})
        kept = tmp_path / "kept"
        train_ppo(model, tokenizer, STREAMS, SEEDS[:2], reward, config, tmp_path / "logs", 0, kept)

    train(tiny_model(tokenizer))
    with pytest.raises(ConfigError, match=r"another run: ppo\.clip was 0\.2 and is 0\.1;"):
        train(tiny_model(tokenizer), clip=0.1)
    with pytest.raises(ConfigError, match="another run: policy was"):
        train(tiny_model(tokenizer, seed=1))
    with pytest.raises(ConfigError, match="another run: reward was"):
        train(tiny_model(tokenizer), Reward([(name, 2 * weight, part) for name, weight, part in usual.components]))
