"""Scorers of a reply's words: what they are asked, and the one that needs no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from envs.text_scores import helpfulness


@dataclass(frozen=True)
class ScoredReply:
    """A reply that answered a cue, and what a good one says."""

    text: str  # with a word in it
    references: tuple[str, ...]
    key_facts: tuple[str, ...]
    label: str  # of the sound


class Scorer(Protocol):
    """Says how good the words of replies are.

    One that costs something has a `bill`, an `envs.rewards.bill.Bill`.
    """

    def scores(self, replies: Sequence[ScoredReply]) -> list[float]:
        """Return a score in [0, 1] for each reply; which others are asked about at once does not change it.

        Raises:
            ScoringError: when there is none to give; 0 is never made of a failure.
        """


class ChrFAndKeyFacts:
    """The mean of chrF and the share of key facts stated: quick, and the same everywhere."""

    def scores(self, replies: Sequence[ScoredReply]) -> list[float]:
        """Score each reply."""
        return [helpfulness(reply.text, reply.references, reply.key_facts) for reply in replies]
