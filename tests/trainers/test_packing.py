"""Batches by token budget: every sample once, none too large, little padding, the same again from any number on."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import ConfigError
from policies.sequences import Turn, lay_out
from policies.tokenizer import ReplyTokenizer, train_tokenizer
from tests.policies.conftest import REPLIES
from tests.trainers.stored import store
from trainers.packing import BatchStream, pack, pack_by_chance, padding_share
from trainers.sample_store import StoredSamples
from trainers.samples import Collator, StreamSample


@given(
    lengths=st.lists(st.integers(1, 60), max_size=80),
    room=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_no_sample_is_lost_or_doubled_and_no_batch_too_large(
    lengths: list[int], room: int, seed: int, epoch: int
) -> None:
    budget = max(lengths, default=1) + room
    batches = pack(lengths, budget, seed, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(batch and len(batch) * max(lengths[i] for i in batch) <= budget for batch in batches)
    assert batches == pack(lengths, budget, seed, epoch)
    if lengths:
        assert 0.0 <= padding_share(lengths, batches) < 1.0
    by_chance = pack_by_chance(lengths, budget, seed, epoch)
    assert sorted(index for batch in by_chance for index in batch) == list(range(len(lengths)))
    assert all(batch and sum(lengths[i] for i in batch) <= budget for batch in by_chance)


def test_a_sample_that_fits_into_no_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_tokens_per_batch is 9, and a sample has 10 tokens"):
        pack([3, 10], 9, 0, 0)


def test_alike_goes_with_alike() -> None:
    """A third of what dealing by chance pads, at the most; and epochs differ, in company and in order."""
    lengths = np.random.default_rng(0).integers(20, 400, 500).tolist()
    batches = pack(lengths, 3200, 0, 0)
    by_chance = [list(range(i, min(i + 8, 500))) for i in range(0, 500, 8)]
    assert padding_share(lengths, batches) < padding_share(lengths, by_chance) / 3
    assert padding_share([10, 6], [[0, 1]]) == pytest.approx(4 / 20)
    other = pack(lengths, 3200, 0, 1)
    assert [set(batch) for batch in batches] != [set(batch) for batch in other]
    firsts = [max(lengths[i] for i in batch) for batch in batches]
    assert firsts != sorted(firsts)


def samples(tokenizer: ReplyTokenizer, folder: Path) -> tuple[StoredSamples, Collator]:
    layout = tokenizer.layout(audio_tokens_per_chunk=1, tokens_per_chunk=4, window_chunks=16)
    made = [
        StreamSample(torch.full((n, 8, 32), float(n)).half(), lay_out(layout, [Turn(c, None) for c in range(n)]))
        for n in (2, 3, 4, 4, 5, 6, 8)
    ]
    return store(made, folder), Collator(layout)


def test_batches_follow_from_their_number(tmp_path: Path) -> None:
    """From the middle of the second epoch on, batches and augmentation are those of a stream that began in front."""
    made, collator = samples(train_tokenizer(REPLIES, 300), tmp_path / "samples")
    whole = [one["batch"] for one in islice(BatchStream(made, collator, 60, seed=5), 12)]
    late = [one["batch"] for one in islice(BatchStream(made, collator, 60, seed=5, start=7), 5)]
    for one, other in zip(whole[7:], late, strict=True):
        assert torch.equal(one.log_mel, other.log_mel)
        assert torch.equal(one.tokens.ids, other.tokens.ids)
    assert not any(torch.equal(whole[0].log_mel, one.log_mel) for one in whole[1:])


def test_processes_share_a_batch(tmp_path: Path) -> None:
    """Each sample is one process's, augmented as when there is one; who has none of a batch has nothing to learn."""
    made, collator = samples(train_tokenizer(REPLIES, 300), tmp_path / "samples")
    whole = [one["batch"] for one in islice(BatchStream(made, collator, 40, seed=5), 6)]
    shares = [
        [one["batch"] for one in islice(BatchStream(made, collator, 40, 5, rank=rank, processes=2), 6)]
        for rank in range(2)
    ]
    idle = 0
    for batch, *own in zip(whole, *shares, strict=True):
        assert sum(int(share.decisions.sum()) for share in own) == int(batch.decisions.sum())
        first = own[0].num_chunks[0]
        assert torch.equal(own[0].log_mel[:first], batch.log_mel[:first])
        if len(batch.num_chunks) > 1:
            second = own[1].num_chunks[0]
            assert torch.equal(own[1].log_mel[:second], batch.log_mel[first : first + second])
        else:
            idle += 1
            assert not own[1].decisions.any()
    assert idle
