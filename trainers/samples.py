"""Training samples: whole streams, and the single sounds cut out of them; padded and augmented into batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from envs.clock import CHUNK_S, chunk_end_s, due_chunk
from envs.scenario import Event, Scenario, TimelineEntry
from policies.features import ChunkFeatures
from policies.modeling_lalm import SequenceBatch
from policies.sequences import StreamSequence, Turn, collate, lay_out
from policies.token_layout import TokenLayout
from policies.tokenizer import ReplyTokenizer

_AUDIBLE_S = 0.2  # less of a sound than this is not yet heard
_CUT_SHARE = 0.5  # of the single sounds are cut short
_LEAST_CHUNKS = 4  # what is left of them at the least


@dataclass
class StreamSample:
    """What one supervised sample is made of: a stream, or a single sound of it as an offline turn."""

    log_mel: Tensor  # float16 [T, frames, n_mels]
    sequence: StreamSequence
    label: str = ""  # of a single sound
    heard: tuple[str, ...] = ()  # label of the sound that is on at each decision of a stream; blank: none


@dataclass
class SampleBatch:
    """Samples as the losses want them."""

    log_mel: Tensor  # float32 [sum of T, frames, n_mels]
    num_chunks: list[int]  # T of each sample
    labels: list[str]
    heard: list[str]  # of all decisions, stream after stream
    tokens: SequenceBatch
    decisions: Tensor  # bool [B, L]: a control token to predict stands here
    contents: Tensor  # bool [B, L]: a reply token to predict stands here

    def to(self, device: torch.device) -> "SampleBatch":
        """Return the batch on a device."""
        return replace(
            self,
            log_mel=self.log_mel.to(device),
            tokens=self.tokens.to(device),
            decisions=self.decisions.to(device),
            contents=self.contents.to(device),
        )

    def without_targets(self) -> "SampleBatch":
        """Return the batch with nothing in it to learn: every loss of it is 0, and has gradients, all 0."""
        none = torch.zeros_like(self.decisions)
        return replace(self, labels=[], heard=[], decisions=none, contents=none)


def timeline_turns(
    timeline: Sequence[TimelineEntry], num_chunks: int, tokenizer: ReplyTokenizer, layout: TokenLayout
) -> list[Turn]:
    """Turn a timeline into the decisions of an agent that follows it exactly.

    A reply that is due while another is being said comes right after it, as it would in the engine.
    """
    due = list(timeline)
    turns, chunk = [], 0
    while chunk < num_chunks:
        if due and due[0].chunk <= chunk:
            reply = (*tokenizer.encode(due.pop(0).text), tokenizer.end_id)
            turns.append(Turn(chunk, reply))
            chunk += layout.reply_chunks(len(reply))
        else:
            turns.append(Turn(chunk, None))
            chunk += 1
    return turns


def hurried(scenario: Scenario, share: float) -> list[TimelineEntry]:
    """Return the scenario's timeline with a share of the replies moved to some moment before their sound ends.

    The paper answers at a sound's end. A policy that never saw anything else has no idea of an early reply: it gives
    PPO none to choose from, and after one it would answer the same sound again.
    """
    rng = np.random.default_rng([scenario.seed, 0xEA])
    timeline = []
    for entry, cue in zip(scenario.timeline, scenario.cues, strict=True):
        ready = min(due_chunk(cue.ready_s), entry.chunk)
        early = int(rng.integers(ready, entry.chunk + 1)) if rng.random() < share else entry.chunk
        timeline.append(replace(entry, chunk=early))
    return timeline


def sound_at(scenario: Scenario, chunk: int) -> str:
    """Return the label of the foreground sound of which something was heard in a chunk; blank when there is none."""
    for event in scenario.events:
        heard_from, heard_to = event.onset_s + _AUDIBLE_S, event.end_s
        if event.role == "foreground" and heard_from < chunk_end_s(chunk) and heard_to > chunk * CHUNK_S:
            return event.label
    return ""


class SampleMaker:
    """Makes the samples of scenarios; features are computed once, single sounds are views of their stream's."""

    def __init__(
        self, tokenizer: ReplyTokenizer, layout: TokenLayout, features: ChunkFeatures, early_share: float = 0.0
    ) -> None:
        self.tokenizer, self.layout, self.features, self.early_share = tokenizer, layout, features, early_share

    def stream(self, scenario: Scenario) -> StreamSample:
        """Return the scenario as an agent would live it that follows its timeline."""
        with torch.no_grad():
            features = self.features.whole(torch.from_numpy(scenario.audio)).half()
        timeline = hurried(scenario, self.early_share)
        turns = timeline_turns(timeline, scenario.num_chunks, self.tokenizer, self.layout)
        heard = tuple(sound_at(scenario, turn.chunk) for turn in turns)
        return StreamSample(features, lay_out(self.layout, turns), heard=heard)

    def sounds(self, scenario: Scenario, stream: StreamSample) -> list[StreamSample]:
        """Return the scenario's foreground sounds as offline turns: the chunks of a sound, then text.

        The text is the reply to a sound that deserves one, and the caption of one that does not (the paper's
        single-turn data, `instruction, clip -> text`). Half of the longer sounds are cut short: who is to answer before
        a sound has ended must know it by its beginning.
        """
        rng = np.random.default_rng([scenario.seed, 0xC7])
        replies = {entry.chunk: entry.text for entry in scenario.timeline}
        foreground = [event for event in scenario.events if event.role == "foreground"]
        return [self._sound(event, replies, stream, rng) for event in foreground]

    def _sound(
        self, event: Event, replies: dict[int, str], stream: StreamSample, rng: np.random.Generator
    ) -> StreamSample:
        first, last = int(event.onset_s / CHUNK_S), due_chunk(event.end_s)
        text = replies.get(last, event.caption) if event.decision == "RESPOND" else event.caption
        if last - first >= _LEAST_CHUNKS and rng.random() < _CUT_SHARE:
            last = first + int(rng.integers(_LEAST_CHUNKS - 1, last - first))
        turn = Turn(last - first, (*self.tokenizer.encode(text), self.tokenizer.end_id))
        offline = replace(self.layout, online=self.layout.offline)
        return StreamSample(stream.log_mel[first : last + 1], lay_out(offline, [turn]), event.label)


def augment(log_mel: Tensor, generator: torch.Generator) -> Tensor:
    """Vary what a microphone and a room would: level, colouring, and a missing band (SpecAugment).

    Args:
        log_mel: float32 [T, frames, n_mels] of one stream; the same change is made to all its chunks.
        generator: The source of randomness.

    Returns:
        float32 [T, frames, n_mels].
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
    """Pads samples into a batch."""

    def __init__(self, layout: TokenLayout) -> None:
        self.layout = layout

    def __call__(self, samples: Sequence[StreamSample], draws: Sequence[int] | None = None) -> SampleBatch:
        """Return the batch, each sample augmented by a draw of its own; None: as they are."""
        features = [s.log_mel.float() for s in samples]
        if draws is not None:
            generator = torch.Generator()
            features = [augment(f, generator.manual_seed(draw)) for f, draw in zip(features, draws, strict=True)]
        counts = [len(f) for f in features]
        tokens = collate([s.sequence for s in samples], counts, self.layout.audio_tokens_per_chunk)
        decisions = torch.zeros_like(tokens.ids, dtype=torch.bool)
        contents = torch.zeros_like(tokens.ids, dtype=torch.bool)
        for row, sample in enumerate(samples):
            decisions[row, sample.sequence.decisions] = True
            contents[row, sample.sequence.contents] = True
        labels = [s.label for s in samples]
        heard = [label for s in samples for label in s.heard]
        return SampleBatch(torch.cat(features), counts, labels, heard, tokens, decisions, contents)
