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
from torch.utils.hooks import RemovableHandle
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
from trainers.learners import Learners
from trainers.losses import DualLoss, NamingLoss, Tagger
from trainers.memory import check_memory
from trainers.packing import BatchStream, padding_share
from trainers.progress import show_progress
from trainers.sample_store import StoredSamples
from trainers.samples import Collator, SampleBatch
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
) -> Log:
    """Train one stage in place, on the model's device, from its newest checkpoint on where it has one.

    On a CPU, with as many threads, the weights are bit by bit those of a run that was never interrupted. Of several
    processes (`trainers.learners`), each learns from its share of every batch, and the main one measures and writes.

    Args:
        name: Key of the stage in the run's configuration.
        config: Of the stage.
        model: Of a language model with adapters (`policies.lora.add_lora`), only the adapters are trained.
        tokenizer: Of the model.
        data: The samples.
        place: Where to write.
        seed: Of what is drawn.
        bf16: Compute in bfloat16, weights in float32.

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
    check_memory(name, config, model)
    torch.manual_seed(seed)  # a new head is the same, whatever has been drawn before
    loss = _loss(config, model, data.train)
    checkpoint = newest_checkpoint(place.checkpoints, place.identity)
    if checkpoint is not None:
        load_module(loss, checkpoint, _MODEL)
    if checkpoint is None or checkpoint.step < config.steps:
        log = _train(config, loss, tokenizer, data, place, checkpoint, rows is not None, seed, bf16)
    else:
        log = checkpoint.state["log"]
    if rows is not None:
        rows.remove()
    train_only(model, [child for child, _ in model.named_children()]).eval()
    return [entry for entry in log if "train_runtime" not in entry]


def _train(
    config: StageConfig,
    loss: nn.Module,
    tokenizer: ReplyTokenizer,
    data: StageData,
    place: Place,
    checkpoint: Checkpoint | None,
    some_rows: bool,
    seed: int,
    bf16: bool,
) -> Log:
    """Train a loss's model, from a checkpoint on where there is one; return all that was logged."""
    step, model = 0 if checkpoint is None else checkpoint.step, loss.model
    assert isinstance(model, LALM)
    arguments = _arguments(config, place.logs, seed, bf16, model.device)
    learners = Learners()  # after them: they say whether this is a CPU's work though there is a GPU
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
        model=loss,
        args=arguments,
        train_dataset=batches,
        undecayed=(f"model.{_EMBEDDING}.weight",) if some_rows else (),
    )
    with ExitStack() as stack:
        if learners.is_main:
            if step:
                print(f"goes on from step {step}", flush=True)
            first = batches.batches(epoch=0)
            share = padding_share(data.train.lengths, first) if batches.padded else 0.0
            print(f"{len(data.train)} samples in {len(first)} batches, {100 * share:.1f} % of them padding", flush=True)
            writer = stack.enter_context(SummaryWriter(str(place.logs), purge_step=step + 1 if step else None))
            writer.add_scalar("train/padding_share", share, step)
            trainer.add_callback(TensorBoardCallback(writer))
            trainer.add_callback(_Validation(trainer, config, tokenizer, data, writer))
        trainer.add_callback(_Checkpoints(trainer, config, place, checkpoint))
        show_progress(trainer, "loss")
        trainer.train()
    log: Log = trainer.state.log_history
    return log


def free_modules(name: str, trains: Collection[str], model: LALM) -> RemovableHandle | None:
    """Give the named modules of a model gradients, and no others; `new_tokens` are rows of its embedding.

    Returns:
        The hook that keeps the other rows' gradients at zero, to be removed; None where all or none of them learn.

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
    return embedding.register_hook(lambda gradient: gradient * mask.to(gradient))


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

    `undecayed` names parameters without weight decay: it would shrink rows that have no gradient.
    """

    def __init__(self, *args: Any, undecayed: Collection[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.undecayed, self.learners = undecayed, Learners()
        self.loss_sum, self.loss_count = 0.0, 0  # since the loss was logged

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches."""
        return DataLoader(self.train_dataset, batch_size=None)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the parameters that weight decay shrinks."""
        return [name for name in super().get_decay_parameter_names(model) if name not in self.undecayed]

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
    """Measures every `eval_every` steps and at the end."""

    def __init__(
        self,
        trainer: StageTrainer,
        config: StageConfig,
        tokenizer: ReplyTokenizer,
        data: StageData,
        writer: SummaryWriter,
    ) -> None:
        self.trainer, self.config, self.tokenizer = trainer, config, tokenizer
        self.data, self.writer = data, writer

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure, where it is time."""
        step, loss = state.global_step, self.trainer.model
        if step % self.config.eval_every and step != state.max_steps:
            return
        numbers = {
            f"eval_{part}_{number}": value
            for part, samples in self.data.validation.items()
            for number, value in measure(loss, samples, self.config.max_tokens_per_batch).items()
        }
        loss_is_due = control.should_log
        self.trainer.log(numbers)
        control.should_log = loss_is_due  # logging says that all was logged
        if self.data.listening is not None and not isinstance(loss, Tagger):  # which has not learnt to speak yet
            write_listening(self.writer, step, loss.model, self.tokenizer, self.data.listening)
        loss.train()


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
        if not self.trainer.learners.is_main:
            return
        optimizer, groups = optimizer_state(self.trainer.optimizer, _OPTIMIZER)
        tensors: dict[str, Tensor] = {
            **module_tensors(self.trainer.model, _MODEL),
            **optimizer,
            **random_tensors(_RANDOM),
        }
        own = {
            "optimizer": groups,
            "scheduler": self.trainer.lr_scheduler.state_dict(),
            "log": state.log_history,
            "loss_sum": self.trainer.loss_sum,
            "loss_count": self.trainer.loss_count,
        }
        save_checkpoint(self.place.checkpoints, state.global_step, tensors, own, self.place.identity, self.config.keep)
