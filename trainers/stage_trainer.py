"""The one loop of all supervised stages: Hugging Face's `Trainer` over batches by token budget, resumed bit by bit.

`Trainer`'s own checkpoints hold pickles and skip through the data again. Ours are `trainers.checkpoints`: weights,
optimiser, schedule and random generators are in them; the batches follow from their number.
"""

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from envs.errors import ConfigError, did_you_mean
from policies.lora import train_only
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from trainers.checkpoints import (
    Checkpoint,
    load_module,
    load_optimizer,
    load_random,
    module_tensors,
    newest_checkpoint,
    optimizer_state,
    random_tensors,
    save_checkpoint,
)
from trainers.config import NEW_TOKENS, StageConfig
from trainers.learners import Learners, learning_device, repeatable_kernels
from trainers.losses import DualLoss, NamingLoss, Tagger
from trainers.memory import check_memory
from trainers.packing import BatchStream, padding_share
from trainers.progress import progress
from trainers.sample_store import StoredSamples
from trainers.samples import Collator, SampleBatch
from trainers.sharding import gather, gather_tensors, laid_out_as, shard, visiting
from trainers.stage_data import StageData
from trainers.validation import measure, write_listening

Log = list[dict[str, Any]]
_MODEL, _OPTIMIZER, _RANDOM = "model", "optimizer", "random"
_EMBEDDING = "text_model.embed_tokens"


@dataclass(frozen=True)
class Place:
    """Where a stage writes, and what it is known by.

    Attributes:
        checkpoints: Folder of its checkpoints, the last of them of the end.
        logs: Folder of its TensorBoard events.
        identity: What the run was asked for, plain JSON; a checkpoint of another one is not gone on from.
    """

    checkpoints: Path
    logs: Path
    identity: dict[str, Any]


def fit_stage(
    name: str,
    config: StageConfig,
    model: LALM,
    tokenizer: ReplyTokenizer,
    data: StageData,
    place: Place,
    *,
    seed: int,
    bf16: bool = False,
    fsdp: bool = False,
) -> Log:
    """Train one stage in place, on the model's device, from its newest checkpoint on where it has one.

    On a CPU, with as many threads, the weights are bit by bit those of a run that was never interrupted. Of several
    processes (`trainers.learners`), each learns from its share of every batch, and the main one measures and writes.
    With `fsdp`, the model stays whole where it is, best in the memory of the host, and a sharded copy learns.

    Args:
        name: Key of the stage in the run's configuration.
        config: Of the stage.
        model: Of a language model with adapters (`policies.lora.add_lora`), only the adapters are trained.
        tokenizer: Of the model.
        data: The samples.
        place: Where to write.
        seed: Of what is drawn.
        bf16: Compute in bfloat16, weights in float32.
        fsdp: Have each of several processes hold a part of what is trained (`trainers.sharding`).

    Returns:
        What was logged, by step: the loss, and the validation's numbers as `eval_PART_NUMBER`.

    Raises:
        ConfigError: when it has nothing to train, or a batch is more than the memory.
        CheckpointError: when its checkpoint does not fit the model.
        OSError: when a checkpoint cannot be written; the one before it stays.
    """
    if config.stream_weight > 0:  # what a threshold or PPO added to the decision is of the policy before this stage
        nn.init.zeros_(model.decision_head.weight)
        nn.init.zeros_(model.decision_head.bias)
    rows = free_modules(name, config.trains, model)
    check_memory(name, config, model, Learners() if fsdp else None)
    torch.manual_seed(seed)  # a new head is the same, whatever has been drawn before
    loss = _loss(config, model, data.train)
    checkpoint = newest_checkpoint(place.checkpoints, place.identity)
    if checkpoint is not None:
        load_module(loss, checkpoint, _MODEL)
    if checkpoint is None or checkpoint.step < config.steps:
        log = _train(config, loss, tokenizer, data, place, checkpoint, rows, seed, bf16, fsdp)
    else:
        log = checkpoint.state["log"]
    train_only(model, [child for child, _ in model.named_children()]).eval()
    return [entry for entry in log if "train_runtime" not in entry]


def _train(
    config: StageConfig,
    loss: nn.Module,
    tokenizer: ReplyTokenizer,
    data: StageData,
    place: Place,
    checkpoint: Checkpoint | None,
    rows: Tensor | None,
    seed: int,
    bf16: bool,
    fsdp: bool,
) -> Log:
    """Train a loss's model, from a checkpoint on where there is one; return all that was logged."""
    step, model = 0 if checkpoint is None else checkpoint.step, loss.model
    assert isinstance(model, LALM)
    arguments = _arguments(config, place.logs, seed, bf16, learning_device() if fsdp else model.device)
    learners = Learners()  # after them: they say whether this is a CPU's work though there is a GPU
    trained = shard(loss, learners) if fsdp else loss
    batches = BatchStream(
        data.train,
        Collator(model.layout),
        config.max_tokens_per_batch,
        seed,
        step * config.accumulate,
        learners.rank,
        learners.count,
        padded=config.learns == "replies",  # who names sounds takes chunk by chunk
    )
    trainer = StageTrainer(
        model=trained,
        args=arguments,
        train_dataset=batches,
        rows=rows,
    )
    if fsdp:  # computes in bfloat16 where that is asked for, and nothing else: it would be wrapped for DDP, too
        trainer.accelerator.prepare_model(trained, device_placement=False, evaluation_mode=True)
    with ExitStack() as stack:
        writer = None
        if learners.is_main:
            if step:
                print(f"goes on from step {step}", flush=True)
            first = batches.batches(epoch=0)
            share = padding_share(data.train.lengths, first) if batches.padded else 0.0
            print(f"{len(data.train)} samples in {len(first)} batches, {100 * share:.1f} % of them padding", flush=True)
            writer = stack.enter_context(SummaryWriter(str(place.logs), purge_step=step + 1 if step else None))
            writer.add_scalar("train/padding_share", share, step)
            trainer.add_callback(TensorBoardCallback(writer))
        trainer.add_callback(_Validation(trainer, loss, config, tokenizer, data, writer))
        trainer.add_callback(_Checkpoints(trainer, config, place, checkpoint))
        with progress(trainer, "loss"), repeatable_kernels():
            trainer.train()
    gather(trained, loss)
    log: Log = trainer.state.log_history
    return log


def free_modules(name: str, trains: Collection[str], model: LALM) -> Tensor | None:
    """Give the named modules of a model gradients, and no others; `new_tokens` are rows of its embedding.

    Returns:
        float32 [vocabulary, 1], 1 for the rows of the embedding that learn; None where all or none of them do.

    Raises:
        ConfigError: when it has no such module, or none of them has parameters.
    """
    known = {module for module, _ in model.named_modules() if module}
    for module in trains:
        if module != NEW_TOKENS and module not in known:
            hint = did_you_mean(module, {*(child for child, _ in model.named_children()), NEW_TOKENS})
            raise ConfigError(f"{name}.trains names {module!r}, which the model has not{hint}")
    embedding = model.text_model.embed_tokens.weight
    whole = {"text_model", _EMBEDDING} & set(trains) or ("lm_head" in trains and model.lm_head.weight is embedding)
    modules = {module for module in trains if module != NEW_TOKENS}
    train_only(model, modules | {_EMBEDDING} if whole or NEW_TOKENS in trains else modules)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"{name}.trains is {list(trains)}: nothing of the model would be trained; name a module")
    if whole or NEW_TOKENS not in trains:
        return None
    mask = torch.zeros(len(embedding), 1, device=embedding.device)
    mask[[*model.layout.not_speakable, model.layout.end]] = 1.0
    return mask


def _loss(config: StageConfig, model: LALM, samples: StoredSamples) -> nn.Module:
    if config.learns == "names":
        return Tagger(model, samples.labels).to(model.device)
    if config.naming_weight == 0:
        return DualLoss(model, config.stream_weight, config.response_weight)
    weights = config.stream_weight, config.response_weight
    return NamingLoss(model, *weights, samples.heard, config.naming_weight).to(model.device)


def _arguments(config: StageConfig, logs: Path, seed: int, bf16: bool, device: torch.device) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(logs),
        max_steps=config.steps,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_share,
        weight_decay=config.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        bf16=bf16,
        logging_steps=min(20, config.steps),
        save_strategy="no",  # ours are no pickles
        report_to=[],
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        seed=seed,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=True,  # `trains` may name a module that the loss has no use for
    )


class StageTrainer(Trainer):
    """Hugging Face `Trainer` over a module whose forward is the loss of a whole batch.

    It keeps the loss that is logged where a checkpoint can hold it.

    Of the embedding only the `rows` learn that `free_modules` gave; None: those that have gradients.
    """

    def __init__(self, *args: Any, rows: Tensor | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.args._n_gpu = min(self.args.n_gpu, 1)  # `Trainer` would deal a batch out to all GPUs by `DataParallel`
        self.rows, self.learners = rows, Learners()
        self.loss_sum, self.loss_count = 0.0, 0  # since the loss was logged

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches."""
        return DataLoader(self.train_dataset, batch_size=None)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the parameters that weight decay shrinks; it would shrink rows that have no gradient."""
        undecayed = f"model.{_EMBEDDING}.weight" if self.rows is not None else None
        return [name for name in super().get_decay_parameter_names(model) if name != undecayed]

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Add the gradients of a batch, but for rows of the embedding that do not learn; return its loss."""
        loss: Tensor = super().training_step(*args, **kwargs)
        gradient = self.model.model.text_model.embed_tokens.weight.grad
        if self.rows is not None and gradient is not None:
            gradient.mul_(laid_out_as(gradient, self.rows))
        return loss

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, of which this process has its share: the mean over processes is the whole's."""
        batch: SampleBatch = inputs["batch"]
        counts = self.learners.add(self.model.counts(batch))
        loss: Tensor = model(batch, counts)
        self.loss_sum += self.learners.add({"loss": float(loss.detach())})["loss"]
        self.loss_count += 1
        loss = loss * self.learners.count  # the processes' gradients are averaged
        return (loss, {}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log numbers; a loss is the mean over the batches since the last one."""
        if "loss" in logs:
            logs["loss"] = self.loss_sum / self.loss_count
            self.loss_sum, self.loss_count = 0.0, 0
        self.state.epoch = None  # to `Trainer`, all steps together are one
        super().log(logs, start_time)


class _Validation(TrainerCallback):
    """Measures every `eval_every` steps and at the end; the main process does, and the others help to gather."""

    def __init__(
        self,
        trainer: StageTrainer,
        loss: nn.Module,
        config: StageConfig,
        tokenizer: ReplyTokenizer,
        data: StageData,
        writer: SummaryWriter | None,
    ) -> None:
        self.trainer, self.loss, self.config, self.tokenizer = trainer, loss, config, tokenizer
        self.data, self.writer = data, writer
        assert isinstance(loss.model, LALM)
        self.model, self.home = loss.model, loss.model.device

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure, where it is time."""
        step = state.global_step
        if step % self.config.eval_every and step != state.max_steps:
            return
        gather(self.trainer.model, self.loss)
        if self.writer is not None:
            with visiting(args.device, self.home, self.loss):
                self._measure(step, control, self.writer)
            self.loss.train()

    def _measure(self, step: int, control: TrainerControl, writer: SummaryWriter) -> None:
        loss = self.loss
        numbers = {
            f"eval_{part}_{number}": value
            for part, samples in self.data.validation.items()
            for number, value in measure(loss, samples, self.config.max_tokens_per_batch).items()
        }
        loss_is_due = control.should_log
        self.trainer.log(numbers)
        control.should_log = loss_is_due  # logging says that all was logged
        if self.data.listening is not None and not isinstance(loss, Tagger):  # which has not learnt to speak yet
            write_listening(writer, step, self.model, self.tokenizer, self.data.listening)


class _Checkpoints(TrainerCallback):
    """Writes a checkpoint before the step that follows every `save_every` steps, and fills the trainer from one.

    Between two steps everything is logged and measured, and nothing is drawn: the generators can be set when the
    first step begins, whatever has been drawn on the way to it.
    """

    def __init__(self, trainer: StageTrainer, config: StageConfig, place: Place, checkpoint: Checkpoint | None) -> None:
        self.trainer, self.config, self.place, self.checkpoint = trainer, config, place, checkpoint
        self.saved_step = 0 if checkpoint is None else checkpoint.step

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Go on from the checkpoint."""
        if self.checkpoint is None:
            return
        own = self.checkpoint.state
        load_optimizer(self.trainer.optimizer, self.checkpoint, _OPTIMIZER, own["optimizer"])
        self.trainer.lr_scheduler.load_state_dict(own["scheduler"])
        state.global_step = self.checkpoint.step
        state.log_history[:] = own["log"]
        self.trainer.loss_sum, self.trainer.loss_count = own["loss_sum"], own["loss_count"]

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the last checkpoint."""
        self._save(state)

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Set the generators once, or write a checkpoint."""
        if self.checkpoint is not None:
            load_random(self.checkpoint, _RANDOM)
            self.checkpoint = None
        elif state.global_step != self.saved_step and state.global_step % self.config.save_every == 0:
            self._save(state)

    def _save(self, state: TrainerState) -> None:
        self.saved_step = state.global_step
        main = self.trainer.learners.is_main
        optimizer, groups = optimizer_state(self.trainer.optimizer, _OPTIMIZER)
        tensors = gather_tensors({**module_tensors(self.trainer.model, _MODEL), **optimizer}, keep=main)
        if not main:
            return
        own = {
            "optimizer": groups,
            "scheduler": self.trainer.lr_scheduler.state_dict(),
            "log": state.log_history,
            "loss_sum": self.trainer.loss_sum,
            "loss_count": self.trainer.loss_count,
        }
        tensors |= random_tensors(_RANDOM)
        save_checkpoint(self.place.checkpoints, state.global_step, tensors, own, self.place.identity, self.config.keep)
