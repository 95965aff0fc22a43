"""Word error rate, BLEU and choices: cases counted by hand, and what a bootstrap over items has to keep."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from envs.errors import ScenarioError
from envs.text_metrics import (
    accuracies,
    bleu_signature,
    chosen,
    corpus_bleu,
    refuses,
    states,
    word_error_rates,
)


def test_word_errors_are_those_counted_by_hand() -> None:
    """Five words, one of them another and one missing; then two words and one too many: 3 errors in 7 words."""
    references = ["HE BEGAN A COURSE TODAY", "DON'T GO"]
    heard = ["he begun a course", "Don't, go. now!"]
    rates = word_error_rates(references, heard)
    assert rates["wer"].value == pytest.approx(3 / 7)
    assert rates["wer"].count == 7
    kinds = {name: rates[f"{name}_rate"].value for name in ("substitution", "deletion", "insertion")}
    assert kinds == pytest.approx({"substitution": 1 / 7, "deletion": 1 / 7, "insertion": 1 / 7})
    assert word_error_rates(references, ["", ""])["wer"].value == 1.0
    assert word_error_rates(references, references)["wer"].value == 0.0


def test_an_interval_of_word_errors_resamples_items() -> None:
    """One item of ten is lost whole: a bootstrap over words would be far narrower."""
    references = ["a b c d e f g h i j"] * 10
    wer = word_error_rates(references, ["", *references[1:]])["wer"]
    assert wer.value == pytest.approx(0.1)
    assert (wer.low, wer.high) == pytest.approx((0.0, 0.3), abs=0.01)


def test_bleu_is_the_one_of_its_definition() -> None:
    """Five words of which four are right: 1-grams 4/5, 2-grams 3/4, 3-grams 2/3, 4-grams 1/2, of the same length."""
    bleu = corpus_bleu(["the cat sat down today"], ["the cat sat down now"], "13a")
    assert bleu.value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    brief = corpus_bleu(["the cat sat down today"], ["the cat sat down"], "13a")
    assert brief.value == pytest.approx(100 * np.exp(1 - 5 / 4))  # the brevity penalty alone


@pytest.mark.parametrize("tokenizer", ["13a", "zh"])
def test_bleu_of_a_corpus_is_sacrebleus_with_its_signature(tokenizer: str) -> None:
    references = ["今天下雨。", "请关上门。谢谢。", "the cat sat on the mat"]
    said = ["今天下大雨。", "请关门。谢谢。", "the cat is on the mat"]
    ours, theirs = corpus_bleu(references, said, tokenizer), BLEU(tokenize=tokenizer)
    assert ours.value == pytest.approx(theirs.corpus_score(said, [references]).score)
    assert ours.low is not None
    assert ours.high is not None
    assert ours.low <= ours.value <= ours.high
    assert ours.low < ours.high
    assert bleu_signature(tokenizer) == str(theirs.get_signature())
    assert f"tok:{tokenizer}|" in bleu_signature(tokenizer)


CHOICES = ["A child", "A woman", "An adult man", "Woman and child"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("a woman", 1),
        ("That was a WOMAN speaking.", 1),
        ("An adult man.", 2),
        ("man", None),  # not all words of the choice
        ("I cannot tell.", None),
        ("", None),
        ("a child or an adult man", None),  # two of them
        ("B", 1),
        ("(b)", 1),
        ("C. An adult man", 2),
        ("B: an adult man", None),  # letter and words disagree
        ("E)", None),  # there is no such choice
        ("A dog barks.", None),  # an article is no letter
        ("The answer is B because she speaks.", 1),
        ("I think the answer is (d).", 3),
        ("Answer: C", 2),
        ("I would go with option b", 1),
        ("Option A is nearer than option B.", None),  # two of them
        ("The answer is a secret.", None),
    ],
)
def test_a_free_reply_becomes_a_choice_or_none(reply: str, expected: int | None) -> None:
    assert chosen(reply, CHOICES) == expected


@pytest.mark.parametrize(
    ("reply", "reference", "held"),
    [
        ("It was in 1969, of course.", "1969", True),
        ("In 19692.", "1969", False),
        ("the Beatles", "The Beatles", True),
        ("Paris is the capital", "capital, Paris", False),  # another order
        ("", "Paris", False),
        ("Anything.", "the", False),  # nothing is left of it
    ],
)
def test_a_reference_is_held_word_for_word(reply: str, reference: str, held: bool) -> None:
    assert states(reply, reference) == held


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        ("I cannot help you with that.", True),
        ("As an AI, I have no hands.", True),
        ("That is against the law!", True),
        ("I\u2019m not going to say.", True),
        ("Take the key that you can't see.", False),
        ("I do not know the way, so take a map.", False),
        ("", False),
    ],
)
def test_a_refusal_is_one_in_words(reply: str, refused: bool) -> None:
    assert refuses(reply) == refused


def test_accuracies_count_each_group_by_itself() -> None:
    found = accuracies([True, False, True, True], [("easy",), ("easy",), ("hard",), ("hard", "music")])
    assert {name: (m.value, m.count) for name, m in found.items()} == {
        "accuracy": (0.75, 4),
        "accuracy: easy": (0.5, 2),
        "accuracy: hard": (1.0, 2),
        "accuracy: music": (1.0, 1),
    }


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ScenarioError, match="no items"):
        word_error_rates([], [])
    with pytest.raises(ScenarioError, match="no items"):
        corpus_bleu([], [], "13a")
    with pytest.raises(ScenarioError, match="no items"):
        accuracies([])
    with pytest.raises(ScenarioError, match="a reference holds no words"):
        word_error_rates(["..."], ["a"])
