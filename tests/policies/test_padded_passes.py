"""Passes that are padded to few shapes, as a GPU records them: on a CPU each is run where a graph would be launched."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from policies.engine import Engine, Sampling
from policies.engine.runner import ModelRunner
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import noise, sharpened, tiny_compact, tiny_model
from tests.policies.exactness import check_batched_is_alone, check_engine_is_the_training_forward, play

Work = Callable[[], None]


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """What was recorded, instead of a launch."""
    works = list[Work]()

    def record(work: Work) -> Work:
        works.append(work)
        return work

    monkeypatch.setattr("policies.engine.engine.ModelRunner", partial(ModelRunner, record=record))
    return works


@pytest.mark.parametrize("window_chunks", [64, 6], ids=["whole stream", "with eviction"])
def test_they_are_the_training_forward(tokenizer: ReplyTokenizer, window_chunks: int, recorded: list[Work]) -> None:
    check_engine_is_the_training_forward(tiny_model(tokenizer, window_chunks))
    assert recorded


def test_they_are_it_in_any_batch_and_behind_sinks(tokenizer: ReplyTokenizer) -> None:
    torch.manual_seed(0)
    model = sharpened(LALM(tiny_compact(tokenizer, 6, 1)))
    check_engine_is_the_training_forward(model)
    check_batched_is_alone(model)


def test_an_engine_that_was_warmed_up_records_nothing_more(tokenizer: ReplyTokenizer, recorded: list[Work]) -> None:
    engine = Engine(tiny_model(tokenizer, 6), 3)
    engine.warm_up()
    before = len(recorded)
    assert before > 0
    sessions = [engine.open(Sampling(None, 1.0, seed)) for seed in range(3)]
    for t in range(20):
        for session in sessions[: 1 + t % 3]:
            engine.push(session, noise(session, 1))
        events = engine.step()
        assert not [event.error for event in events if event.error]
    assert len(recorded) == before


def test_a_shape_is_recorded_once(tokenizer: ReplyTokenizer, recorded: list[Work]) -> None:
    """Three sessions of a short window: one, two or three of them, with a chunk or a token each."""
    model = tiny_model(tokenizer, 6)
    play(model, [1, 2, 3])
    assert 3 <= len(recorded) <= 6
