"""How good a reply's text is: chrF against references, and the key facts it states."""

import re
from collections.abc import Sequence
from functools import lru_cache

_FIRST_CJK = "\u2e80"  # Chinese, Japanese and Korean characters begin here


def key_fact_share(text: str, facts: Sequence[str]) -> float:
    """Return the share of `facts` that `text` states, in [0, 1]; 1 when there are none.

    A fact is a string of alternatives separated by ``|``, any of which may stand at a word's start.

    >>> key_fact_share("I hear glass breaking.", ["glass", "break|shatter"])
    1.0
    """
    if not facts:
        return 1.0
    return sum(bool(_pattern(fact).search(text)) for fact in facts) / len(facts)


def repeated_share(text: str) -> float:
    """Return the share of a text's word 4-grams that repeat an earlier one, in [0, 1]; 0 when it has none.

    >>> repeated_share("no no no no no no no no")
    0.8
    """
    words = text.lower().split()
    grams = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


@lru_cache(maxsize=65536)
def _pattern(fact: str) -> re.Pattern[str]:
    """Return what finds a fact: at a word's start, but anywhere in Chinese, which has no spaces."""
    words = fact.split("|")
    starts = ("" if word[:1] >= _FIRST_CJK else r"\b" for word in words)
    return re.compile(
        "|".join(start + re.escape(word) for start, word in zip(starts, words, strict=True)), re.IGNORECASE
    )


@lru_cache(maxsize=65536)
def chrf(text: str, references: tuple[str, ...]) -> float:
    """Return the best chrF (Popovic 2015, sacreBLEU's) of `text` against `references`, in [0, 1]."""
    from sacrebleu.metrics import CHRF  # noqa: PLC0415 - `import envs` stays light

    if not text.strip() or not references:
        return 0.0
    scorer = CHRF()
    return max(scorer.sentence_score(text, [r]).score for r in references) / 100.0


def helpfulness(text: str, references: tuple[str, ...], facts: tuple[str, ...]) -> float:
    """Return the mean of chrF and the share of key facts stated, in [0, 1]; a text without a word is worth nothing."""
    if not text.strip():
        return 0.0
    return 0.5 * chrf(text, references) + 0.5 * key_fact_share(text, facts)
