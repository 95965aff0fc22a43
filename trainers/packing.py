"""Batches by token budget from samples of similar length, so that little of a batch is padding.

What a batch is follows from the seed and its number alone: a run that goes on from a checkpoint needs no state of it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset

from envs.errors import ConfigError
from trainers.samples import Collator, SampleBatch, StreamSample


def pack(lengths: Sequence[int], max_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """Deal samples into batches of which none has more than `max_tokens` tokens, padding counted; each sample once.

    Args:
        lengths: Of the samples, in tokens.
        max_tokens: Of a batch: its samples times the longest of them.
        seed: Draws the order of the batches, and who of equal length goes with whom.
        epoch: Other batches in each.

    Returns:
        The indices of each batch.

    Raises:
        ConfigError: when a sample alone has more.
    """
    longest = max(lengths, default=0)
    if longest > max_tokens:
        raise ConfigError(f"max_tokens_per_batch is {max_tokens}, and a sample has {longest} tokens; allow as many")
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(lengths))
    batches: list[list[int]] = []
    for index in sorted(shuffled.tolist(), key=lambda i: lengths[i]):  # stable: equals stay shuffled
        if not batches or (len(batches[-1]) + 1) * lengths[index] > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return [batches[i] for i in rng.permutation(len(batches))]


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Return which share of the batches' tokens is padding."""
    full = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1.0 - sum(lengths[i] for batch in batches for i in batch) / full


class BatchStream(IterableDataset[dict[str, SampleBatch]]):
    """All batches of training, epoch after epoch, without end, from the batch number `start` on.

    A batch's augmentation is drawn by its number.
    """

    def __init__(
        self, samples: Sequence[StreamSample], collator: Collator, max_tokens: int, seed: int, start: int = 0
    ) -> None:
        self.samples, self.collator, self.max_tokens = samples, collator, max_tokens
        self.seed, self.start = seed, start
        self.lengths = [len(sample.sequence) for sample in samples]

    def __iter__(self) -> Iterator[dict[str, SampleBatch]]:
        number, epoch = 0, 0
        while True:
            for batch in pack(self.lengths, self.max_tokens, self.seed, epoch):
                if number >= self.start:
                    drawn = np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)
                    self.collator.generator.manual_seed(int(drawn[0]))
                    yield self.collator([self.samples[i] for i in batch])
                number += 1
            epoch += 1
