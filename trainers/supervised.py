"""Supervised training of the LALM with the dual loss, one loop for every stage (Hugging Face `Trainer`).

`L = L_lm + lambda * L_stream`: cross-entropies over reply tokens and over control tokens, each divided by the
number of its targets (paper, section on the training objective).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from envs.scenario import Scenario
from policies.features import LogMel, chunk_windows
from policies.modeling_lalm import LALM, SequenceBatch
from policies.sequences import StreamSequence, Turn, collate, lay_out
from policies.token_layout import TokenLayout
from policies.tokenizer import ReplyTokenizer
from trainers.config import SupervisedConfig


@dataclass
class StreamSample:
    """One supervised stream."""

    log_mel: Tensor  # float16 [T, 48, 64]
    sequence: StreamSequence


@dataclass
class SampleBatch:
    """Streams as the loss wants them."""

    log_mel: Tensor  # float32 [sum of T, 48, 64]
    tokens: SequenceBatch
    decisions: Tensor  # bool [B, L]: a control token to predict stands here
    contents: Tensor  # bool [B, L]: a reply token to predict stands here


def timeline_turns(scenario: Scenario, tokenizer: ReplyTokenizer, layout: TokenLayout) -> list[Turn]:
    """Turn a scenario's timeline into the decisions of an agent that follows it exactly.

    A reply that is due while another is being said comes right after it, as it would in the engine.
    """
    due = list(scenario.timeline)
    turns, chunk = [], 0
    while chunk < scenario.num_chunks:
        if due and due[0].chunk <= chunk:
            reply = (*tokenizer.encode(due.pop(0).text), tokenizer.end_id)
            turns.append(Turn(chunk, reply))
            chunk += layout.reply_chunks(len(reply))
        else:
            turns.append(Turn(chunk, None))
            chunk += 1
    return turns


def make_sample(scenario: Scenario, tokenizer: ReplyTokenizer, layout: TokenLayout, log_mel: LogMel) -> StreamSample:
    """Return the training sample of a scenario."""
    with torch.no_grad():
        features = log_mel(chunk_windows(torch.from_numpy(scenario.audio)))
    return StreamSample(features.half(), lay_out(layout, timeline_turns(scenario, tokenizer, layout)))


def augment(log_mel: Tensor, generator: torch.Generator) -> Tensor:
    """Vary what a microphone and a room would: level, colouring, and a missing band (SpecAugment).

    Args:
        log_mel: float32 [T, 48, 64] of one stream; the same change is made to all its chunks.
        generator: The source of randomness.

    Returns:
        float32 [T, 48, 64].
    """
    bins = log_mel.shape[-1]
    level = torch.empty(1).uniform_(-0.4, 0.4, generator=generator)
    knots = torch.empty(1, 1, 6).normal_(0, 0.15, generator=generator)
    colour = F.interpolate(knots, size=bins, mode="linear", align_corners=True)[0, 0]
    changed = log_mel + level + colour
    width = int(torch.randint(0, 10, (1,), generator=generator))
    start = int(torch.randint(0, bins - width, (1,), generator=generator))
    changed[..., start : start + width] = changed.mean()
    return changed


class Collator:
    """Pads samples into a batch, augmented."""

    def __init__(self, layout: TokenLayout, seed: int, augmented: bool = True) -> None:
        self.layout, self.augmented = layout, augmented
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, samples: Sequence[StreamSample]) -> dict[str, SampleBatch]:
        """Return the batch under the one key that `DualLossTrainer` reads."""
        features = [s.log_mel.float() for s in samples]
        if self.augmented:
            features = [augment(f, self.generator) for f in features]
        counts = [len(f) for f in features]
        tokens = collate([s.sequence for s in samples], counts, self.layout.audio_tokens_per_chunk)
        decisions, contents = (
            torch.zeros_like(tokens.ids, dtype=torch.bool),
            torch.zeros_like(tokens.ids, dtype=torch.bool),
        )
        for row, sample in enumerate(samples):
            decisions[row, sample.sequence.decisions] = True
            contents[row, sample.sequence.contents] = True
        return {"batch": SampleBatch(torch.cat(features), tokens, decisions, contents)}


def dual_loss(model: LALM, batch: SampleBatch, stream_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return `L_lm + stream_weight * L_stream`, `L_lm` and `L_stream` of a batch."""
    embeddings = model.encode(batch.log_mel).flatten(0, 1)
    hidden = model.hidden_states(batch.tokens, embeddings)[:, :-1]

    def cross_entropy(targets: Tensor) -> Tensor:
        mask = targets[:, 1:]
        if not mask.any():
            return hidden.sum() * 0.0  # a batch of silent streams has no reply to learn from
        return F.cross_entropy(model.lm_head(hidden[mask]), batch.tokens.ids[:, 1:][mask])

    lm, stream = cross_entropy(batch.contents), cross_entropy(batch.decisions)
    return lm + stream_weight * stream, lm, stream


class DualLossTrainer(Trainer):
    """Hugging Face `Trainer` on the dual loss; logs both parts."""

    stream_weight = 1.0

    def compute_loss(
        self, model: LALM, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the dual loss of a batch."""
        loss, lm, stream = dual_loss(model, inputs["batch"], self.stream_weight)
        if self.state.global_step % self.args.logging_steps == 0:
            self.log({"loss_lm": lm.item(), "loss_stream": stream.item()})
        return (loss, {}) if return_outputs else loss


class _Samples(Dataset):  # a list is enough for torch, but Trainer insists on the type
    def __init__(self, samples: Sequence[StreamSample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> StreamSample:
        return self.samples[index]


def train_supervised(
    model: LALM, samples: Sequence[StreamSample], config: SupervisedConfig, out: Path, seed: int
) -> list[tuple[int, float]]:
    """Train the whole model on streams in place; return the loss curve as (step, loss)."""
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_share,
        adam_beta2=0.95,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        logging_steps=10,
        save_strategy="no",
        report_to=["tensorboard"],
        remove_unused_columns=False,
        use_cpu=True,
        seed=seed,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
    )
    trainer = DualLossTrainer(
        model=model,
        args=arguments,
        train_dataset=_Samples(samples),
        data_collator=Collator(model.layout, seed),
    )
    trainer.stream_weight = config.stream_weight
    trainer.train()
    model.eval()
    return [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
