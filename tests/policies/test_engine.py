"""The exactness rules of the engine: it equals the training forward, and a batch equals each session alone."""

import itertools
import re

import numpy as np
import pytest
import torch

from envs.errors import AudioError, PolicyError
from policies.backbones import BACKBONES
from policies.engine import Engine, Sampling
from policies.modeling_lalm import LALM
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import noise, sharpened, tiny_compact, tiny_model
from tests.policies.exactness import (
    CHUNKS,
    check_batched_is_alone,
    check_engine_is_the_training_forward,
    play,
    turns_of,
)

both_backbones = pytest.mark.parametrize("backbone", list(BACKBONES))


@both_backbones
@pytest.mark.parametrize("window_chunks", [64, 6], ids=["whole stream", "with eviction"])
def test_engine_log_probabilities_equal_the_training_forwards(
    tokenizer: ReplyTokenizer, window_chunks: int, backbone: str
) -> None:
    check_engine_is_the_training_forward(tiny_model(tokenizer, window_chunks, backbone=backbone))


def with_sinks(tokenizer: ReplyTokenizer, sink_chunks: int) -> LALM:
    torch.manual_seed(0)
    return sharpened(LALM(tiny_compact(tokenizer, 6, sink_chunks)))


@pytest.mark.parametrize("sink_chunks", [1, 3])
def test_sinks_stay_in_sight_as_training_lays_them_out(tokenizer: ReplyTokenizer, sink_chunks: int) -> None:
    model = with_sinks(tokenizer, sink_chunks)
    check_engine_is_the_training_forward(model)
    check_batched_is_alone(model)


def test_sinks_are_heard_long_after(tokenizer: ReplyTokenizer) -> None:
    """Streams that differ in their first chunk alone are told apart for ever with sinks, and never without."""
    for sink_chunks, apart in ((0, False), (1, True)):
        engine = Engine(with_sinks(tokenizer, sink_chunks), 2)
        sessions = [engine.open(Sampling(threshold=2.0)) for _ in range(2)]
        for t in range(20):
            for i, session in enumerate(sessions):
                engine.push(session, noise(100 + i if t == 0 else t, 1))
            one, other = (event.probability for event in engine.step())
        assert (abs(one - other) > 1e-4) == apart


@both_backbones
def test_sessions_in_a_batch_equal_sessions_alone(tokenizer: ReplyTokenizer, backbone: str) -> None:
    check_batched_is_alone(tiny_model(tokenizer, 6, backbone=backbone))


def test_a_slot_changes_hands_while_others_go_on(tokenizer: ReplyTokenizer) -> None:
    """Session 1 plays on in its slot; after ten steps, session 2 leaves the other and session 3 takes it."""
    model = tiny_model(tokenizer, 6)
    engine, events = Engine(model, 2), {1: [], 2: [], 3: []}
    names = {engine.open(Sampling(None, 1.0, seed)): seed for seed in (1, 2)}
    began = {1: 0, 2: 0, 3: 10}
    for t in range(20):
        if t == 10:
            engine.close(next(session for session, seed in names.items() if seed == 2))
            names = {session: seed for session, seed in names.items() if seed == 1}
            names[engine.open(Sampling(None, 1.0, 3))] = 3
        for session, seed in names.items():
            first = (t - began[seed]) * 6400
            engine.push(session, noise(seed, CHUNKS)[first : first + 6400])
        for event in engine.step():
            events[names[event.session]].append(event)
    for seed, mine in events.items():
        for got, alone in zip(mine, play(model, [seed])[seed], strict=False):
            assert (got.decision, got.token_ids) == (alone.decision, alone.token_ids)
            assert got.probability == (
                None if alone.probability is None else pytest.approx(alone.probability, abs=1e-4)
            )
    assert [len(mine) for mine in events.values()] == [20, 10, 10]


def test_the_longest_reply_is_ended(tokenizer: ReplyTokenizer) -> None:
    model = tiny_model(tokenizer)
    with torch.no_grad():
        model.decision_head.bias.fill_(1e3)
    replies = [turn.reply for turn in turns_of(play(model, [1, 2])[1]) if turn.reply]
    longest = max(replies, key=len)
    assert (len(longest), longest[-1]) == (model.config.max_reply_tokens, model.layout.end)


def test_a_stalled_caller_is_caught_up_with(tokenizer: ReplyTokenizer) -> None:
    """More chunks than the window holds, pushed at once: one decision, and memory stays bounded."""
    model = tiny_model(tokenizer, 6)
    engine = Engine(model)
    session = engine.open(Sampling(threshold=2.0))  # never speaks
    engine.push(session, noise(3, 20))
    (event,) = engine.step()
    assert (event.chunk, event.decision) == (19, "silent")
    assert not engine.sessions[session].queue
    assert 0.0 < event.probability < 1.0


def test_a_reply_of_n_tokens_lasts_n_over_k_chunks(tokenizer: ReplyTokenizer) -> None:
    """The trained layout relies on it: a reply's chunks are drained as one run with one control token."""
    model = tiny_model(tokenizer)
    turns = turns_of(play(model, [1])[1])
    for turn, following in itertools.pairwise(turns):
        expected = 1 if turn.reply is None else model.layout.reply_chunks(len(turn.reply))
        assert following.chunk - turn.chunk == expected


def test_samples_may_come_in_any_pieces(tokenizer: ReplyTokenizer) -> None:
    """Pieces that end within a chunk change nothing; all samples at once are one run, which is decided on once."""
    model, audio = tiny_model(tokenizer), noise(5, 6)
    decisions, counts = [], []
    for size in (1000, 6400, len(audio)):
        engine = Engine(model)
        session = engine.open(Sampling(threshold=2.0))  # never speaks
        heard = []
        for first in range(0, len(audio), size):
            engine.push(session, audio[first : first + size])
            heard += engine.step()
        decisions.append([e.probability for e in heard])
        counts.append([e.chunk for e in heard])
    assert counts == [[*range(6)], [*range(6)], [5]]
    np.testing.assert_allclose(decisions[0], decisions[1], atol=1e-5)


def test_a_slot_is_clean_for_its_next_session(tokenizer: ReplyTokenizer) -> None:
    model, engine = tiny_model(tokenizer), Engine(tiny_model(tokenizer))
    for seed in (7, 8):
        session = engine.open(Sampling(None, 1.0, seed))
        events = []
        for t in range(10):
            engine.push(session, noise(seed, 10)[t * 6400 : (t + 1) * 6400])
            events += engine.step()
        engine.close(session)
    fresh = Engine(model)
    session = fresh.open(Sampling(None, 1.0, 8))
    for t in range(10):
        fresh.push(session, noise(8, 10)[t * 6400 : (t + 1) * 6400])
        (event,) = fresh.step()
        assert event.token_ids == events[t].token_ids
        assert event.probability == events[t].probability


def test_no_more_sessions_than_slots(tokenizer: ReplyTokenizer) -> None:
    engine = Engine(tiny_model(tokenizer))
    engine.open()
    with pytest.raises(PolicyError, match="slots are all taken"):
        engine.open()


BAD = {
    "the samples are int16, expected float32 in [-1, 1]; divide them by 32768": np.zeros(6400, np.int16),
    "the samples reach 3276.7, expected [-1, 1]; 16-bit samples": np.full(6400, 3276.7, np.float32),
    "sample 5 is nan": np.where(np.arange(6400) == 5, np.nan, 0.0),
    "the samples have the shape [6400, 2], expected [n], mono; average the channels": np.zeros((6400, 2), np.float32),
    "the samples are str": "beep",
}


@pytest.mark.parametrize("message", BAD)
def test_samples_that_cannot_be_used_are_refused_and_change_nothing(tokenizer: ReplyTokenizer, message: str) -> None:
    """The session goes on as if it had never been handed them, in the middle of a chunk as well."""
    model, audio = tiny_model(tokenizer), noise(4, 4)
    engine, twin = Engine(model), Engine(model)
    session, other = engine.open(), twin.open()
    for first in range(0, len(audio), 4000):
        with pytest.raises(AudioError, match=re.escape(f"session {session}: {message}")):
            engine.push(session, BAD[message])
        with pytest.raises(AudioError, match=r"session 0: the sample rate is 44100 Hz, expected 16000; resample"):
            engine.push(session, audio[first : first + 4000], 44_100)
        engine.push(session, audio[first : first + 4000], 16_000)
        twin.push(other, audio[first : first + 4000])
        for mine, its in zip(engine.step(), twin.step(), strict=True):
            assert (mine.probability, mine.token_ids) == (its.probability, its.token_ids)


def test_a_session_that_is_not_open_is_named(tokenizer: ReplyTokenizer) -> None:
    engine = Engine(tiny_model(tokenizer), 2)
    closed, opened = engine.open(), engine.open()
    engine.close(closed)
    with pytest.raises(PolicyError, match=rf"session {closed} is closed, expected .*; open are {opened}"):
        engine.push(closed, noise(0, 1))
    with pytest.raises(PolicyError, match=f"session {closed} is closed"):
        engine.close(closed)
    with pytest.raises(PolicyError, match="session 7 was never opened"):
        engine.push(7, noise(0, 1))
    assert [engine.open()] == [2], "closing twice must not free a slot twice"
    with pytest.raises(PolicyError, match="slots are all taken"):
        engine.open()
