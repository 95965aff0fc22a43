"""Times, replies and misses, by hand: a chunk is 0.4 s, and an action at step t takes effect at (t + 1) * 0.4 s."""

import numpy as np
import pytest
from beeps import beeps, cue, scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.episode import RESPOND, TOKENS, WAIT, Episode
from envs.errors import ScenarioError
from envs.matching import match
from envs.rewards import Reward
from envs.thinking import check_thinking
from envs.tokenizer import ByteTokenizer
from envs.trace import Trace

END = ByteTokenizer.end_id
PAD = ByteTokenizer.vocab_size


def episode(num_chunks=6, cues=(), thinking_s=0.0, user_speech=()):
    return Episode(scenario(num_chunks, cues, user_speech=user_speech), ByteTokenizer(), Reward.default(), thinking_s)


def ids(text):
    return ByteTokenizer().encode(text)


def test_a_reply_starts_at_its_chunks_end_and_sounds_through_the_next():
    e = episode()
    e.step(WAIT, [])
    e.step(RESPOND, [*ids("hi"), END, *ids("ignored"), PAD])
    assert not e.speaking
    reply = e.trace.replies[0]
    assert (reply.text, reply.num_tokens, reply.cue) == ("hi", 2, None)
    assert (reply.start_s, reply.end_s) == pytest.approx((0.8, 1.2))


def test_a_reply_goes_on_until_its_end_token():
    e = episode()
    e.step(RESPOND, [*ids("I he"), PAD])
    assert e.speaking
    assert e.trace.replies[0].end_s is None
    e.step(TOKENS, ids("ar ra"))
    e.step(TOKENS, [*ids("in"), END])
    assert (e.trace.replies[0].text, e.trace.replies[0].end_s) == ("I hear rain", pytest.approx(1.6))


def test_a_wait_closes_the_reply_at_once():
    e = episode()
    e.step(RESPOND, ids("hi"))
    e.step(WAIT, ids("unsaid"))
    assert (e.trace.replies[0].text, e.trace.replies[0].end_s) == ("hi", pytest.approx(0.8))


def test_the_scenarios_end_closes_the_reply():
    e = episode(num_chunks=2)
    e.step(WAIT, [])
    e.step(RESPOND, ids("hi"))
    assert e.over
    assert not e.speaking
    assert e.trace.replies[0].end_s == pytest.approx(0.8)


def test_tokens_in_silence_are_invalid_and_say_nothing():
    e = episode()
    record = e.step(TOKENS, ids("hi"))
    assert (record.invalid, record.kind, record.tokens, e.trace.replies) == (True, WAIT, (), [])
    assert record.rewards["invalid_action"] == pytest.approx(-0.1)


def test_to_respond_in_the_middle_of_a_reply_is_invalid_and_closes_it():
    e = episode()
    e.step(RESPOND, ids("hi"))
    record = e.step(RESPOND, ids("ho"))
    assert (record.invalid, len(e.trace.replies), e.trace.replies[0].text) == (True, 1, "hi")
    assert not e.speaking


def test_an_empty_reply_is_a_reply():
    e = episode(cues=(cue(0.1, 0.3, 2.0),))
    record = e.step(RESPOND, [END])
    assert (e.trace.replies[0].text, e.trace.replies[0].cue) == ("", 0)
    assert record.rewards["helpfulness"] == 0.0


def test_thinking_delays_the_reply():
    e = episode(cues=(cue(0.1, 0.3, 0.7),), thinking_s=0.5)
    assert e.answerable is None
    e.step(RESPOND, [END])
    assert (e.trace.replies[0].start_s, e.trace.replies[0].cue) == (pytest.approx(0.9), None)


def test_measured_thinking_is_drawn_from_the_scenarios_seed():
    measured = (0.05, 0.1, 0.2)
    drawn = [episode(40, thinking_s=measured).thinking_s for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == set(measured)


@pytest.mark.parametrize(("wrong", "said"), [((), "thinking_s is empty"), ((0.1, float("nan")), "thinking_s is nan")])
def test_thinking_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(ScenarioError, match=said):
        check_thinking(wrong)


def test_actions_do_not_overtake_each_other():
    e = episode()
    e.thinking_s[:2] = [2.0, 0.0]
    e.step(RESPOND, [END])
    e.step(RESPOND, [END])
    assert [r.start_s for r in e.trace.replies] == pytest.approx([2.4, 2.4])


def test_a_miss_is_charged_once_when_the_deadline_has_come():
    e = episode(cues=(cue(0.1, 0.3, 0.8, urgency=0.7),))
    costs = [e.step(WAIT, []).rewards["miss"] for _ in range(6)]
    assert costs == pytest.approx([0, -0.7, 0, 0, 0, 0])


def test_a_reply_at_the_very_deadline_is_no_miss():
    e = episode(cues=(cue(0.1, 0.3, 0.8),))
    e.step(WAIT, [])
    record = e.step(RESPOND, [END])
    assert (e.trace.replies[0].cue, record.rewards["miss"]) == (0, 0.0)


def test_what_is_unanswered_at_the_scenarios_end_is_missed():
    e = episode(num_chunks=2, cues=(cue(0.1, 0.3, 9.0),))
    assert [e.step(WAIT, []).rewards["miss"] for _ in range(2)] == pytest.approx([0, -1])


def test_overlap_costs_in_the_chunk_in_which_both_are_heard():
    e = episode(user_speech=((0.5, 0.9),))  # the user is heard in chunks 1 and 2
    costs = [
        e.step(RESPOND, ids("a")).rewards["overlap"],  # sounds in chunk 1
        e.step(TOKENS, ids("b")).rewards["overlap"],  # in chunk 2
        e.step(TOKENS, [END]).rewards["overlap"],  # in chunk 3
    ]
    assert costs == pytest.approx([-0.1, -0.1, 0.0])
    assert episode(user_speech=((0.5, 0.9),)).step(WAIT, []).rewards["overlap"] == 0.0


def test_a_trace_survives_json():
    e = episode(cues=(cue(0.1, 0.3, 2.0),), user_speech=((0.5, 0.9),))
    e.step(RESPOND, [*ids("hé"), END])
    assert Trace.from_json(e.trace.to_json()) == e.trace


actions = st.tuples(st.sampled_from([WAIT, RESPOND, TOKENS]), st.lists(st.integers(0, PAD), max_size=4))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.lists(actions, min_size=12, max_size=12))
def test_whatever_the_agent_does_the_books_balance(seed, plan):
    e = Episode(beeps(seed), ByteTokenizer(), Reward.default())
    for kind, tokens in plan:
        if not e.over:
            e.step(kind, tokens)
    trace = e.trace
    assert e.over
    assert not e.speaking
    assert all(r.end_s is not None and r.end_s >= r.start_s for r in trace.replies)
    assert [r.cue for r in trace.replies] == match([r.start_s for r in trace.replies], trace.cues)
    missed = -sum(step.rewards["miss"] for step in trace.steps)
    answered = {r.cue for r in trace.replies}
    assert missed == pytest.approx(sum(c.urgency for i, c in enumerate(trace.cues) if i not in answered))
    assert sum(step.rewards["false_alarm"] for step in trace.steps) == -sum(r.cue is None for r in trace.replies)
    assert trace.total_reward == pytest.approx(float(np.sum([list(s.rewards.values()) for s in trace.steps])))
