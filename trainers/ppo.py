"""PPO over streams, on TRL.

Where this departs from TRL's PPO for text: dataset rows are scenario seeds and the reward model is the environment;
rollouts come from the streaming engine; rewards are dense and stand at the token that earned them; time is discounted
by chunks; and the decision to speak is optimised as a binary policy of its own, beside the reply tokens, with its own
advantages and coefficient, because optimising timing as raw tokens is known to collapse replies. The KL to the
supervised policy is exact over the two decisions and over the vocabulary. Configuration, accelerator, callbacks,
logging and checkpoints are TRL's; `train()` is ours, since TRL's inlines text generation.

A reply is rare and an early one rarer, so the decision's loss counts both choices at every decision (an all-action
policy gradient, Allen et al. 2017): the one taken has its generalised advantage, the other the critic's estimate. And
the ratio may grow further than it may fall: 0.02 grows by a fifth at a time to 0.25 in 14 steps, by twice in 4.

The encoder and projector stay frozen: the policy's hearing is supervised, its timing and words are reinforced.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import GenerationConfig, TrainerControl

from envs.rewards import Reward
from envs.scenario import Scenario
from policies.modeling_lalm import LALM, SequenceBatch
from policies.sequences import collate, lay_out
from policies.tokenizer import ReplyTokenizer
from trainers.config import ReinforcementConfig
from trainers.critic import Critic, situation
from trainers.progress import show_progress
from trainers.rollouts import Rollout, collect, content_advantages, decision_advantages

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # it warns that PPO is experimental; we pin the release

from trl.experimental.ppo import PPOConfig, PPOTrainer


class EnvironmentReward(nn.Module):
    """The environment in the place of a reward model: scenarios by seed, and the reward they are played under."""

    def __init__(self, scenarios: Callable[[int], Scenario], reward: Reward) -> None:
        super().__init__()
        self.scenarios, self.reward = scenarios, reward


@dataclass
class StreamPPOConfig(PPOConfig):
    """TRL's configuration with the coefficients of a policy over streams."""

    decision_coef: float = field(default=1.0, metadata={"help": "Weight of the decision's policy loss."})
    content_coef: float = field(default=0.1, metadata={"help": "Weight of the reply tokens' policy loss."})
    decision_clip_high: float = field(default=1.0, metadata={"help": "How far a decision's ratio may grow beyond 1."})
    critic_steps: int = field(default=100, metadata={"help": "Steps of fitting the critic, an iteration."})


@dataclass
class Experience:
    """Rollouts as tensors. `at` arrays index (episode, position that predicts an action token)."""

    tokens: SequenceBatch
    audio: Tensor  # float32 [rows, hidden]
    row: Tensor  # int64 [A] episode of each action token
    at: Tensor  # int64 [A] position whose hidden state predicts it
    is_decision: Tensor  # bool [A]
    action: Tensor  # int64 [A]: 1 or 0 for a decision, the token id for content
    log_prob: Tensor  # float32 [A] as sampled
    decision_policy: Tensor  # float32 [D, 2] probabilities that decisions were sampled with
    decision_advantage: Tensor = field(default_factory=lambda: torch.empty(0))  # float32 [D, 2] of both choices
    content_advantage: Tensor = field(default_factory=lambda: torch.empty(0))  # float32 [A - D]
    reference: tuple[Tensor, Tensor] = field(default_factory=lambda: (torch.empty(0), torch.empty(0)))


def experience(model: LALM, rollouts: Sequence[Rollout]) -> Experience:
    """Lay the rollouts out as one padded batch on the model's device, action tokens in the rollouts' own order."""
    layout, device = model.layout, model.device
    sequences = [lay_out(layout, rollout.turns) for rollout in rollouts]
    counts = [len(rollout.embeddings) for rollout in rollouts]
    row, at, action = [], [], []
    for index, (rollout, sequence) in enumerate(zip(rollouts, sequences, strict=True)):
        decisions, contents = iter(sequence.decisions), iter(sequence.contents)
        for is_decision in rollout.is_decision:
            position = next(decisions if is_decision else contents)
            token = sequence.columns.ids[position]
            row.append(index)
            at.append(position - 1)
            action.append(int(token == layout.response) if is_decision else token)
    return Experience(
        tokens=collate(sequences, counts, layout.audio_tokens_per_chunk).to(device),
        audio=torch.cat([e for rollout in rollouts for e in rollout.embeddings]).clone(),
        row=torch.tensor(row, device=device),
        at=torch.tensor(at, device=device),
        is_decision=torch.tensor([d for rollout in rollouts for d in rollout.is_decision], device=device),
        action=torch.tensor(action, device=device),
        log_prob=torch.tensor([p for rollout in rollouts for p in rollout.log_prob], device=device),
        decision_policy=torch.tensor(
            [[1.0 - p, p] for rollout in rollouts for p in rollout.probability], device=device
        ),
    )


class StreamPPOTrainer(PPOTrainer):
    """TRL's PPO trainer whose episodes are streams."""

    args: StreamPPOConfig
    control: TrainerControl
    reward_model: EnvironmentReward
    tokenizer: ReplyTokenizer

    def train(self) -> None:
        """Alternate rollouts and updates until all batches of scenario seeds were played."""
        args, policy = self.args, self.accelerator.unwrap_model(self.model).policy
        batches = iter(self._seed_batches())
        self.state.max_steps = args.num_total_batches
        self.state.num_train_epochs = args.num_ppo_epochs
        self.state.logging_steps, self.state.eval_steps, self.state.save_steps = 1, 0, 0
        self.control = self.callback_handler.on_train_begin(args, self.state, self.control)
        for iteration in range(args.num_total_batches):
            seeds = next(batches)
            policy.eval()
            rollouts = collect(
                policy,
                self.tokenizer,
                self.reward_model.scenarios,
                seeds,
                self.reward_model.reward,
                args.seed * 1_000_003 + iteration,
            )
            batch = experience(policy, rollouts)
            explained = self._judge(batch, rollouts)
            statistics = self._update(batch)
            self.lr_scheduler.step()
            self.state.global_step += 1
            self.state.episode += len(rollouts)
            statistics["critic/explained"] = explained
            self.log({**_summary(rollouts), **statistics, "lr": self.lr_scheduler.get_last_lr()[0]})
            self.control = self.callback_handler.on_step_end(args, self.state, self.control)
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)

    def _seed_batches(self) -> Any:
        while True:
            for batch in self.dataloader:
                yield batch["seed"].tolist()

    def _judge(self, batch: Experience, rollouts: Sequence[Rollout]) -> float:
        """Add advantages and the reference policy's probabilities, and fit the critic to what was earned.

        Returns:
            The share of the returns' variance that the critic knew before it saw them, at most 1; in the first
            iteration after it saw them, since before that it knows nothing.
        """
        args, wrapped = self.args, self.accelerator.unwrap_model(self.model)
        policy, critic = wrapped.policy, wrapped.value_model
        with torch.no_grad():
            reference = self.ref_model.hidden_states(batch.tokens, batch.audio)[batch.row, batch.at]
            batch.reference = (
                self.ref_model.decision_log_probs(reference[batch.is_decision]),
                self.ref_model.content_log_probs(reference[~batch.is_decision]),
            )
        known = torch.cat([situation(r.trace, r.decision_chunks, r.probability, args.gamma) for r in rollouts])
        taken, sampled = batch.action[batch.is_decision].cpu(), batch.decision_policy.cpu()
        if self.state.global_step == 0:  # it knows nothing yet: what was earned to the end is all there is
            critic.fit(known, taken, self._returns(rollouts, torch.zeros(len(taken)), 1.0), 4 * args.critic_steps)
            critic.memory.clear()  # from now on these returns count with the critic's values in them
        with torch.no_grad():
            worth = critic(known)
        values = (worth * sampled).sum(-1)
        returns = self._returns(rollouts, values, args.lam)
        advantage = worth - values.unsqueeze(1)
        advantage.scatter_(1, taken.unsqueeze(1), (returns - values).unsqueeze(1))
        scale = (sampled * advantage.square()).sum(-1).mean().sqrt()
        batch.decision_advantage = (advantage / (scale + 1e-6)).to(policy.device)
        batch.content_advantage = content_advantages(rollouts, policy.config.max_reply_tokens).to(policy.device)
        error = returns - worth.gather(1, taken.unsqueeze(1)).squeeze(1)
        critic.fit(known, taken, returns, args.critic_steps)
        return 1.0 - float(error.var() / returns.var().clamp_min(1e-6))

    def _returns(self, rollouts: Sequence[Rollout], values: Tensor, gae_lambda: float) -> Tensor:
        """Return the lambda-returns of all decisions, float32 [D]: advantages plus values [D]."""
        gamma, result = self.args.gamma, []
        critic = self.accelerator.unwrap_model(self.model).value_model
        own_values = values.split([len(rollout.decision_chunks) for rollout in rollouts])
        for rollout, own in zip(rollouts, own_values, strict=True):
            trace, last = rollout.trace, 0.0
            if rollout.truncated:
                last = critic.value_of_cut(trace, len(trace.steps), rollout.probability[-1], gamma)
            rewards, chunks = rollout.decision_rewards, torch.tensor(rollout.decision_chunks)
            result.append(own + decision_advantages(rewards, own, chunks, last, gamma, gae_lambda))
        return torch.cat(result)

    def _update(self, batch: Experience) -> dict[str, float]:
        """Make several epochs of minibatches of episodes; return mean statistics."""
        args, episodes = self.args, len(batch.tokens.ids)
        policy = self.accelerator.unwrap_model(self.model).policy
        policy.train(policy.text_model.gradient_checkpointing)  # which needs it; else the policy stays as it sampled
        order = np.random.default_rng([args.seed, self.state.global_step])
        history: list[dict[str, float]] = []
        for _ in range(args.num_ppo_epochs):
            for chosen in np.array_split(order.permutation(episodes), args.num_mini_batches):
                loss, statistics = self._loss(batch, torch.from_numpy(np.sort(chosen)).to(batch.row.device))
                self.optimizer.zero_grad()
                self.accelerator.backward(loss)
                self.accelerator.clip_grad_norm_(policy.parameters(), args.max_grad_norm)  # not the critic's
                self.optimizer.step()
                history.append(statistics)
        return {key: float(np.mean([h[key] for h in history])) for key in history[0]}

    def _loss(self, batch: Experience, chosen: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the clipped PPO loss on some episodes, with its parts."""
        args, model = self.args, self.accelerator.unwrap_model(self.model)
        new_row = torch.full((len(batch.tokens.ids),), -1, device=chosen.device)
        new_row[chosen] = torch.arange(len(chosen), device=chosen.device)
        taken = new_row[batch.row] >= 0
        tokens = SequenceBatch(
            batch.tokens.ids[chosen],
            batch.tokens.audio_index[chosen],
            batch.tokens.position[chosen],
            batch.tokens.mask[chosen],
        )
        hidden = model.policy.hidden_states(tokens, batch.audio)[new_row[batch.row[taken]], batch.at[taken]]
        decided, said = batch.is_decision[taken], taken[~batch.is_decision]
        parts = {"decision": self._decision_loss(model.policy, hidden[decided], batch, taken[batch.is_decision])}
        if said.any():
            parts["content"] = self._content_loss(model.policy, hidden[~decided], batch, taken)
        loss = hidden.sum() * 0.0
        statistics = {f"{name}/{which}": 0.0 for which in ("decision", "content") for name in ("loss", "kl", "clipped")}
        for name, (policy_loss, kl, clipped) in parts.items():
            coefficient = args.decision_coef if name == "decision" else args.content_coef
            loss = loss + coefficient * policy_loss + args.kl_coef * kl
            statistics |= {
                f"loss/{name}": policy_loss.item(),
                f"kl/{name}": kl.item(),
                f"clipped/{name}": clipped.item(),
            }
        return loss, statistics

    def _decision_loss(
        self, policy: LALM, hidden: Tensor, batch: Experience, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the clipped loss over both choices, the KL and the share clipped; `rows`: bool over decisions [D]."""
        log_probs = policy.decision_log_probs(hidden)
        gain, clipped = all_action_gain(
            log_probs,
            batch.decision_policy[rows],
            batch.decision_advantage[rows],
            self.args.cliprange,
            self.args.decision_clip_high,
        )
        taken = batch.action[batch.is_decision][rows].unsqueeze(1)
        return -gain.mean(), _kl(log_probs, batch.reference[0][rows]), clipped.float().gather(1, taken).mean()

    def _content_loss(
        self, policy: LALM, hidden: Tensor, batch: Experience, taken: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the clipped loss of reply tokens, the KL and the share clipped; `taken`: bool over actions [A]."""
        log_probs = policy.content_log_probs(hidden)
        rows, of_content = taken & ~batch.is_decision, taken[~batch.is_decision]
        ratio = (log_probs.gather(1, batch.action[rows].unsqueeze(1)).squeeze(1) - batch.log_prob[rows]).exp()
        clip = self.args.cliprange
        gain, clipped = _clipped_gain(ratio, batch.content_advantage[of_content], clip, clip)
        return -gain.mean(), _kl(log_probs, batch.reference[1][of_content]), clipped.float().mean()


def all_action_gain(
    log_probs: Tensor, sampled: Tensor, advantage: Tensor, clip: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped gain of decisions, summed over the choices as the sampling policy weighs them.

    Args:
        log_probs: float32 [D, choices] of the policy being trained.
        sampled: float32 [D, choices], probabilities of the policy that sampled.
        advantage: float32 [D, choices].
        clip: How far a ratio may fall below 1.
        clip_high: How far it may grow beyond 1.

    Returns:
        The gain, float32 [D], and which ratios were clipped, bool [D, choices].
    """
    ratio = log_probs.exp() / sampled.clamp_min(1e-8)
    gain, clipped = _clipped_gain(ratio, advantage, clip, clip_high)
    return (sampled * gain).sum(-1), clipped


def _clipped_gain(ratio: Tensor, advantage: Tensor, clip: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """Return PPO's pessimistic gain (Schulman et al. 2017, eq. 7) and which ratios were clipped; shapes stay."""
    clipped = ratio.clamp(1 - clip, 1 + clip_high)
    return torch.minimum(ratio * advantage, clipped * advantage), ratio != clipped


def _kl(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Return the mean divergence of [A, choices] from the reference; what cannot be chosen has no part in it."""
    difference = torch.where(log_probs > -torch.inf, log_probs - reference, 0.0)
    return (log_probs.exp() * difference).sum(-1).mean()


def _summary(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Return what the batch earned: total and by component, replies and their length."""
    traces = [rollout.trace for rollout in rollouts]
    names = traces[0].steps[0].rewards
    replies = [reply for trace in traces for reply in trace.replies]
    result = {"reward/total": float(np.mean([trace.total_reward for trace in traces]))}
    for name in names:
        result[f"reward/{name}"] = float(np.mean([sum(s.rewards[name] for s in t.steps) for t in traces]))
    result["replies/count"] = len(replies) / len(traces)
    result["replies/tokens"] = float(np.mean([r.num_tokens for r in replies])) if replies else 0.0
    return result


def _optimizer(model: LALM, config: ReinforcementConfig) -> torch.optim.Optimizer:
    """Return AdamW over the decision's head and, more slowly, what may be trained of the language model."""
    modules = (model.text_model, model.lm_head)
    trunk = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": list(model.decision_head.parameters()), "lr": config.decision_learning_rate},
            {"params": list(dict.fromkeys(trunk)), "lr": config.learning_rate},  # the head's weight is tied
        ],
        weight_decay=0.0,
    )


def _collate_seeds(rows: Sequence[dict[str, int]]) -> dict[str, Tensor]:
    return {"seed": torch.tensor([row["seed"] for row in rows])}


def train_ppo(
    model: LALM,
    tokenizer: ReplyTokenizer,
    scenarios: Callable[[int], Scenario],
    seeds: Sequence[int],
    reward: Reward,
    config: ReinforcementConfig,
    out: Path,
    seed: int,
) -> list[tuple[int, float]]:
    """Reinforce a supervised policy in place; return the curve of (episodes, mean reward of sampled rollouts)."""
    for parameter in (*model.encoder.parameters(), *model.projector.parameters()):
        parameter.requires_grad_(False)
    model.generation_config = GenerationConfig()  # TRL writes its stop token there
    arguments = StreamPPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=config.episodes_per_iteration,
        gradient_accumulation_steps=1,
        num_mini_batches=config.minibatches,
        num_ppo_epochs=config.epochs,
        total_episodes=config.iterations * config.episodes_per_iteration,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        gamma=config.gamma,
        lam=config.gae_lambda,
        cliprange=config.clip,
        kl_coef=config.kl_coef,
        decision_coef=config.decision_coef,
        content_coef=config.content_coef,
        decision_clip_high=config.decision_clip_high,
        num_sample_generations=0,
        report_to=["tensorboard"],
        save_strategy="no",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=model.device.type == "cpu",
        seed=seed,
    )
    rows = Dataset.from_dict({"seed": list(seeds)})
    trainer = StreamPPOTrainer(
        args=arguments,
        processing_class=tokenizer.hf,
        model=model,
        ref_model=None,
        reward_model=EnvironmentReward(scenarios, reward),
        train_dataset=rows,
        eval_dataset=rows.select(range(min(1, len(rows)))),
        value_model=Critic(),
        data_collator=_collate_seeds,
        optimizers=(_optimizer(model, config), None),
    )
    trainer.tokenizer = tokenizer
    show_progress(trainer, "reward/total")
    trainer.train()
    model.eval()
    return [
        ((i + 1) * config.episodes_per_iteration, entry["reward/total"])
        for i, entry in enumerate(e for e in trainer.state.log_history if "reward/total" in e)
    ]
