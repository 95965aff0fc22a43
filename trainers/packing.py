"""Batches by token budget: from samples of similar length, so that little of one is padding, or by chance.

What a batch is follows from the seed and its number alone: a run that goes on from a checkpoint needs no state of it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset

from envs.errors import ConfigError
from trainers.sample_store import StoredSamples
from trainers.samples import Collator, SampleBatch


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
    rng, shuffled = _shuffled(lengths, max_tokens, seed, epoch)
    batches: list[list[int]] = []
    for index in sorted(shuffled, key=lambda i: lengths[i]):  # stable: equals stay shuffled
        if not batches or (len(batches[-1]) + 1) * lengths[index] > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return [batches[i] for i in rng.permutation(len(batches))]


def pack_by_chance(lengths: Sequence[int], max_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """Deal samples into batches as `pack` does, where none is padded: a batch may have any lengths.

    A sound's name goes with its length. In batches of one length an encoder hears few names at a time, and its batch
    norm takes their statistics for everybody's (`docs/experiments.md`).
    """
    batches: list[list[int]] = []
    tokens = 0  # of the last batch
    for index in _shuffled(lengths, max_tokens, seed, epoch)[1]:
        if not batches or tokens + lengths[index] > max_tokens:
            batches.append([])
            tokens = 0
        batches[-1].append(index)
        tokens += lengths[index]
    return batches


def _shuffled(lengths: Sequence[int], max_tokens: int, seed: int, epoch: int) -> tuple[np.random.Generator, list[int]]:
    longest = max(lengths, default=0)
    if longest > max_tokens:
        raise ConfigError(f"max_tokens_per_batch is {max_tokens}, and a sample has {longest} tokens; allow as many")
    rng = np.random.default_rng([seed, epoch])
    return rng, rng.permutation(len(lengths)).tolist()


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Return which share of the batches' tokens is padding."""
    full = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1.0 - sum(lengths[i] for batch in batches for i in batch) / full


class BatchStream(IterableDataset[dict[str, SampleBatch]]):
    """All batches of training, epoch after epoch, without end, from the batch number `start` on.

    A sample's augmentation is drawn by the batch's number and its place in the batch.

    Args:
        samples: To learn from.
        collator: Makes batches.
        max_tokens: Of a batch.
        seed: Of what is drawn.
        start: Number of the first batch.
        rank: Which of the processes this is that a batch is dealt out to, sample by sample.
        processes: How many there are.
        padded: Whether the model sees whole sequences, side by side; else chance says who goes with whom.
    """

    def __init__(
        self,
        samples: StoredSamples,
        collator: Collator,
        max_tokens: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        processes: int = 1,
        padded: bool = True,
    ) -> None:
        self.samples, self.collator, self.max_tokens = samples, collator, max_tokens
        self.seed, self.start = seed, start
        self.rank, self.processes, self.padded = rank, processes, padded

    def __iter__(self) -> Iterator[dict[str, SampleBatch]]:
        number, epoch = 0, 0
        while True:
            for batch in self.batches(epoch):
                if number >= self.start:
                    drawn = np.random.SeedSequence([self.seed, number]).generate_state(len(batch), np.uint64).tolist()
                    yield {"batch": self._own(batch, drawn)}
                number += 1
            epoch += 1

    def batches(self, epoch: int) -> list[list[int]]:
        """Return an epoch's batches."""
        deal = pack if self.padded else pack_by_chance
        return deal(self.samples.lengths, self.max_tokens, self.seed, epoch)

    def _own(self, batch: Sequence[int], draws: Sequence[int]) -> SampleBatch:
        """Return this process's share of a batch; who has none computes with all the same, and learns nothing."""
        own = range(self.rank, len(batch), self.processes)
        made = [self.samples[batch[i]] for i in own or (0,)]
        collated = self.collator(made, [draws[i] for i in own or (0,)])
        return collated if own else collated.without_targets()
