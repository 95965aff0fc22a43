"""Scores that were given before: nothing is asked for twice, in one run or, with a file, in any."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from envs.errors import ScoringError
from envs.rewards.bill import Bill
from envs.rewards.scoring import ScoredReply

Ask = Callable[[Mapping[str, ScoredReply]], Iterable[dict[str, float]]]
_APPLICATION = 0x50F1  # in the header of a file of scores: others are not written to
_WAIT_S = 60.0  # for another process that writes
_MOST_REMEMBERED = 65_536
_MOST_ASKED = 500  # keys in one query


class ScoreBook:
    """Scores by key, in memory and, where a path is given, in an SQLite file that several processes may share.

    Raises:
        ScoringError: when the file is no file of scores, or cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._remembered: dict[str, float] = {}
        if path is not None:
            with self._open() as file:
                (application,) = file.execute("PRAGMA application_id").fetchone()
                (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if application != _APPLICATION and tables:
                    raise ScoringError(f"{path}: is a database of something else; name another file for the scores")
                if not tables:
                    file.execute(f"PRAGMA application_id = {_APPLICATION}")
                    file.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, score REAL NOT NULL)")

    def read(self, keys: Sequence[str]) -> dict[str, float]:
        """Return the scores that are known, by key."""
        known = {key: self._remembered[key] for key in keys if key in self._remembered}
        unknown = [key for key in keys if key not in known]
        if self.path is not None and unknown:
            with self._open() as file:
                for first in range(0, len(unknown), _MOST_ASKED):
                    asked = unknown[first : first + _MOST_ASKED]
                    marks = ", ".join("?" * len(asked))
                    rows = file.execute(f"SELECT key, score FROM scores WHERE key IN ({marks})", asked)
                    known.update((key, self._checked(key, score)) for key, score in rows)
        return known

    def write(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Note scores and return those that stand: where another process noted one first, that is it."""
        stand = dict(scores)
        if self.path is not None:
            with self._open() as file:  # one transaction: the disk is waited for once
                file.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?)", scores.items())
                for key in scores:
                    (score,) = file.execute("SELECT score FROM scores WHERE key = ?", (key,)).fetchone()
                    stand[key] = self._checked(key, score)
        self._remembered.update(stand)
        while len(self._remembered) > _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return stand

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction; nothing is held between calls, so that a fork or a kill harms nothing."""
        assert self.path is not None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S)) as file, file:
                yield file
        except sqlite3.Error as error:
            raise ScoringError(
                f"{self.path}: cannot be used as a file of scores ({error}); move it away, or name another"
            ) from error

    def _checked(self, key: str, score: object) -> float:
        if not isinstance(score, float) or not 0.0 <= score <= 1.0:
            raise ScoringError(
                f"{self.path}: the score of {key} is {score!r}, expected a number from 0 to 1; move the file away"
            )
        return score


def score_key(*parts: object) -> str:
    """Return the key of a score that follows from these parts, which are JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def scored(
    replies: Sequence[ScoredReply], key_of: Callable[[ScoredReply], str], ask: Ask, book: ScoreBook, bill: Bill
) -> list[float]:
    """Return the scores of replies: known ones from the book, the others by asking for them together.

    Args:
        replies: What is to be scored.
        key_of: Returns a reply's key in the book.
        ask: Yields scores by key as they come; they are noted at once, so that a later failure loses none.
        book: What is known.
        bill: Takes what this cost, but for calls and tokens, which `ask` counts.

    Raises:
        ScoringError: when a score is no number from 0 to 1.
    """
    begin = time.perf_counter()
    by_key = {key_of(reply): reply for reply in replies}
    known = book.read(list(by_key))
    bill.scored += len(by_key)
    bill.cached += len(known)
    try:
        for came in ask({key: reply for key, reply in by_key.items() if key not in known}):
            for key, score in came.items():
                if not 0.0 <= score <= 1.0:  # not for NaN, either
                    raise ScoringError(f"the score of {by_key[key].text!r} is {score}, expected a number from 0 to 1")
            known.update(book.write(came))
    finally:
        bill.seconds += time.perf_counter() - begin
    return [known[key_of(reply)] for reply in replies]
