"""PPO and GRPO over streams, on TRL.

Where this departs from TRL's PPO for text: dataset rows are scenario seeds and the reward model is the environment;
rollouts come from the streaming engine; rewards are dense and stand at the token that earned them; time is discounted
by chunks; and the decision to speak is optimised as a binary policy of its own, beside the reply tokens, with its own
advantages and coefficient: timing optimised as raw tokens gains half as much (docs/experiments.md). The KL to the
supervised policy is exact over the two decisions and over the vocabulary. Configuration, accelerator, callbacks and
logging are TRL's; `train()` is ours, since TRL's inlines text generation and cannot go on after a kill.

The encoder and projector stay frozen: the policy's hearing is supervised, its timing and words are reinforced. Who
deserves credit is said in trainers/credit.py, the loss in trainers/ppo_loss.py, and what a run that was killed goes on
from in trainers/ppo_state.py.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import GenerationConfig, TrainerControl
from transformers.integrations import TensorBoardCallback

from envs.errors import ConfigError, PolicyError
from envs.rewards import Reward
from envs.rewards.bill import Bill, add_bills, sum_bills
from policies.lora import add_lora, has_lora, merge_lora
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from trainers.config import ReinforcementConfig
from trainers.credit import make_credit
from trainers.critic import SITUATION_SIZE, Critic
from trainers.experience import Experience, experience
from trainers.kl_controller import KLController
from trainers.learners import Learners, learning_device, repeatable_kernels
from trainers.ppo_loss import RAW, SPLIT, PPOLoss
from trainers.ppo_parameters import make_optimizer, train_only_what_is_asked
from trainers.ppo_state import identity, restore_newest, save_run
from trainers.ppo_summary import Reinforced, Stopwatch, mean_kl, reinforced, summary
from trainers.progress import progress
from trainers.reference import AdaptersOff, hold_to_reference
from trainers.rollout_workers import Player, RolloutWorkers, make_workers
from trainers.rollouts import Rollout
from trainers.scenes import ScenariosAt
from trainers.sharding import ReplicatedPolicy, ShardedPolicy

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # it warns that PPO is experimental; we pin the release

from trl.experimental.ppo import PPOConfig, PPOTrainer


class EnvironmentReward(nn.Module):
    """The environment in the place of a reward model: scenarios by progress and seed, and what they earn."""

    def __init__(self, scenarios: ScenariosAt, reward: Reward) -> None:
        super().__init__()
        self.scenarios, self.reward = scenarios, reward


class StreamPPOTrainer(PPOTrainer):
    """TRL's PPO trainer whose episodes are streams.

    Args:
        config: What is optimised, and how.
        tokenizer: Of the policy.
        model: The policy; its adapters are fresh, where `config` asks for some.
        checkpoints: Where the run's state is kept after iterations, and looked for first; None: nowhere.
        checkpoint_every: Iterations.
        trl: What TRL's trainer takes.
    """

    args: PPOConfig
    control: TrainerControl
    reward_model: EnvironmentReward

    def __init__(
        self,
        config: ReinforcementConfig,
        tokenizer: ReplyTokenizer,
        model: LALM,
        checkpoints: Path | None,
        checkpoint_every: int,
        **trl: Any,
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.checkpoints, self.checkpoint_every = checkpoints, checkpoint_every
        if checkpoints is not None:
            reward, seeds = trl["reward_model"].reward, trl["train_dataset"]["seed"]
            self.identity = identity(model, config, trl["args"].seed, seeds, reward)
        if config.lora_rank:
            add_lora(model, config.lora_rank)
        train_only_what_is_asked(model, config)
        self.learners = Learners()
        self.trained = (ShardedPolicy if config.fsdp else ReplicatedPolicy)(model, self.learners)
        critic = Critic(model.text_model.config.hidden_size if config.critic == "hidden" else SITUATION_SIZE)
        super().__init__(
            model=model,
            ref_model=AdaptersOff(model) if config.lora_rank else None,
            value_model=critic,
            processing_class=tokenizer.hf,
            optimizers=(make_optimizer(self.trained.policy, config), None),
            **trl,
        )
        # Not Accelerate's, which deals batches out by process: all know all seeds, and draw them as one process does.
        self.dataloader = DataLoader(
            self.train_dataset,
            batch_size=config.scenarios_per_iteration,
            shuffle=True,
            collate_fn=self.data_collator,
            drop_last=True,
        )
        torch.manual_seed(self.args.seed)  # TRL's differs by process; what they all draw has to be the same
        if config.episodes_per_iteration < self.learners.count:
            raise ConfigError(
                f"ppo.episodes_per_iteration is {config.episodes_per_iteration}, expected at least one for each of the"
                f" {self.learners.count} processes; start fewer, or play more"
            )
        self.kl = KLController(SPLIT if config.objective == "split" else RAW, config.kl_coef, config.kl_target)
        self.loss = PPOLoss(config, self.kl)
        self.credit = make_credit(config, critic, model.config.max_reply_tokens)
        self.ahead: list[list[int]] = []  # the epoch's batches of scenario seeds that are still to be gathered
        self.requested = False  # whether the first of them is being played

    @property
    def policy(self) -> LALM:
        """What plays, whole; what learns is `trained`."""
        return self.accelerator.unwrap_model(self.model).policy

    @property
    def critic(self) -> Critic:
        """Fitted in training, and of no use after it."""
        return self.accelerator.unwrap_model(self.model).value_model

    def train(self) -> None:
        """Alternate rollouts and updates until all batches of scenario seeds were played.

        Raises:
            ConfigError: when there are checkpoints of another run.
        """
        args = self.args
        self.state.max_steps = args.num_total_batches
        self.state.num_train_epochs = args.num_ppo_epochs
        self.state.logging_steps, self.state.eval_steps, self.state.save_steps = 1, 0, 0
        if self.checkpoints is not None:
            restore_newest(self, self.checkpoints)
        self.trained.gather(self.policy)
        self.workers = self._make_workers()
        self.workers.put(self.policy.state_dict())
        board = self._open_board()
        self.control = self.callback_handler.on_train_begin(args, self.state, self.control)
        try:
            for iteration in range(self.state.global_step, args.num_total_batches):
                self._iterate(iteration)
                due = self.state.global_step % self.checkpoint_every == 0
                if self.checkpoints is not None and due:
                    save_run(self, self.checkpoints, self._others_bills())
                self.control = self.callback_handler.on_step_end(args, self.state, self.control)
            add_bills(self.reward_model.reward.bills, self._others_bills())
        finally:
            self.workers.close()
            if board is not None:
                board.close()
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)

    def _open_board(self) -> SummaryWriter | None:
        """Log to TensorBoard from here on; what a killed run logged after its checkpoint is hidden."""
        if not self.learners.is_main:
            return None
        step = self.state.global_step
        board = SummaryWriter(self.args.output_dir, purge_step=step + 1 if step else None)
        self.add_callback(TensorBoardCallback(board))
        return board

    def _others_bills(self) -> dict[str, Bill]:
        """Return what scoring has cost in the processes that play for this one, and in all but the main one."""
        own = [self.workers.bills()] + ([] if self.learners.is_main else [self.reward_model.reward.bills])
        return sum_bills(self.learners.gather(own))

    def _make_workers(self) -> RolloutWorkers:
        """Return what plays this process's episodes: the process itself with its policy, or Ray actors."""
        world, limit = self.reward_model, self.config.episode_chunks
        player = Player(self.policy, self.tokenizer, world.scenarios, world.reward, limit)
        return make_workers(player, self.config, len(self.learners.share(self.config.episodes_per_iteration)))

    def _iterate(self, iteration: int) -> None:
        watch = Stopwatch()
        self.policy.eval()
        last = iteration + 1 == self.config.iterations
        with self.trained.present(self.policy, self.ref_model):
            with watch("rollouts"):
                if not self.requested:
                    self._request(iteration)
                version, already = self.workers.version, self.workers.redone
                played = self.workers.gather()
                self.requested = False
                self.ahead.pop(0)
            with watch("judge"):
                rollouts = [one.rollout for one in played]
                batch = experience(self.policy, rollouts)
                everyones = self.learners.gather([replace(rollout, embeddings=[]) for rollout in rollouts])
                judged = self._judge(batch, everyones)
            if self.config.max_staleness and not last:
                with watch("rollouts"):  # where this process plays, they are played now
                    self._request(iteration + 1)
        with watch("update"):
            statistics = self._update(batch)
            self.trained.gather(self.policy)
        if not last:
            self.workers.put(self.policy.state_dict())
        self.lr_scheduler.step()
        self.state.global_step += 1
        self.state.episode += len(everyones)
        behind = {"rollouts/staleness": float(np.mean([version - one.version for one in played]))}
        again = self.learners.add({"rollouts/redone": float(self.workers.redone - already)})
        rate = {"lr": self.lr_scheduler.get_last_lr()[0]}
        self.log({**summary(everyones), **statistics, **judged, **behind, **again, **rate, **watch.summary()})

    def _request(self, iteration: int) -> None:
        """Have this process's share of an iteration's episodes played; each draws as if all were played by one."""
        seeds = self._next_seeds()
        own = self.learners.share(len(seeds))
        sampling_seed = self.args.seed * 1_000_003 + iteration
        self.workers.request(seeds[own.start : own.stop], sampling_seed, own.start, iteration / self.config.iterations)
        self.requested = True

    def _next_seeds(self) -> list[int]:
        """Return the seeds of the episodes to be gathered next; a group's stand together."""
        if not self.ahead:
            self.ahead = [batch["seed"].tolist() for batch in self.dataloader]
        repeats = self.config.episodes_per_iteration // self.config.scenarios_per_iteration
        return [seed for seed in self.ahead[0] for _ in range(repeats)]

    @repeatable_kernels()
    def _judge(self, batch: Experience, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Add advantages and the reference policy's probabilities; return what is to be logged.

        Args:
            batch: This process's episodes.
            rollouts: Those of all processes: each compares with the same mean, and fits the same critic.
        """
        reference = hold_to_reference(batch, self.policy, self.ref_model, self.config)
        frozen = None
        if self.config.algorithm == "ppo" and self.config.critic == "hidden":
            frozen = torch.cat(self.learners.gather([reference[batch.is_decision].cpu()]))
        found, logged = self.credit.assign(rollouts, frozen, self.state.global_step == 0)
        self.learners.copy_from_main(self.critic.parameters())  # on GPUs the last bits of sums may differ
        mine, device = found.of(rollouts, self.learners.share(len(rollouts))), batch.row.device
        batch.decision_weight = mine.decision_weight.to(device)
        batch.decision_advantage = mine.decision.to(device)
        batch.content_advantage, batch.raw_advantage = mine.content.to(device), mine.raw.to(device)
        return logged

    @repeatable_kernels()
    def _update(self, batch: Experience) -> dict[str, float]:
        """Make several epochs of minibatches of episodes; return mean statistics.

        The minibatches are those of one process; of each, a process learns from the episodes that it played.
        """
        args, policy = self.args, self.trained.policy
        policy.train(policy.text_model.gradient_checkpointing)  # which needs it; else the policy stays as it sampled
        order = np.random.default_rng([args.seed, self.state.global_step])
        own = self.learners.share(self.config.episodes_per_iteration)
        history: list[Counter[str]] = []
        for _ in range(args.num_ppo_epochs):
            for chosen in np.array_split(
                order.permutation(self.config.episodes_per_iteration), self.config.minibatches
            ):
                here = np.sort([episode - own.start for episode in chosen if episode in own]).astype(np.int64)
                history.append(self._step(batch, torch.from_numpy(here).to(batch.row.device)))
        coefficients = {f"kl_coef/{part}": value for part, value in self.kl.coefficients.items()}
        self.kl.update({part: kl for part in self.loss.names if (kl := mean_kl(history, part)) is not None})
        return {key: float(np.mean([h[key] for h in history])) for key in history[0]} | coefficients

    def _step(self, batch: Experience, minibatch: Tensor) -> Counter[str]:
        """Make one update from a minibatch, of which this process has these episodes; return its statistics."""
        counts = self.learners.add(batch.counts(minibatch))
        self.optimizer.zero_grad()
        statistics = Counter(self.loss.no_statistics)
        pieces = list(batch.pieces(self.config.tokens_per_minibatch, minibatch))
        for piece, factor in self.trained.passes(pieces, batch.shortest):
            of = counts if factor else batch.counts(piece)  # a spare one may have words where the minibatch has none
            loss, own = self.trained.compute(self.loss, batch, piece, of)
            self.accelerator.backward(loss * factor)
            statistics.update(own if factor else {})
        self.trained.add_gradients()
        self.accelerator.clip_grad_norm_(self.trained.policy.parameters(), self.args.max_grad_norm)  # not the critic's
        self.optimizer.step()
        return Counter(self.learners.add(statistics))


def make_trainer(
    model: LALM,
    tokenizer: ReplyTokenizer,
    scenarios: ScenariosAt,
    seeds: Sequence[int],
    reward: Reward,
    config: ReinforcementConfig,
    out: Path,
    seed: int,
    checkpoints: Path | None = None,
    checkpoint_every: int = 1,
) -> StreamPPOTrainer:
    """Return the trainer of `train_ppo`; the model is where it learns then, as sharp as asked for, with its adapters.

    Raises:
        PolicyError: when adapters are asked for and there are some.
    """
    if config.lora_rank and has_lora(model):
        raise PolicyError("the model has adapters, and ppo.lora_rank asks for new ones; call merge_lora(model) first")
    model.to(learning_device())
    model.sharpen_decision(config.decision_sharpness)
    model.generation_config = GenerationConfig()  # TRL writes its stop token there
    arguments = PPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=config.scenarios_per_iteration,
        gradient_accumulation_steps=1,
        num_mini_batches=1,  # of scenarios: ours are of episodes
        num_ppo_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        gamma=config.gamma,
        lam=config.gae_lambda,
        cliprange=config.clip,
        kl_coef=config.kl_coef,
        num_sample_generations=0,
        report_to=[],  # which would make a folder of its own for every start
        save_strategy="no",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=model.device.type == "cpu",
        seed=seed,
    )
    # TRL's count; a batch of its is as much for each process, of which we make no use
    arguments.total_episodes = config.iterations * config.scenarios_per_iteration * Learners().count
    rows = Dataset.from_dict({"seed": list(seeds)})
    return StreamPPOTrainer(
        config,
        tokenizer,
        model,
        checkpoints,
        checkpoint_every,
        args=arguments,
        reward_model=EnvironmentReward(scenarios, reward),
        train_dataset=rows,
        eval_dataset=rows.select(range(min(1, len(rows)))),
        data_collator=lambda rows: {"seed": torch.tensor([row["seed"] for row in rows])},
    )


def train_ppo(
    model: LALM,
    tokenizer: ReplyTokenizer,
    scenarios: ScenariosAt,
    seeds: Sequence[int],
    reward: Reward,
    config: ReinforcementConfig,
    out: Path,
    seed: int,
    checkpoints: Path | None = None,
    checkpoint_every: int = 1,
) -> Reinforced:
    """Reinforce a supervised policy in place; return what its rollouts earned, and what they cost.

    Args:
        model: The policy; it is moved to this process's GPU where there is one, and everything with it. Adapters that
            `config` asks for are merged into it at the end.
        tokenizer: Its tokenizer.
        scenarios: Give the scenario of each seed, by the share of iterations that are done; `Steady` or a curriculum's.
        seeds: Of the scenarios to play; they are played again when all were.
        reward: What the episodes earn.
        config: What is optimised, and how.
        out: For TensorBoard; a run that goes on logs on there.
        seed: Of everything that is drawn.
        checkpoints: A folder for the run's state. Called again with the same arguments after a kill, the run goes on
            from there, and on one machine ends with the same bits as one that was not killed, Ray's actors or not. With
            `max_staleness: 1` it ends with others: what was being played is played again, by the policy that was kept
            and not by the one before it. None: nothing is kept.
        checkpoint_every: Iterations.

    Raises:
        ConfigError: when the checkpoints are of another run, or `fsdp` is asked for and there is one process.
        PolicyError: when adapters are asked for and the model has some.
    """
    trainer = make_trainer(model, tokenizer, scenarios, seeds, reward, config, out, seed, checkpoints, checkpoint_every)
    with progress(trainer, "reward/total"):
        trainer.train()
    if config.lora_rank:
        merge_lora(model)
    model.to(learning_device()).eval()
    return reinforced(trainer.state.log_history, config.episodes_per_iteration)
