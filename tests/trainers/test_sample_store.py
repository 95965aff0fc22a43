"""Samples in files are those that were written, or not there."""

from pathlib import Path

import pytest
import torch

from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from policies.features import LogMel
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, tiny_model
from tests.trainers.stored import store
from trainers.sample_store import SampleWriter
from trainers.samples import SampleMaker, StreamSample


def samples() -> list[StreamSample]:
    tokenizer = train_tokenizer(REPLIES, 300)
    maker = SampleMaker(tokenizer, tiny_model(tokenizer).layout, LogMel())
    scenarios = [ProactiveScenarios(Foley(), 0.8, (20, 24))(seed) for seed in range(3)]
    streams = [maker.stream(scenario) for scenario in scenarios]
    return [*streams, *(sound for s, own in zip(scenarios, streams, strict=True) for sound in maker.sounds(s, own))]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    made = samples()
    kept = store(made, tmp_path / "kept" / "samples")
    assert len(kept) == len(made)
    assert kept.lengths == [len(sample.sequence) for sample in made]
    assert kept.heard == sorted({label for sample in made for label in sample.heard})
    assert set(kept.labels) == {sample.label for sample in made}
    for one, other in zip(kept, made, strict=True):
        assert torch.equal(one.log_mel, other.log_mel)
        assert (one.sequence, one.label, one.heard) == (other.sequence, other.label, other.heard)
    assert kept[-1].label == made[-1].label
    assert [sample.label for sample in kept[1:3]] == [sample.label for sample in made[1:3]]


def test_what_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def interrupted() -> None:
        with SampleWriter(tmp_path / "samples") as writer:
            writer.add(samples()[0])
            raise KeyboardInterrupt

    (tmp_path / ".samples.123").mkdir()  # of a process that was killed
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())
