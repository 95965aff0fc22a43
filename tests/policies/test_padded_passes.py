"""Passes that are padded to few shapes, as a GPU records them: on a CPU each is run where a graph would be launched."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from unittest.mock import MagicMock

import pytest
import torch

from policies.engine import Engine, Sampling, StepEvent
from policies.engine.cuda_graphs import GraphRecorder
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


@pytest.mark.parametrize("warm", [True, False])
def test_callers_who_stall_get_what_they_get_without(
    tokenizer: ReplyTokenizer, warm: bool, recorded: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole queues at once, from the first chunk on, beside a reply and a long instruction; several sizes of memory."""
    monkeypatch.setattr("policies.engine.cuda_graphs._COLUMNS", 16)
    torch.manual_seed(0)
    model = sharpened(LALM(tiny_compact(tokenizer, 12, 1)))

    def events() -> list[StepEvent]:
        engine, found = Engine(model, 5), list[StepEvent]()
        if warm:
            engine.warm_up()
        before = len(recorded)
        sessions = [engine.open(Sampling(None, 1.0, seed), range(30, 30 + 4 * seed)) for seed in range(5)]
        engine.push(sessions[0], noise(0, 10))  # by itself, without a token before it: the most sound of its size
        found += engine.step()
        for t in range(12):
            for session in sessions:
                chunks = [10, 1, 0, 3, 20][(session + t) % 5]
                engine.push(session, noise(100 * t + session, chunks))
            found += engine.step()
        assert not (warm and len(recorded) > before)
        return found

    padded, works = events(), len(recorded)
    assert works
    monkeypatch.setattr("policies.engine.engine.ModelRunner", ModelRunner)
    plain = events()
    assert len(recorded) == works
    assert [(e.session, e.chunk, e.decision, e.token_ids) for e in padded] == [
        (e.session, e.chunk, e.decision, e.token_ids) for e in plain
    ]
    for mine, other in zip(padded, plain, strict=True):
        assert mine.error is None
        assert mine.log_prob == pytest.approx(other.log_prob, abs=1e-4)
        assert mine.token_log_probs == pytest.approx(other.token_log_probs, abs=1e-4)


class _Stream:
    """Stands in for a GPU's."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.waited_for = device, list["_Stream"]()

    def wait_stream(self, other: "_Stream") -> None:
        self.waited_for.append(other)


def test_a_recorder_waits_for_the_gpu_that_it_records_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asked the first GPU, whichever the policy was on: inputs were overwritten under the first run."""
    first, second = (_Stream(torch.device("cuda", i)) for i in range(2))
    made = list[_Stream]()
    emptied = list[bool]()

    def make(device: torch.device) -> _Stream:
        made.append(_Stream(device))
        return made[-1]

    monkeypatch.setattr(torch.cuda, "Stream", make)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=first.device: [first, second][device.index])
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", MagicMock)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    runs = list[int]()
    GraphRecorder(second.device)(lambda: runs.append(len(runs)))
    assert runs == [0, 1]
    assert made[0].waited_for == [second]
    assert (first.waited_for, second.waited_for) == ([], made)
    assert emptied, "what training keeps cannot be had while a graph is recorded"
