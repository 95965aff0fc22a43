from beeps import cue
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.matching import Matcher, match

seconds = st.floats(0.0, 20.0, allow_nan=False)


@st.composite
def cue_lists(draw):
    onsets = sorted(draw(st.lists(seconds, max_size=6)))
    return [cue(t, t + 0.5, t + 0.5 + draw(st.floats(0.1, 6.0))) for t in onsets]


def test_a_reply_takes_the_earliest_open_cue():
    cues = [cue(1.0, 2.0, 6.0), cue(3.0, 4.0, 8.0)]
    assert match([0.9, 3.5, 3.9, 4.0], cues) == [None, 0, 1, None]


def test_both_ends_of_the_window_count():
    assert match([1.0], [cue(1.0, 2.0, 6.0)]) == [0]
    assert match([6.0], [cue(1.0, 2.0, 6.0)]) == [0]
    assert match([6.0001], [cue(1.0, 2.0, 6.0)]) == [None]


def test_find_leaves_the_cue_open():
    matcher = Matcher([cue(1.0, 2.0, 6.0)])
    assert [matcher.find(2.0), matcher.find(2.0), matcher.take(2.0), matcher.find(2.0)] == [0, 0, 0, None]


def test_a_missed_cue_is_reported_once_and_takes_no_reply():
    matcher = Matcher([cue(1.0, 2.0, 6.0), cue(1.0, 2.0, 9.0)])
    assert [matcher.expire(5.9), matcher.expire(6.0), matcher.expire(7.0)] == [[], [0], []]
    assert matcher.take(6.0) == 1


@settings(max_examples=50, deadline=None)
@given(cue_lists(), st.lists(seconds, max_size=8).map(sorted))
def test_matching_is_one_to_one_inside_windows_and_leaves_no_reply_beside_an_open_cue(cues, replies):
    taken = match(replies, cues)
    answered = [index for index in taken if index is not None]
    assert len(set(answered)) == len(answered)
    for i, (t, index) in enumerate(zip(replies, taken, strict=True)):
        fits = [k for k, c in enumerate(cues) if c.onset_s <= t <= c.deadline_s and k not in taken[:i]]
        assert index == (fits[0] if fits else None)
