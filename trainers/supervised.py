"""Supervised training of the compact LALM: three stages, one loop (Hugging Face `Trainer`).

The paper starts from a pretrained audio tower and trains its LALM in four stages. Ours is trained from nothing, so its
hearing comes first; then stage 1-2 and stage 3 of the paper follow at laptop size:

| stage | data | trains | loss |
|---|---|---|---|
| hearing | single sounds | encoder, projector | cross-entropy over labels, by a head that is thrown away |
| format | single sounds as offline turns | projector, language model | `L_lm` |
| streams | whole streams | projector, language model | the dual loss `L = L_lm + lambda * L_stream`, and `L_name` |

`L_lm` and `L_stream` are cross-entropies over reply tokens and over control tokens, each divided by the weight of its
targets (paper, section on the training objective). Of some thirty control tokens one is `response`; `response_weight`
balances them. `L_name` is not the paper's: from the state of every decision a head, thrown away later, names the
foreground sound that is on. The dual loss alone teaches at a sound's end, once in thirty chunks; naming teaches at
each, and what is known early can be reinforced to be said early.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from policies.lora import train_only
from policies.modeling_lalm import LALM
from trainers.config import StageConfig, SupervisedConfig
from trainers.progress import show_progress
from trainers.samples import Collator, SampleBatch, StreamSample


@dataclass(frozen=True)
class Stage:
    """What one stage trains, on what."""

    name: Literal["hearing", "format", "streams"]
    samples: Literal["sounds", "streams"]
    trains: tuple[str, ...]  # modules of the LALM; the others are frozen


STAGES = (
    Stage("hearing", "sounds", ("encoder", "projector")),
    Stage("format", "sounds", ("projector", "text_model", "lm_head")),
    Stage("streams", "streams", ("projector", "text_model", "lm_head")),
)


class Tagger(nn.Module):
    """Names a sound by the mean of its chunks' embeddings: how an encoder without a past learns to hear."""

    def __init__(self, model: LALM, labels: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.index = {label: i for i, label in enumerate(sorted(set(labels)))}
        self.head = nn.Linear(model.text_model.config.hidden_size, len(self.index))

    def forward(self, batch: SampleBatch) -> Tensor:
        """Return the cross-entropy over the labels."""
        batch = batch.to(self.model.device)
        chunks = self.model.encode(batch.log_mel).mean(dim=1)  # [sum of T, hidden]
        sounds = torch.stack([own.mean(dim=0) for own in chunks.split(batch.num_chunks)]).float()
        labels = torch.tensor([self.index[label] for label in batch.labels], device=sounds.device)
        return F.cross_entropy(self.head(sounds), labels)


class DualLoss(nn.Module):
    """The dual loss of a batch; without control tokens it is `L_lm` alone."""

    def __init__(self, model: LALM, stream_weight: float, response_weight: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.stream_weight, self.response_weight = stream_weight, response_weight

    def hidden(self, batch: SampleBatch) -> Tensor:
        """Return the states that predict each next token: float32 [B, L - 1, hidden]."""
        embeddings = self.model.encode(batch.log_mel).flatten(0, 1)
        return self.model.hidden_states(batch.tokens, embeddings)[:, :-1]

    def parts(self, batch: SampleBatch, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return `L_lm` and `L_stream`."""

        def cross_entropy(targets: Tensor) -> Tensor:
            mask = targets[:, 1:]
            if not mask.any():
                return hidden.sum() * 0.0  # a batch of silent streams has no reply to learn from
            ids = batch.tokens.ids[:, 1:][mask]
            weight = torch.where(ids == self.model.layout.response, self.response_weight, 1.0)
            losses = F.cross_entropy(self.model.lm_head(hidden[mask]).float(), ids, reduction="none")
            return (losses * weight).sum() / weight.sum()

        return cross_entropy(batch.contents), cross_entropy(batch.decisions)

    def combined(self, batch: SampleBatch, hidden: Tensor) -> Tensor:
        """Return `L_lm + stream_weight * L_stream`."""
        lm, stream = self.parts(batch, hidden)
        return lm + self.stream_weight * stream

    def forward(self, batch: SampleBatch) -> Tensor:
        """Return `L_lm + stream_weight * L_stream`."""
        batch = batch.to(self.model.device)
        return self.combined(batch, self.hidden(batch))


class NamingLoss(nn.Module):
    """The dual loss, and the cross-entropy of naming the foreground sound that is on at every decision."""

    def __init__(self, dual: DualLoss, labels: Sequence[str], weight: float) -> None:
        super().__init__()
        self.dual, self.weight = dual, weight
        self.index = {label: i for i, label in enumerate(sorted(set(labels)))}
        self.head = nn.Linear(dual.model.text_model.config.hidden_size, len(self.index))

    def forward(self, batch: SampleBatch) -> Tensor:
        """Return `L_lm + stream_weight * L_stream + weight * L_name`."""
        batch = batch.to(self.dual.model.device)
        hidden = self.dual.hidden(batch)
        names = torch.tensor([self.index[label] for label in batch.heard], device=hidden.device)
        naming = F.cross_entropy(self.head(hidden[batch.decisions[:, 1:]].float()), names)
        return self.dual.combined(batch, hidden) + self.weight * naming


class _LossTrainer(Trainer):
    """Hugging Face `Trainer` over a module whose forward is the loss."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        loss: Tensor = model(inputs["batch"])
        return (loss, {}) if return_outputs else loss


class _Samples(Dataset):  # a list is enough for torch, but Trainer insists on the type
    def __init__(self, samples: Sequence[StreamSample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> StreamSample:
        return self.samples[index]


def train_stage(
    stage: Stage, model: LALM, samples: Sequence[StreamSample], config: SupervisedConfig, out: Path, seed: int
) -> list[tuple[int, float]]:
    """Train one stage in place, on the model's device; return its loss curve as (step, loss).

    Of a language model with adapters (`policies.lora.add_lora`), only the adapters are trained.
    """
    own: StageConfig = getattr(config, stage.name)
    train_only(model, stage.trains)
    loss: nn.Module
    if stage.name == "hearing":
        loss = Tagger(model, [s.label for s in samples])
    elif stage.name == "format":
        loss = DualLoss(model, 0.0)
    else:
        dual = DualLoss(model, config.stream_weight, config.response_weight)
        loss = NamingLoss(dual, [label for s in samples for label in s.heard], config.naming_weight)
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=own.steps,
        per_device_train_batch_size=min(own.batch_size, len(samples)),
        learning_rate=own.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_share,
        adam_beta2=0.95,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        logging_steps=min(20, own.steps),
        save_strategy="no",
        report_to=["tensorboard"],
        remove_unused_columns=False,
        use_cpu=model.device.type == "cpu",
        seed=seed,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
    )
    trainer = _LossTrainer(
        model=loss,
        args=arguments,
        train_dataset=_Samples(samples),
        data_collator=Collator(model.layout, seed),
    )
    show_progress(trainer, "loss")
    trainer.train()
    train_only(model, [name for name, _ in model.named_children()]).eval()
    return [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
