import pytest

from envs.text_scores import chrf, helpfulness, key_fact_share, repeated_share

GLASS = ("I hear glass breaking. Watch out for the shards.",)


def test_the_reference_itself_scores_one():
    assert helpfulness(GLASS[0], GLASS, ("glass", "shard")) == pytest.approx(1.0)


def test_chrf_takes_the_best_reference():
    assert chrf(GLASS[0], ("something else", *GLASS)) == pytest.approx(1.0)


def test_chrf_is_the_one_of_its_definition():
    """Of single characters 2 of 3 match, of pairs 1 of 2, of triples 0 of 1, on both sides; longer ones there are none.

    So precision, recall and their F are (2/3 + 1/2 + 0) / 3.
    """
    assert chrf("abc", ("abd",)) == pytest.approx(7 / 18)
    assert helpfulness("abc", ("abd",), ("abc", "x")) == pytest.approx((7 / 18 + 1 / 2) / 2)


@pytest.mark.parametrize(
    ("text", "share"),
    [("a b c d e", 0.0), ("a b c d a b c d", 1 / 5), ("a b c", 0.0), ("A b c d. a b c d.", 1 / 5)],
)
def test_repeated_4_grams_by_hand(text, share):
    assert repeated_share(text) == pytest.approx(share)


def test_nothing_said_or_nothing_to_say_scores_zero():
    assert helpfulness(" ", ("A siren.",), ()) == 0.0
    assert chrf("", GLASS) == chrf("  ", GLASS) == chrf("words", ()) == 0.0
    assert helpfulness("", GLASS, ("glass",)) == 0.0


def test_scores_lie_between_zero_and_one_and_rank_texts():
    close, far = (helpfulness(t, GLASS, ("glass",)) for t in ("There is glass breaking.", "zzz qqq"))
    assert 0.0 <= far < close < 1.0


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The Smoke alarm rings", 1.0),
        ("a detector beeps", 0.5),
        ("unsmoked", 0.0),  # only at the start of a word
        ("smoky alarms", 0.5),  # but a word may go on
        ("", 0.0),
    ],
)
def test_key_facts_match_at_word_starts_in_any_case(text, share):
    assert key_fact_share(text, ("smoke", "alarm|detector")) == share


def test_a_fact_may_hold_characters_that_mean_something_to_a_pattern():
    assert key_fact_share("c++ (beta)", ("c++ (",)) == 1.0


def test_without_facts_nothing_is_left_out():
    assert key_fact_share("anything", ()) == 1.0


def test_key_facts_of_a_language_without_spaces_match_anywhere():
    """A reference translation states all of its own facts."""
    assert key_fact_share("我的哥哥想要两个苹果。", ("哥哥", "三个|两个", "梨")) == 2 / 3
