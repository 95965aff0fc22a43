"""PPO over streams, on TRL.

Where this departs from TRL's PPO for text: dataset rows are scenario seeds and the reward model is the environment;
rollouts come from the streaming engine; rewards are dense and stand at the token that earned them; time is discounted
by chunks; a stream is played several times and each play judged against the others; and the decision to speak is
optimised as a binary policy of its own, beside the reply tokens, with its own advantages and coefficient, because
optimising timing as raw tokens is known to collapse replies. The KL to the supervised policy is exact over the two
decisions and over the vocabulary. Configuration, accelerator, callbacks, logging and checkpoints are TRL's; `train()`
is ours, since TRL's inlines text generation.

The encoder and projector stay frozen: the policy's hearing is supervised, its timing and words are reinforced.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn
from transformers import GenerationConfig, TrainerControl

from envs.rewards import Reward
from envs.scenario import Scenario
from policies.modeling_lalm import LALM, SequenceBatch
from policies.sequences import collate, lay_out
from policies.tokenizer import ReplyTokenizer
from trainers.config import ReinforcementConfig
from trainers.progress import show_progress
from trainers.rollouts import Rollout, collect, decision_advantages, less_group_mean

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # it warns that PPO is experimental; we pin the release

from trl.experimental.ppo import PPOConfig, PPOTrainer


class EnvironmentReward(nn.Module):
    """The environment in the place of a reward model: scenarios by seed, and the reward they are played under."""

    def __init__(self, scenarios: Callable[[int], Scenario], reward: Reward) -> None:
        super().__init__()
        self.scenarios, self.reward = scenarios, reward


class ValueModel(nn.Module):
    """Values from the trunk's hidden states; the trunk is the policy's and gets no gradient from here.

    So the states of an iteration are computed once, and the values are fitted to them in steps that cost nothing.
    """

    base_model_prefix = "trunk"

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.trunk = nn.Identity()
        last = nn.Linear(128, 1)
        nn.init.zeros_(last.weight)
        self.score = nn.Sequential(nn.Linear(hidden_size, 128), nn.GELU(), last)

        self.optimizer = torch.optim.Adam(self.score.parameters(), 1e-3)
        self.memory: deque[tuple[Tensor, Tensor]] = deque(maxlen=4)  # states and returns of the latest iterations

    def forward(self, hidden: Tensor) -> Tensor:
        """Return values: [..., hidden] -> [...]."""
        return self.score(hidden).squeeze(-1)

    def fit(self, hidden: Tensor, returns: Tensor, steps: int) -> float:
        """Fit the values of cached states, float32 [A, hidden], and those remembered, to returns [A].

        Returns:
            The share of the new returns' variance that was explained before, at most 1.
        """
        with torch.no_grad():
            explained = 1.0 - float(F.mse_loss(self(hidden), returns) / returns.var().clamp_min(1e-6))
        self.memory.append((hidden, returns))
        states, targets = (torch.cat(column) for column in zip(*self.memory, strict=True))
        for _ in range(steps):
            error = F.mse_loss(self(states), targets)
            self.optimizer.zero_grad()
            error.backward()
            self.optimizer.step()
        return explained


@dataclass
class StreamPPOConfig(PPOConfig):
    """TRL's configuration with the coefficients of a policy over streams."""

    decision_coef: float = field(default=1.0, metadata={"help": "Weight of the decision's policy loss."})
    content_coef: float = field(default=0.1, metadata={"help": "Weight of the reply tokens' policy loss."})
    group_size: int = field(default=4, metadata={"help": "How often each stream is played in an iteration."})
    value_steps: int = field(default=40, metadata={"help": "Steps of fitting the values, an iteration."})


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
    advantage: Tensor = field(default_factory=lambda: torch.empty(0))
    reference: tuple[Tensor, Tensor] = field(default_factory=lambda: (torch.empty(0), torch.empty(0)))


def experience(model: LALM, rollouts: Sequence[Rollout]) -> Experience:
    """Lay the rollouts out as one padded batch, action tokens in the rollouts' own order."""
    layout = model.layout
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
        tokens=collate(sequences, counts, layout.audio_tokens_per_chunk),
        audio=torch.cat([e for rollout in rollouts for e in rollout.embeddings]).clone(),
        row=torch.tensor(row),
        at=torch.tensor(at),
        is_decision=torch.tensor([d for rollout in rollouts for d in rollout.is_decision]),
        action=torch.tensor(action),
        log_prob=torch.tensor([p for rollout in rollouts for p in rollout.log_prob]),
    )


class StreamPPOTrainer(PPOTrainer):
    """TRL's PPO trainer whose episodes are streams."""

    args: StreamPPOConfig
    control: TrainerControl
    reward_model: EnvironmentReward
    tokenizer: ReplyTokenizer
    explained = 0.0

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
                [seed for seed in seeds for _ in range(args.group_size)],
                self.reward_model.reward,
                args.seed * 1_000_003 + iteration,
            )
            batch = experience(policy, rollouts)
            self._judge(batch, rollouts)
            statistics = self._update(batch)
            self.lr_scheduler.step()
            self.state.global_step += 1
            self.state.episode += len(rollouts)
            statistics["value/explained"] = self.explained
            self.log({**_summary(rollouts), **statistics, "lr": self.lr_scheduler.get_last_lr()[0]})
            self.control = self.callback_handler.on_step_end(args, self.state, self.control)
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)

    def _seed_batches(self) -> Any:
        while True:
            for batch in self.dataloader:
                yield batch["seed"].tolist()

    def _judge(self, batch: Experience, rollouts: Sequence[Rollout]) -> None:
        """Add advantages and the reference policy's probabilities; then fit the values to what was earned."""
        args, model = self.args, self.accelerator.unwrap_model(self.model)
        with torch.no_grad():
            hidden = model.policy.hidden_states(batch.tokens, batch.audio)
            reference = self.ref_model.hidden_states(batch.tokens, batch.audio)[batch.row, batch.at]
            batch.reference = (
                self.ref_model.decision_log_probs(reference[batch.is_decision]),
                self.ref_model.content_log_probs(reference[~batch.is_decision]),
            )
            states = hidden[batch.row, batch.at][batch.is_decision]
            values = model.value_model(states)
        chunks = [rollout.decision_chunks for rollout in rollouts]
        raw = []
        for index, (rollout, own) in enumerate(zip(rollouts, values.split([len(c) for c in chunks]), strict=True)):
            last = 0.0
            if rollout.truncated:
                heard = int((batch.tokens.audio_index[index] >= 0).nonzero().max())
                last = float(model.value_model(hidden[index, heard + 1]))
            rewards, taken = rollout.decision_rewards, torch.tensor(chunks[index])
            raw.append(decision_advantages(rewards, own, taken, last, args.gamma, args.lam))
        decisions = torch.cat(less_group_mean([rollout.trace.seed for rollout in rollouts], chunks, raw))
        texts = torch.tensor([reward for rollout in rollouts for reward in rollout.text_reward])
        batch.advantage = torch.zeros(len(batch.is_decision))
        batch.advantage[batch.is_decision] = _whitened(decisions)
        batch.advantage[~batch.is_decision] = _whitened(texts[~batch.is_decision])
        self.explained = model.value_model.fit(states, torch.cat(raw) + values, args.value_steps)

    def _update(self, batch: Experience) -> dict[str, float]:
        """Make several epochs of minibatches of episodes; return mean statistics."""
        args, episodes = self.args, len(batch.tokens.ids)
        order = np.random.default_rng([args.seed, self.state.global_step])
        history: list[dict[str, float]] = []
        for _ in range(args.num_ppo_epochs):
            for chosen in np.array_split(order.permutation(episodes), args.num_mini_batches):
                loss, statistics = self._loss(batch, torch.from_numpy(np.sort(chosen)))
                self.optimizer.zero_grad()
                self.accelerator.backward(loss)
                self.accelerator.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
                self.optimizer.step()
                history.append(statistics)
        return {key: float(np.mean([h[key] for h in history])) for key in history[0]}

    def _loss(self, batch: Experience, chosen: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the clipped PPO loss on some episodes, with its parts."""
        args, model = self.args, self.accelerator.unwrap_model(self.model)
        new_row = torch.full((len(batch.tokens.ids),), -1)
        new_row[chosen] = torch.arange(len(chosen))
        taken = new_row[batch.row] >= 0
        tokens = SequenceBatch(
            batch.tokens.ids[chosen],
            batch.tokens.audio_index[chosen],
            batch.tokens.position[chosen],
            batch.tokens.mask[chosen],
        )
        hidden = model.policy.hidden_states(tokens, batch.audio)[new_row[batch.row[taken]], batch.at[taken]]
        loss = hidden.sum() * 0.0
        statistics: dict[str, float] = {}
        heads = (
            ("decision", batch.is_decision, model.policy.decision_log_probs, args.decision_coef, 0),
            ("content", ~batch.is_decision, model.policy.content_log_probs, args.content_coef, 1),
        )
        for name, kind, head, coefficient, which in heads:
            rows = taken & kind
            if not rows.any():
                statistics |= {f"loss/{name}": 0.0, f"kl/{name}": 0.0, f"clipped/{name}": 0.0}
                continue
            log_probs = head(hidden[kind[taken]])  # [A, choices]
            reference = batch.reference[which][taken[kind]]
            chosen_log_prob = log_probs.gather(1, batch.action[rows].unsqueeze(1)).squeeze(1)
            ratio = (chosen_log_prob - batch.log_prob[rows]).exp()
            advantage = batch.advantage[rows]
            clipped = ratio.clamp(1 - args.cliprange, 1 + args.cliprange)
            policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
            finite = log_probs > -torch.inf  # a token that cannot be spoken has no part in the divergence
            difference = torch.where(finite, log_probs - reference, 0.0)
            kl = (log_probs.exp() * difference).sum(-1).mean()
            loss = loss + coefficient * policy_loss + args.kl_coef * kl
            statistics |= {
                f"loss/{name}": policy_loss.item(),
                f"kl/{name}": kl.item(),
                f"clipped/{name}": (ratio != clipped).float().mean().item(),
            }
        return loss, statistics


def _whitened(advantage: Tensor) -> Tensor:
    """Return advantages of mean 0 and deviation 1: each of the two policies by itself."""
    if len(advantage) < 2:
        return advantage
    return (advantage - advantage.mean()) / (advantage.std() + 1e-6)


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
    """Return AdamW over the decision's head and, more slowly, the language model."""
    trunk = [parameter for module in (model.text_model, model.lm_head) for parameter in module.parameters()]
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
        per_device_train_batch_size=config.episodes_per_iteration // config.group_size,
        gradient_accumulation_steps=1,
        num_mini_batches=config.minibatches,
        num_ppo_epochs=config.epochs,
        total_episodes=config.iterations * config.episodes_per_iteration // config.group_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        gamma=config.gamma,
        lam=config.gae_lambda,
        cliprange=config.clip,
        kl_coef=config.kl_coef,
        decision_coef=config.decision_coef,
        content_coef=config.content_coef,
        group_size=config.group_size,
        num_sample_generations=0,
        report_to=["tensorboard"],
        save_strategy="no",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
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
        value_model=ValueModel(model.text_model.config.hidden_size),
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
