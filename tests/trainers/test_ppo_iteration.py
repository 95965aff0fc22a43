"""An iteration of PPO in detail: where a time limit cuts, and where its tensors are."""

from pathlib import Path

import pytest
import torch

from envs.errors import ConfigError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model
from tests.trainers.broken_reward import BROKEN_REWARD
from trainers.config import ReinforcementConfig
from trainers.critic import SITUATION_SIZE
from trainers.experience import experience
from trainers.learners import learning_device
from trainers.ppo import StreamPPOTrainer, make_trainer, train_ppo
from trainers.rollouts import collect
from trainers.scenes import Steady

STREAMS = ProactiveScenarios(Foley(), 0.8, (9, 12))
SEEDS = (1, 4, 7, 8, 9, 11, 12, 14)


@pytest.fixture
def trainer(tmp_path: Path, tokenizer: ReplyTokenizer, hasty_critic: None) -> StreamPPOTrainer:
    """Of a tiny model, one iteration of four episodes of at most ten chunks."""
    config = ReinforcementConfig(
        iterations=1,
        episodes_per_iteration=4,
        minibatches=1,
        epochs=1,
        gamma=0.9,
        gae_lambda=0.5,
        kl_coef=0.1,
        content_coef=1.0,
        tokens_per_minibatch=60,
        episode_chunks=10,
    )
    return make_trainer(
        tiny_model(tokenizer), tokenizer, Steady(STREAMS), SEEDS, Reward.default(), config, tmp_path / "logs", 0
    )


def test_a_run_that_fails_ends_the_line_of_its_progress_bar(
    tokenizer: ReplyTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is printed next, and would stand at the end of a bar."""
    config = ReinforcementConfig(iterations=1, episodes_per_iteration=4)
    with pytest.raises(ConfigError) as error:
        train_ppo(tiny_model(tokenizer), tokenizer, Steady(STREAMS), SEEDS, BROKEN_REWARD, config, tmp_path / "logs", 0)
    assert capsys.readouterr().err.endswith("\n")
    assert "component 'broken' gave nan at step 5" in str(error.value)


def test_a_time_limit_cuts_episodes_and_the_critic_says_what_they_were_worth(trainer: StreamPPOTrainer) -> None:
    """Returns by hand: all states are worth three, so each decision's error is its reward, less what time took.

    What comes after the cut counts as three; a stream that ends by itself is worth nothing then.
    """
    trainer.train()
    known, _, _ = trainer.critic.memory[-1]
    assert len(known) > 0
    rollouts = collect(trainer.policy.eval(), trainer.tokenizer, STREAMS, SEEDS, Reward.default(), 0, 0, 10)
    assert {rollout.truncated for rollout in rollouts} == {True, False}, "the test must see both"
    for parameter in trainer.critic.parameters():
        parameter.data.zero_()
    trainer.critic.score[-1].bias.data.fill_(3.0)
    decisions = sum(len(rollout.probability) for rollout in rollouts)
    got = trainer.credit._returns(rollouts, torch.zeros(decisions, SITUATION_SIZE), torch.full((decisions,), 3.0), 0.5)
    expected = []
    for rollout in rollouts:
        steps, chunks = len(rollout.trace.steps), rollout.decision_chunks
        assert rollout.truncated == (steps == 10 < rollout.trace.num_chunks)
        assert steps == min(10, rollout.trace.num_chunks)
        after = [*chunks[1:], steps]
        last = 3.0 if rollout.truncated else 0.0
        following = [3.0] * (len(chunks) - 1) + [last]
        errors = [
            float(r) + 0.9 ** (b - a) * v - 3.0
            for r, a, b, v in zip(rollout.decision_rewards, chunks, after, following, strict=True)
        ]
        for i, chunk in enumerate(chunks):
            expected.append(3.0 + sum(0.45 ** (c - chunk) * e for c, e in zip(chunks[i:], errors[i:], strict=True)))
    torch.testing.assert_close(got, torch.tensor(expected))


def test_an_update_makes_all_its_tensors_where_the_model_is(trainer: StreamPPOTrainer) -> None:
    """One made anywhere else would be without numbers here, and on another device than the rest on a GPU."""
    where = {
        p.device.type for module in (trainer.policy, trainer.critic, trainer.ref_model) for p in module.parameters()
    }
    assert where == {trainer.accelerator.device.type} == {learning_device().type}
    rollouts = collect(trainer.policy.eval(), trainer.tokenizer, STREAMS, trainer._next_seeds(), Reward.default(), 0)
    batch = experience(trainer.policy, rollouts)
    trainer._judge(batch, rollouts)
    trainer.optimizer = torch.optim.SGD(trainer.policy.parameters(), 0.1)  # Adam counts its steps on the CPU
    before = {name: value.clone() for name, value in trainer.policy.state_dict().items()}
    with torch.device("meta"):
        trainer._update(batch)
    assert any(not value.equal(before[name]) for name, value in trainer.policy.state_dict().items())
