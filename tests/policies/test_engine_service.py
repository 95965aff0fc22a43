"""The engine as a service: who comes in, who is sent away, what a failure costs, and what it says of itself."""

import itertools
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.errors import CapacityError, PolicyError, SessionError
from policies.engine import Engine, Sampling, SimulatedClock, StepEvent
from policies.engine.engine import MOST_WAITING_S
from policies.engine.memory import SlotColumns
from policies.engine.recording import Recording
from policies.engine.replay import replay
from policies.engine.sampling import biased, draw_tokens
from policies.lalm_policy import LALMPolicy
from policies.sequences import Turn, collate, lay_out
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import noise, tiny_model
from tests.policies.exactness import check_engine_is_the_training_forward

NEVER, ALWAYS = Sampling(threshold=2.0), Sampling(threshold=0.0)


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def arrival(self, chunk: int) -> float:
        return self.time

    def emission(self, arrival: float) -> float:
        return self.time


def test_a_full_engine_refuses_at_once_and_names_its_limit(tokenizer: ReplyTokenizer) -> None:
    engine = Engine(tiny_model(tokenizer), 2)
    first = engine.open()
    engine.open()
    with pytest.raises(CapacityError, match="2 slots are all taken"):
        engine.open()
    engine.close(first)
    engine.open()


def test_a_session_that_stops_sending_is_freed(tokenizer: ReplyTokenizer) -> None:
    clock = Hand()
    engine = Engine(tiny_model(tokenizer), 2, clock=clock, idle_limit_s=10.0)
    gone, here = engine.open(NEVER), engine.open(NEVER)
    for t in range(3):
        clock.time = 5.0 * t
        engine.push(here, noise(1, 3)[t * 6400 : (t + 1) * 6400])
        events = engine.step()
        assert [e.session for e in events] == [here]
    clock.time = 11.0
    (ended,) = engine.step()
    assert (ended.session, ended.decision) == (gone, "ended")
    assert "pushed nothing for 11.0 s, expected at most 10.0 s" in str(ended.error)
    with pytest.raises(SessionError, match="is closed"):
        engine.push(gone, noise(1, 1))
    engine.open()  # its slot is free


def test_a_step_that_fails_ends_its_sessions_and_no_others(
    tokenizer: ReplyTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tokenizer)
    engine = Engine(model, 3)
    hurt, safe = engine.open(NEVER), engine.open(NEVER)
    engine.push(safe, noise(2, 1))
    before = engine.step()
    engine.push(hurt, noise(3, 1))

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", fail)
        (ended,) = engine.step()
    assert (ended.session, ended.decision) == (hurt, "ended")
    assert isinstance(ended.error.__cause__, RuntimeError)
    engine.push(safe, noise(2, 2)[6400:])
    after = engine.step()
    alone = Engine(model)
    session = alone.open(NEVER)
    expected = []
    for t in range(2):
        alone.push(session, noise(2, 2)[t * 6400 : (t + 1) * 6400])
        expected += alone.step()
    assert [e.probability for e in before + after] == pytest.approx([e.probability for e in expected], abs=1e-5)
    assert engine.open(NEVER) > safe  # the slot of the failed one is free


def test_audio_that_no_step_takes_is_refused_and_the_session_goes_on(tokenizer: ReplyTokenizer) -> None:
    engine = Engine(tiny_model(tokenizer))
    session = engine.open(NEVER)
    whole = np.zeros(int(MOST_WAITING_S * 16_000), np.float32)
    engine.push(session, whole)
    with pytest.raises(SessionError, match=r"120 s of audio would be waiting.*call step\(\)"):
        engine.push(session, whole[:1600])
    (event,) = engine.step()
    assert event.chunk == 299
    engine.push(session, whole[:6400])
    assert engine.step()[0].chunk == 300


def test_sessions_come_and_go_from_other_threads(tokenizer: ReplyTokenizer) -> None:
    """What a session hears and decides does not depend on who opens, pushes and closes meanwhile; no slot is lost."""
    model, audio = tiny_model(tokenizer), noise(4, 12)
    alone = Engine(model)
    session = alone.open(NEVER)
    expected = []
    for t in range(12):
        alone.push(session, audio[t * 6400 : (t + 1) * 6400])
        expected += [e.probability for e in alone.step()]
    engine = Engine(model, 4)
    mine = engine.open(NEVER)
    enough, failures = threading.Event(), list[Exception]()

    def visit(seed: int) -> None:
        try:
            while not enough.is_set():
                with suppress(CapacityError):  # slots that were left in the middle of a step are free after it
                    other = engine.open(ALWAYS)
                    engine.push(other, noise(seed, 2))
                    engine.close(other)
        except Exception as error:
            failures.append(error)

    visitors = [threading.Thread(target=visit, args=(seed,)) for seed in (5, 6)]
    for visitor in visitors:
        visitor.start()
    got = []
    for t in range(12):
        engine.push(mine, audio[t * 6400 : (t + 1) * 6400])
        got += [e.probability for e in engine.step() if e.session == mine]
    enough.set()
    for visitor in visitors:
        visitor.join()
    assert not failures
    assert got == pytest.approx(expected, abs=1e-4)
    assert len([engine.open() for _ in range(3)]) == 3


def test_a_slot_left_in_the_middle_of_a_step_is_given_out_after_it(
    tokenizer: ReplyTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tokenizer)
    engine, encode = Engine(model), model.encode
    leaver = engine.open(NEVER)
    engine.push(leaver, noise(1, 1))

    def leave(features: torch.Tensor) -> torch.Tensor:
        engine.close(leaver)
        with pytest.raises(CapacityError):
            engine.open(NEVER)
        return encode(features)

    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", leave)
        assert engine.step() == []
    engine.open(NEVER)


def test_an_interruption_ends_who_was_in_the_step_and_loses_no_slot(
    tokenizer: ReplyTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tokenizer)
    engine = Engine(model)
    engine.push(engine.open(NEVER), noise(1, 1))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    assert not engine.sessions
    engine.push(engine.open(NEVER), noise(1, 1))
    assert len(engine.step()) == 1


def test_a_policy_goes_on_after_a_failed_step(tokenizer: ReplyTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tokenizer)
    policy, everyone = LALMPolicy(model, tokenizer, 2), np.ones(2, bool)
    policy.reset(everyone)
    heard = {"audio": np.stack([noise(1, 1), noise(2, 1)])}

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", fail)
        with pytest.raises(SessionError, match="the step failed: out of memory"):
            policy.act(heard)
    policy.reset(everyone)
    assert policy.act(heard)["kind"].shape == (2,)


def test_after_a_stall_a_reply_begins_at_the_pace_of_one_chunk(tokenizer: ReplyTokenizer) -> None:
    """Only who was speaking has time to make up for; a reply that begins has not been late."""
    model = tiny_model(tokenizer)
    for full_duplex in (False, True):
        engine = Engine(model, full_duplex=full_duplex)
        session = engine.open(ALWAYS)
        engine.push(session, noise(10, 5))
        (event,) = engine.step()
        assert len(event.token_ids) == model.layout.tokens_per_chunk


def test_decisions_that_are_all_but_certain_are_exact_too(tokenizer: ReplyTokenizer) -> None:
    for bias in (-12.0, 12.0):
        model = tiny_model(tokenizer)
        with torch.no_grad():
            model.decision_head.bias.fill_(bias)
        check_engine_is_the_training_forward(model, need_replies=False)


def test_full_duplex_decides_in_the_middle_of_replies_as_training_lays_it_out(tokenizer: ReplyTokenizer) -> None:
    model, audio = tiny_model(tokenizer, 6), noise(7, 40)
    engine = Engine(model, full_duplex=True)
    session = engine.open(Sampling(None, 1.0, 3))
    events = []
    for t in range(40):
        engine.push(session, audio[t * 6400 : (t + 1) * 6400])
        events += engine.step()
    assert all(e.probability is not None for e in events)
    assert any(e.reply_cut for e in events)
    assert any(e.decision == "speaking" for e in events)
    for before, event in itertools.pairwise(events):
        going_on = before.decision in {"response", "speaking"} and not before.reply_ended
        assert event.decision in ({"speaking", "silent"} if going_on else {"response", "silent"})
        assert event.reply_cut == (going_on and event.decision == "silent")
    turns = [Turn(e.chunk, e.token_ids if e.decision != "silent" else None) for e in events]
    sequence = lay_out(model.layout, turns)
    with torch.no_grad():
        embeddings = model.encode(model.make_features().whole(torch.from_numpy(audio))).flatten(0, 1)
        batch = collate([sequence], [40], model.layout.audio_tokens_per_chunk)
        hidden = model.hidden_states(batch, embeddings)[0]
        decisions = model.decision_log_probs(hidden[[i - 1 for i in sequence.decisions]])[:, 1].exp()
        contents = model.content_log_probs(hidden[[i - 1 for i in sequence.contents]])
    np.testing.assert_allclose(decisions, [e.probability for e in events], atol=1e-4)
    tokens = [token for e in events for token in e.token_ids]
    said = [log_prob for e in events for log_prob in e.token_log_probs]
    np.testing.assert_allclose(contents[range(len(tokens)), tokens], said, atol=1e-4)


def test_memory_stays_where_it_was_over_thousands_of_chunks(tokenizer: ReplyTokenizer) -> None:
    """A talking session: its columns are those of its window, and no structure of it grows."""
    model = tiny_model(tokenizer, 6)
    engine = Engine(model)
    session = engine.open(Sampling(None, 1.0, 1))
    own, highest = engine.sessions[session], []
    audio = noise(8, 4)
    for t in range(1500):
        engine.push(session, audio[t % 4 * 6400 : (t % 4 + 1) * 6400])
        engine.step()
        highest.append(engine._runner.memory.columns[own.slot].used)
    assert max(highest[750:]) <= max(highest[:750]) + model.config.max_reply_tokens  # in 750 chunks it would grow
    assert len(own.stream._block_positions) <= 6
    assert len(own.arrivals) == 0


def test_columns_are_given_again_when_their_chunk_has_left_the_window() -> None:
    columns = SlotColumns(2, 10)
    assert columns.take([0, 0, 1]) == [2, 3, 4]
    assert columns.used == 5
    columns.evict(1)
    assert columns.take([2, 2, 2]) == [2, 3, 5]
    columns.evict(3)
    assert columns.used == 2


def test_the_bias_is_a_dial_between_misses_and_false_alarms(tokenizer: ReplyTokenizer) -> None:
    model = tiny_model(tokenizer)
    engine = Engine(model, 3)
    dialled = [engine.open(replace(NEVER, bias=bias)) for bias in (-2.0, 0.0, 2.0)]
    for session in dialled:
        engine.push(session, noise(9, 1))
    low, plain, high = (e.probability for e in engine.step())
    odds = np.log(plain / (1 - plain))
    assert low == pytest.approx(1 / (1 + np.exp(-(odds - 2.0))), abs=1e-6)
    assert high == pytest.approx(1 / (1 + np.exp(-(odds + 2.0))), abs=1e-6)


def test_biased_log_probabilities_are_a_distribution() -> None:
    rows = torch.tensor([[0.2, 0.8], [0.9, 0.1]]).log()
    np.testing.assert_allclose(biased(rows, [1.5, 0.0]).exp().sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(biased(rows, [1.5, 0.0])[1], rows[1], atol=1e-6)


def test_top_p_keeps_the_fewest_tokens_that_have_the_share() -> None:
    log_probs = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    rng = np.random.default_rng(0)
    assert draw_tokens(log_probs, [Sampling(None, 1e-310)], [rng]) == log_probs.argmax(-1).tolist()
    drawn = [draw_tokens(log_probs, [Sampling(None, 1.0, top_p=0.7)], [rng])[0] for _ in range(400)]
    assert set(drawn) == {0, 1}
    assert drawn.count(0) / 400 == pytest.approx(0.5 / 0.8, abs=0.07)
    everything = [draw_tokens(log_probs, [Sampling(None, 1.0)], [rng])[0] for _ in range(400)]
    assert set(everything) == {0, 1, 2, 3}


def test_a_reply_ends_at_its_length_and_at_a_stop(tokenizer: ReplyTokenizer) -> None:
    model = tiny_model(tokenizer)
    free = _reply(model, ALWAYS)
    assert len(free) > 3
    assert _reply(model, replace(ALWAYS, max_reply_tokens=3)) == [*free[:2], model.layout.end]
    assert _reply(model, replace(ALWAYS, stop=((free[1],),)))[-1] == model.layout.end
    assert _reply(model, replace(ALWAYS, stop=((free[0], free[1]),))) == [*free[:2], model.layout.end]


def _reply(model, sampling: Sampling) -> list[int]:
    engine, reply = Engine(model), []
    session = engine.open(sampling)
    for t in range(8):
        engine.push(session, noise(10, 8)[t * 6400 : (t + 1) * 6400])
        (event,) = engine.step()
        reply += event.token_ids
        if event.reply_ended:
            return reply
    return reply


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_p": 0.0, "bias": float("nan")}, "bias is nan.*top_p is 0.0"),
        ({"max_reply_tokens": 0}, "max_reply_tokens is 0"),
        ({"stop": ((),)}, "runs of at least one id"),
    ],
)
def test_sampling_that_means_nothing_is_refused_all_at_once(setting: dict[str, object], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        Sampling(**setting)


def test_a_simulated_clock_thinks_as_long_as_it_is_told(tokenizer: ReplyTokenizer) -> None:
    for thinking, possible in ((0.05, {0.05}), ([0.1, 0.3], {0.1, 0.3})):
        engine = Engine(tiny_model(tokenizer), clock=SimulatedClock(thinking))
        session = engine.open(NEVER)
        latencies = set()
        for t in range(12):
            engine.push(session, noise(11, 12)[t * 6400 : (t + 1) * 6400])
            (event,) = engine.step()
            latencies.add(round(event.decision_latency_s, 6))
        assert latencies == possible
    with pytest.raises(PolicyError, match="expected a number of seconds from 0 on"):
        SimulatedClock(-1.0)


def test_statistics_count_what_happened_and_read_as_prometheus(tokenizer: ReplyTokenizer) -> None:
    engine = Engine(tiny_model(tokenizer), 2, clock=SimulatedClock([0.5]))
    session = engine.open(ALWAYS)
    engine.push(session, noise(12, 1))
    (event,) = engine.step()
    numbers = engine.stats.scalars()
    assert (numbers["decisions"], numbers["responses"], numbers["stalls"]) == (1, 1, 1)  # half a second is too late
    assert numbers["reply_tokens"] == len(event.token_ids)
    assert (numbers["occupancy"], numbers["batch"]) == (0.5, 1)
    assert numbers["decision_latency_p50_s"] == 0.6  # the bound above it
    text = engine.stats.prometheus()
    assert "soundflow_stalls_total 1\n" in text
    assert 'soundflow_decision_latency_seconds_bucket{le="0.4"} 0\n' in text
    assert 'soundflow_decision_latency_seconds_bucket{le="0.6"} 1\n' in text
    assert 'soundflow_decision_latency_seconds_bucket{le="+Inf"} 1\n' in text
    assert "soundflow_decision_latency_seconds_sum 0.5\n" in text


def test_a_recorded_live_trace_replays_to_the_same_decisions(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    """Sessions that come late, stall, speak and leave, on the wall's clock; then from a file, simulated."""
    model, recording = tiny_model(tokenizer, 6), Recording()
    engine = Engine(model, 3, recording=recording)
    names = {seed: engine.open(Sampling(None, 1.0, seed, stop=((1, 2),))) for seed in (1, 2)}
    live = []
    for t in range(16):
        if t == 5:
            names[3] = engine.open(Sampling(threshold=0.4), instruction=[5, 6, 7])
        if t == 11:
            engine.close(names.pop(1))
        for seed, session in names.items():
            if seed != 2 or t % 3:  # the second one stalls now and then, and catches up
                engine.push(session, noise(seed, 40)[t * 7000 : (t + 1) * 7000])
        live.append(engine.step())
    engine.push(names[2], noise(2, 40)[-6400:])
    engine.push(names[3], noise(3, 40)[-6400:])
    live.append(_leave_within_a_step(engine, names[3]))
    engine.push(names[2], noise(2, 1))
    live.append(engine.step())
    recording.save(tmp_path / "trace.safetensors")
    loaded = Recording.load(tmp_path / "trace.safetensors")
    again = list(replay(model, loaded, 3))
    measured = [e.decision_latency_s for step in live for e in step if e.decision_latency_s is not None]
    assert loaded.thinking_times == measured  # what a simulation may draw from
    assert len(again) == len(live)
    for before, after in zip(live, again, strict=True):
        assert [replace(e, embeddings=None) for e in before] == [replace(e, embeddings=None) for e in after]


def _leave_within_a_step(engine: Engine, leaver: int) -> list[StepEvent]:
    encode = engine.model.encode

    def leave(features: torch.Tensor) -> torch.Tensor:
        engine.close(leaver)
        return encode(features)

    engine.model.encode = leave
    try:
        return engine.step()
    finally:
        del engine.model.encode


def test_a_session_is_told_to_respond_and_to_stop_and_replays_so(tokenizer: ReplyTokenizer) -> None:
    """What a client asks for: a reply at a chunk that nothing called for, its end in the middle, another threshold."""
    model, recording = tiny_model(tokenizer), Recording()
    model.lm_head.weight.data[model.layout.end] = 0.0  # long replies
    engine = Engine(model, 1, recording=recording, chunks_per_step=1)
    session = engine.open(NEVER)
    engine.push(session, noise(1, 6))
    assert engine.waiting_chunks == 6
    engine.steer(session, respond_at=2)
    live = [engine.step() for _ in range(4)]
    engine.steer(session, cut=True)
    live += [engine.step()]
    engine.steer(session, sampling=ALWAYS)
    live += [engine.step()]
    assert engine.waiting_chunks == 0
    decisions = [e.decision for (e,) in live]
    assert decisions == ["silent", "silent", "response", "speaking", "silent", "response"]
    again = list(replay(model, recording, 1, chunks_per_step=1))
    assert [replace(e, embeddings=None) for (e,) in again] == [replace(e, embeddings=None) for (e,) in live]
    with pytest.raises(SessionError, match="never opened"):
        engine.steer(7, cut=True)


def test_a_session_that_opens_no_reply_goes_on_with_one_that_was_asked_for(tokenizer: ReplyTokenizer) -> None:
    engine = Engine(tiny_model(tokenizer), full_duplex=True)
    session = engine.open(replace(ALWAYS, opens=False))
    engine.steer(session, respond_at=2)
    decisions = []
    for chunk in noise(1, 5).reshape(5, -1):
        engine.push(session, chunk)
        decisions += [event.decision for event in engine.step()]
    assert decisions[:4] == ["silent", "silent", "response", "speaking"]


def test_a_step_that_takes_one_chunk_decides_as_if_each_had_come_alone(tokenizer: ReplyTokenizer) -> None:
    model = tiny_model(tokenizer)
    whole, alone = Engine(model, chunks_per_step=1), Engine(model)
    late, early = whole.open(NEVER), alone.open(NEVER)
    whole.push(late, noise(1, 3))
    for t in range(3):
        alone.push(early, noise(1, 3)[t * 6400 : (t + 1) * 6400])
        (a,), (b,) = whole.step(), alone.step()
        assert (a.chunk, a.probability) == (b.chunk, b.probability)


def test_a_file_that_is_no_recording_is_refused(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    tiny_model(tokenizer).save_pretrained(tmp_path)
    with pytest.raises(PolicyError, match=r"model\.safetensors: no recording"):
        Recording.load(tmp_path / "model.safetensors")
    (tmp_path / "text").write_text("x" * 100)
    with pytest.raises(PolicyError, match="text: the recording cannot be read"):
        Recording.load(tmp_path / "text")


def test_an_engine_needs_a_slot_and_a_sampling_a_seed(tokenizer: ReplyTokenizer) -> None:
    with pytest.raises(PolicyError, match="num_slots is 0, expected at least 1"):
        Engine(tiny_model(tokenizer), 0)
    with pytest.raises(PolicyError, match="chunks_per_step is 0, expected None or at least 1"):
        Engine(tiny_model(tokenizer), chunks_per_step=0)
    with pytest.raises(PolicyError, match="seed is -1, expected a whole number from 0 on"):
        Sampling(seed=-1)
