"""Each option of reinforcement does what it says."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainers.credit
from envs.errors import PolicyError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from envs.trace import StepRecord, Trace
from policies.engine import StepEvent
from policies.lora import add_lora, has_lora
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import tiny_model
from tests.trainers.test_learning import reinforced
from trainers.advantages import group_advantages
from trainers.config import ReinforcementConfig
from trainers.credit import scaled
from trainers.experience import Experience, experience
from trainers.kl_controller import KLController
from trainers.ppo import StreamPPOTrainer, make_trainer, train_ppo
from trainers.ppo_loss import raw_log_probs
from trainers.rollouts import Rollout, collect
from trainers.scenes import Steady

STREAMS = ProactiveScenarios(Foley(), 0.8, (9, 12))
SEEDS = (1, 4, 7, 8, 9, 11, 12, 14)
USUAL = {"iterations": 1, "episodes_per_iteration": 4, "minibatches": 1, "epochs": 1, "learning_rate": 1e-2}


Make = Callable[..., StreamPPOTrainer]


@pytest.fixture
def make(tokenizer: ReplyTokenizer, tmp_path: Path, hasty_critic: None) -> Make:
    """Return what makes a trainer of a tiny model with options that differ from the usual ones."""

    def trainer(**options: Any) -> StreamPPOTrainer:
        config = ReinforcementConfig(**{**USUAL, **options})
        return make_trainer(
            tiny_model(tokenizer), tokenizer, Steady(STREAMS), SEEDS, Reward.default(), config, tmp_path / "logs", 0
        )

    return trainer


def judged(trainer: StreamPPOTrainer) -> Experience:
    """Return one iteration's experience, with its advantages."""
    batch, rollouts = played(trainer)
    trainer._judge(batch, rollouts)
    return batch


def played(trainer: StreamPPOTrainer) -> tuple[Experience, list[Rollout]]:
    rollouts = collect(trainer.policy.eval(), trainer.tokenizer, STREAMS, trainer._next_seeds(), Reward.default(), 0)
    return experience(trainer.policy, rollouts), rollouts


def gradient(trainer: StreamPPOTrainer, batch: Experience) -> dict[str, torch.Tensor]:
    """Return the gradient of an update from all episodes."""
    trainer.policy.zero_grad()
    minibatch = torch.arange(len(batch.lengths), device=batch.row.device)
    for piece in batch.pieces(trainer.config.tokens_per_minibatch, minibatch):
        trainer.loss(trainer.policy, batch, piece, batch.counts(minibatch))[0].backward()
    return {name: p.grad.clone() for name, p in trainer.policy.named_parameters() if p.grad is not None}


def state(model: LALM) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def log_probs(model: LALM, batch: Experience) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a model makes of the same histories: of decisions, and of what can be said."""
    with torch.no_grad():
        hidden = model.hidden_states(batch.tokens, batch.audio)[batch.row, batch.at]
    decided = batch.is_decision
    return model.decision_log_probs(hidden[decided]).detach(), model.content_log_probs(hidden[~decided]).detach()


def test_the_decision_alone_is_trained_by_its_head_and_no_word_changes(make: Make) -> None:
    trainer = make(mode="decision_only", train="head", decision_learning_rate=0.1)
    batch, _ = played(trainer)
    before, weights = log_probs(trainer.policy, batch), state(trainer.policy)
    trainer.train()
    after = log_probs(trainer.policy, batch)
    assert after[1].equal(before[1])
    assert not after[0].allclose(before[0], atol=1e-3)
    changed = {name for name, value in trainer.policy.state_dict().items() if not value.equal(weights[name])}
    assert changed == {"decision_head.weight", "decision_head.bias"}


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_it_begins_with_sharper_decisions_that_are_the_same(make: Make, lora_rank: int) -> None:
    """And holds the policy to them."""
    batch, _ = played(make(decision_sharpness=1.0))
    plain, words = log_probs(make(decision_sharpness=1.0).policy, batch)
    trainer = make(decision_sharpness=3.0, lora_rank=lora_rank)
    sharp, same = log_probs(trainer.policy, batch)
    odds, sharper = (p[:, 1] - p[:, 0] for p in (plain, sharp))
    assert odds.abs().max() > 0.1
    torch.testing.assert_close(sharper, 3 * odds, atol=1e-5, rtol=1e-4)
    assert same.equal(words)
    batch = judged(trainer)
    torch.testing.assert_close(batch.reference[0], log_probs(trainer.policy, batch)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("mode", "other"), [("decision_only", "content_advantage"), ("content_only", "decision_advantage")]
)
def test_what_is_not_optimised_has_no_say_and_is_held(make: Make, mode: str, other: str) -> None:
    """The other policy's advantages move nothing; its divergence does."""
    trainer = make(mode=mode, kl_coef=0.0)
    batch = judged(trainer)
    alone = gradient(trainer, batch)
    setattr(batch, other, getattr(batch, other) + 7.0)
    assert all(value.equal(alone[name]) for name, value in gradient(trainer, batch).items())
    own = "decision_advantage" if mode == "decision_only" else "content_advantage"
    setattr(batch, own, torch.randn_like(getattr(batch, own)))
    assert not all(value.allclose(alone[name]) for name, value in gradient(trainer, batch).items())
    held = make(mode=mode, kl_coef=1.0)
    batch = judged(held)
    at = 1 if mode == "decision_only" else 0
    near = gradient(held, batch)
    shifted = list(batch.reference)
    shifted[at] = shifted[at] + torch.linspace(0.0, 1.0, shifted[at].shape[1], device=shifted[at].device)
    batch.reference = (shifted[0], shifted[1])
    assert not all(value.allclose(near[name]) for name, value in gradient(held, batch).items())


def test_the_words_alone_are_trained_and_the_decisions_head_stays(make: Make) -> None:
    trainer = make(mode="content_only", content_coef=1.0)
    batch, _ = played(trainer)
    before, weights = log_probs(trainer.policy, batch), state(trainer.policy)
    trainer.train()
    own = state(trainer.policy)
    assert all(own[name].equal(weights[name]) for name in ("decision_head.weight", "decision_head.bias"))
    assert not log_probs(trainer.policy, batch)[1].allclose(before[1], atol=1e-3)


def test_raw_tokens_are_one_policy_with_one_advantage(make: Make) -> None:
    """The control tokens stand to each other as the engine has them, and a turn's tokens share what it earned."""
    trainer = make(objective="raw_token", kl_coef=1.0)
    policy, layout = trainer.policy, trainer.policy.layout
    policy.decision_head.bias.data.fill_(0.7)
    batch = judged(trainer)
    hidden = batch.hidden_of(policy, torch.arange(4, device=batch.row.device), False)[0].detach()
    raw = raw_log_probs(policy, hidden, batch.is_decision)
    torch.testing.assert_close(raw.exp().sum(-1), torch.ones_like(raw[:, 0]))
    controls = raw[batch.is_decision][:, [layout.silent, layout.response]].log_softmax(-1)
    torch.testing.assert_close(controls, policy.decision_log_probs(hidden[batch.is_decision]), atol=1e-5, rtol=0)
    words = raw[~batch.is_decision]
    torch.testing.assert_close(words, policy.lm_head(hidden[~batch.is_decision]).log_softmax(-1))
    turn = batch.is_decision.cumsum(0)
    assert (~batch.is_decision).any(), "the test must see replies"
    assert all(len(batch.raw_advantage[turn == i].unique()) == 1 for i in turn.unique())
    assert batch.raw_advantage.square().mean().item() == pytest.approx(1.0, rel=1e-3)
    everything = torch.arange(4, device=batch.row.device)
    with torch.no_grad():
        _, statistics = trainer.loss(policy, batch, everything, batch.counts(everything))
    assert statistics["clipped/token"] == 0.0
    assert statistics["loss/token"] == pytest.approx(-batch.raw_advantage.mean().item(), abs=1e-5)
    assert statistics["actions/token"] == len(batch.row)


def test_the_kl_is_steered_by_hand() -> None:
    """Ziegler et al. 2019: a tenth of the relative error, which counts for a fifth at most."""
    steered = KLController(("decision", "content"), 0.1, 0.02)
    steered.update({"decision": 0.022})
    assert steered.coefficients == {"decision": pytest.approx(0.101), "content": 0.1}
    steered.update({"decision": 1.0, "content": 0.0})
    assert steered.coefficients == {"decision": pytest.approx(0.101 * 1.02), "content": pytest.approx(0.098)}
    fixed = KLController(("token",), 0.1, None)
    fixed.update({"token": 1.0})
    assert fixed.coefficients == {"token": 0.1}


def test_training_steers_decisions_and_words_on_their_own(make: Make) -> None:
    trainer = make(iterations=2, kl_coef=0.1, kl_target=1e-6, epochs=2, mode="decision_only", train="head")
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "kl_coef/decision" in entry]
    assert [entry["kl_coef/decision"] for entry in logged] == [0.1, pytest.approx(0.102)]
    assert [entry["kl_coef/content"] for entry in logged] == [0.1, pytest.approx(0.098)]  # no word changes: below
    assert trainer.kl.coefficients["decision"] == pytest.approx(0.1 * 1.02**2)


def test_whitened_advantages_have_no_mean_and_a_deviation_of_one(make: Make) -> None:
    advantage, weight = torch.tensor([[1.0, 5.0], [3.0, 7.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    torch.testing.assert_close(scaled(advantage, weight, False), advantage / np.sqrt((1 + 29) / 2))
    torch.testing.assert_close(scaled(advantage, weight, True), (advantage - 3.0) / np.sqrt((4 + 8) / 2))
    for options in ({}, {"algorithm": "grpo", "episodes_per_scenario": 2}):
        batch = judged(make(whiten_advantages=True, **options))
        mean = (batch.decision_weight * batch.decision_advantage).sum(-1).mean()
        square = (batch.decision_weight * batch.decision_advantage.square()).sum(-1).mean()
        assert (mean.item(), square.item()) == (pytest.approx(0.0, abs=1e-5), pytest.approx(1.0, rel=1e-3))


@pytest.mark.parametrize("objective", ["split", "raw_token"])
def test_a_token_budget_changes_no_gradient(make: Make, objective: str) -> None:
    """Pieces of one length, within the budget, whose gradients add up to those of the whole minibatch."""
    trainer = make(episodes_per_iteration=8, objective=objective, kl_coef=0.5, content_coef=0.5)
    batch = judged(trainer)
    whole = gradient(trainer, batch)
    budget = 2 * max(batch.lengths)
    pieces = list(batch.pieces(budget))
    assert 2 < len(pieces) < 8
    assert sorted(i for piece in pieces for i in piece.tolist()) == list(range(8))
    for piece in pieces:
        assert len(piece) * max(batch.lengths[i] for i in piece) <= budget
    for one, other in pairwise(pieces):
        assert min(batch.lengths[i] for i in one) >= max(batch.lengths[i] for i in other)
    assert [len(piece) for piece in batch.pieces(1)] == [1] * 8
    object.__setattr__(trainer.config, "tokens_per_minibatch", budget)
    split = gradient(trainer, batch)
    assert split.keys() == whole.keys()
    assert max(value.abs().max() for value in whole.values()) > 1e-3
    for name, value in split.items():
        torch.testing.assert_close(value, whole[name], atol=1e-5, rtol=1e-4)


def test_an_update_by_a_token_budget_is_the_same_update(make: Make) -> None:
    """By plain gradient descent: Adam's first steps are signs, and a sign may hang on the last digit."""
    updated = []
    for budget in (None, 60):
        trainer = make(tokens_per_minibatch=budget, epochs=2, minibatches=2)
        trainer.optimizer = torch.optim.SGD(trainer.policy.parameters(), 0.1)
        before = state(trainer.policy)
        statistics = trainer._update(judged(trainer))
        updated.append((trainer.policy.state_dict(), statistics))
    (whole, logged), (split, same) = updated
    assert max((whole[name] - before[name]).abs().max() for name in whole) > 1e-2
    for name, value in split.items():
        torch.testing.assert_close(value, whole[name], atol=1e-5, rtol=1e-4)
    assert same == pytest.approx(logged, rel=1e-3, abs=1e-5)


def test_adapters_are_trained_beside_weights_that_stay_and_are_the_reference_without_them(make: Make) -> None:
    trainer = make(lora_rank=2, iterations=2, epochs=2, kl_coef=0.1, content_coef=1.0)
    assert sum(p.numel() for p in trainer.ref_model.parameters()) == 33, "the reference is no second copy"
    batch = judged(trainer)
    everything = torch.arange(4, device=batch.row.device)
    _, statistics = trainer.loss(trainer.policy, batch, everything, batch.counts(everything))
    assert (statistics["kl/decision"], statistics["kl/content"]) == (0.0, 0.0)
    before = state(trainer.policy)
    trainer.train()
    own = state(trainer.policy)
    moved = {name for name in own if not own[name].equal(before[name])}
    assert {name.split(".")[0] for name in moved if ".lora_" not in name} == {"decision_head"}
    assert any(".lora_B" in name for name in moved)
    assert not log_probs(trainer.policy, batch)[0].allclose(batch.reference[0], atol=1e-3)
    with torch.no_grad():
        hidden = trainer.ref_model.hidden_states(batch.tokens, batch.audio)[batch.row, batch.at]
    assert trainer.ref_model.decision_log_probs(hidden[batch.is_decision]).equal(batch.reference[0])
    assert trainer.ref_model.content_log_probs(hidden[~batch.is_decision]).equal(batch.reference[1])


@pytest.mark.usefixtures("hasty_critic")
def test_adapters_are_merged_in_the_end(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    model = tiny_model(tokenizer)
    names, before = list(model.state_dict()), state(model)
    config = ReinforcementConfig(**USUAL, lora_rank=2, content_coef=1.0)
    train_ppo(model, tokenizer, Steady(STREAMS), SEEDS, Reward.default(), config, tmp_path, 0)
    assert not has_lora(model)
    assert list(model.state_dict()) == names
    moved = {name for name, value in model.state_dict().items() if not value.cpu().equal(before[name])}
    assert all("_proj." in name or "decision_head" in name for name in moved)
    assert any("_proj." in name for name in moved)
    with pytest.raises(PolicyError, match="has adapters"):
        train_ppo(add_lora(model, 2), tokenizer, Steady(STREAMS), SEEDS, Reward.default(), config, tmp_path, 0)


def test_the_hidden_critic_sees_the_frozen_trunk_and_no_scenario(make: Make) -> None:
    trainer = make(critic="hidden")
    batch, rollouts = played(trainer)
    with torch.no_grad():
        frozen = trainer.ref_model.hidden_states(batch.tokens, batch.audio)[batch.row, batch.at][batch.is_decision]
    trainer._judge(batch, rollouts)
    known, _, _ = trainer.critic.memory[-1]
    torch.testing.assert_close(known, frozen.cpu())


def test_the_hidden_critic_bootstraps_where_a_stream_was_cut(make: Make) -> None:
    trainer = make(critic="hidden")
    batch, rollouts = played(trainer)
    trainer.credit.critic.score[-1].bias.data.fill_(3.0)  # all states are worth three
    known = torch.zeros(int(batch.is_decision.sum()), 32)
    ended = trainer.credit._returns(rollouts, known, torch.zeros(len(known)), 1.0)
    rollouts[0].truncated = True
    cut = trainer.credit._returns(rollouts, known, torch.zeros(len(known)), 1.0)
    last = len(rollouts[0].decision_chunks) - 1
    took = len(rollouts[0].trace.steps) - rollouts[0].decision_chunks[-1]
    assert (cut - ended)[last].item() == pytest.approx(3.0 * trainer.config.gamma**took, rel=1e-4)
    assert (cut - ended)[last + 1 :].abs().max() == 0.0


def episode(decisions: list[bool], rewards: list[float]) -> Rollout:
    """Decide at each chunk; a reply takes its own chunk alone."""
    rollout = Rollout(Trace(seed=1, ability="Proactive", num_chunks=len(rewards), cues=(), events=()))
    for chunk, (respond, reward) in enumerate(zip(decisions, rewards, strict=True)):
        tokens = (5,) if respond else ()
        event = StepEvent(0, chunk, "response" if respond else "silent", 0.5, tokens, respond, -0.7, (-1.0,) * respond)
        rollout.add_event(event, torch.zeros(1))
        rollout.add_rewards(reward, 0.0)
        rollout.trace.steps.append(StepRecord(0, (), {"reward": reward}))
    return rollout


def test_group_advantages_by_hand() -> None:
    """Returns to go with gamma 0.5 are [2, 2] and [0, 0]: means [1, 1], differences 1 and -1, of deviation 1."""
    same = [episode([False, True], [1.0, 2.0]), episode([True, False], [0.0, 0.0])]
    torch.testing.assert_close(group_advantages(same, 0.5), torch.tensor([1.0, 1.0, -1.0, -1.0]))
    group = [episode([True, False], [3.0, 2.0]), episode([False, False], [1.0, 0.0])]
    above = torch.tensor([1.5, 1.0, -1.5, -1.0])  # of [4, 2] and [1, 0]
    torch.testing.assert_close(group_advantages(group, 0.5), above / above.square().mean().sqrt())
    assert not group_advantages([group[0], group[0]], 0.5).any()


def test_grpo_compares_episodes_of_one_stream(make: Make) -> None:
    trainer = make(algorithm="grpo", episodes_per_iteration=6, episodes_per_scenario=3)
    batch, rollouts = played(trainer)
    assert [rollout.trace.seed for rollout in rollouts][::3] != [rollouts[0].trace.seed] * 2
    assert all(len({r.trace.seed for r in rollouts[i : i + 3]}) == 1 for i in (0, 3))
    trainer._judge(batch, rollouts)
    taken = batch.action[batch.is_decision].unsqueeze(1)
    assert batch.decision_weight.gather(1, taken).eq(1.0).all()
    assert batch.decision_weight.sum() == len(taken)
    expected = torch.cat([group_advantages(rollouts[:3], 0.95), group_advantages(rollouts[3:], 0.95)])
    torch.testing.assert_close(batch.decision_advantage.gather(1, taken).squeeze(1).cpu(), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "grpo", "episodes_per_scenario": 4, "learning_rate": 1e-2},
        {"objective": "raw_token", "learning_rate": 1e-2},
        {"critic": "hidden"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_each_way_learns_to_keep_silent_where_speaking_costs(
    tokenizer: ReplyTokenizer, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers.credit, "CRITIC_STEPS", 15)
    curve = reinforced(tiny_model(tokenizer), tokenizer, Reward.default(), tmp_path, **{"iterations": 4, **options})
    assert np.mean(curve[-2:]) > curve[0] + 1.0
