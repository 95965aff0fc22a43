"""Prediction files of Proactive-Sound-Bench: what a model decided and said, one recording a line.

A line is `{"id", "_raw_reply": "<Decision>RESPOND</Decision><Reply>...</Reply>"}`; `reply` stands in where `_raw_reply`
is missing or empty. Ours have `latency_s` as well, which the published scorer does not look at.
"""

import codecs
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.records import BrokenRecord, read_json_lines
from envs.scenario import Decision

_FAILED = "Error:"  # how a model's run says that it broke off
_NO_LATENCY_S = 1e6  # what lies beyond, or is NaN, was never measured
_WORD = re.compile(r"\b(RESPOND|IGNORE)\b", re.IGNORECASE)
_TAGS = re.compile(r"<\s*/?\s*(?:decision|reply)\s*>", re.IGNORECASE)


@dataclass(frozen=True)
class Prediction:
    """What a line says of a recording."""

    line: int
    raw: str  # all that the model wrote; blank where it is no text
    latency_s: float | None = None  # from the sound's end to the reply; below 0 it came before
    is_text: bool = True

    @property
    def decision(self) -> Decision | None:
        """The first RESPOND or IGNORE in the first closed Decision tag, in any letter case; None: undecided.

        What begins with "Error:" is undecided whatever follows.
        """
        if self.raw.startswith(_FAILED):
            return None
        found = _WORD.search(next(_inside(self.raw, "decision"), ""))
        return None if found is None else _as_decision(found[0])

    @property
    def clear_decision(self) -> Decision | None:
        """The same; None also where the Decision tags, all of them, name both."""
        words = {_as_decision(word) for inner in _inside(self.raw, "decision") for word in _WORD.findall(inner)}
        return self.decision if len(words - {None}) == 1 else None

    @property
    def reply(self) -> str:
        """What stands in the first closed Reply tag; blank where there is none."""
        return next(_inside(self.raw, "reply"), "").strip()


@dataclass
class Predictions:
    """The lines of a file, by recording.

    Attributes:
        by_id: In the order of the lines; several where an id is there more than once.
        unknown: Lines of ids that the benchmark does not have.
        malformed: Lines that hold no prediction.
        published_stops: Where and why the published scorer ends with an exception; blank: it gives a number.
    """

    by_id: dict[str, list[Prediction]] = field(default_factory=dict)
    unknown: int = 0
    malformed: list[BrokenRecord] = field(default_factory=list)
    published_stops: str = ""

    def stop(self, reason: BrokenRecord) -> None:
        """Note what the published scorer cannot take; it ends at the first."""
        self.published_stops = self.published_stops or str(reason)


def read_predictions(file: Path, ids: Collection[str]) -> Predictions:
    """Read a prediction file of anybody's.

    Blank lines, CRLF and a byte order mark are no faults of ours; the published scorer stops at the last of them, at a
    line that is not JSON or no object, and at a reply of a known id that is no text. A line without an id is malformed,
    and the published scorer goes on.

    Args:
        file: JSON Lines.
        ids: Those of the benchmark. An id that is a number counts as its digits.

    Raises:
        ManifestError: when it is not in UTF-8.
        OSError: when it cannot be read.
    """
    read = Predictions()
    with file.open("rb") as start:
        if start.read(3) == codecs.BOM_UTF8:
            read.stop(BrokenRecord(file, 1, "begins with a byte order mark"))
    for found in read_json_lines(file):
        if isinstance(found, BrokenRecord) or not isinstance(found[1], dict):
            broken = found if isinstance(found, BrokenRecord) else BrokenRecord(file, found[0], "not an object")
            read.malformed.append(broken)
            read.stop(broken)
        else:
            _take(read, file, *found, ids)
    for lines in read.by_id.values():
        if not lines[-1].is_text:  # an earlier one is overwritten before it is looked at
            read.stop(_no_text(file, lines[-1].line))
    return read


def predictions_of(records: Sequence[dict[str, Any]]) -> Predictions:
    """Return lines of our own as they are read back from a file."""
    by_id = {str(record["id"]): [_prediction(number, record)] for number, record in enumerate(records, start=1)}
    return Predictions(by_id)


def prediction_line(item_id: str, replies: Sequence[str], latency_s: float | None) -> dict[str, Any]:
    """Return the line of a recording: RESPOND with all that was said, IGNORE where nothing was.

    Args:
        item_id: Of the recording.
        replies: The texts of the replies in its window; a reply without a word is a reply all the same.
        latency_s: From the sound's end to the first of them; None where there is none.
    """
    said = " ".join(_TAGS.sub("", reply) for reply in replies).strip()  # a model may write the tags itself
    decision = "RESPOND" if replies else "IGNORE"
    line = {"id": item_id, "_raw_reply": f"<Decision>{decision}</Decision><Reply>{said}</Reply>"}
    return line if latency_s is None else {**line, "latency_s": round(latency_s, 6)}


def _take(read: Predictions, file: Path, line: int, record: dict[str, Any], ids: Collection[str]) -> None:
    if record.get("id") is None:
        read.malformed.append(BrokenRecord(file, line, "has no id"))
    elif str(record["id"]) not in ids:
        read.unknown += 1
    else:
        prediction = _prediction(line, record)
        if not prediction.is_text:
            read.malformed.append(_no_text(file, line))
        read.by_id.setdefault(str(record["id"]), []).append(prediction)


def _no_text(file: Path, line: int) -> BrokenRecord:
    return BrokenRecord(file, line, "its reply is no text")


def _prediction(line: int, record: dict[str, Any]) -> Prediction:
    raw, latency_s = record.get("_raw_reply") or record.get("reply") or "", record.get("latency_s")
    timed = isinstance(latency_s, int | float) and not isinstance(latency_s, bool) and abs(latency_s) < _NO_LATENCY_S
    # where `_raw_reply` is blank, the published scorer looks at `reply` once more
    is_text = isinstance(raw, str) and (bool(raw.strip()) or isinstance(record.get("reply") or "", str))
    return Prediction(line, raw.strip() if is_text else "", latency_s if timed else None, is_text)


def _inside(text: str, tag: str) -> Iterator[str]:
    """Yield what stands between each opening tag and the closing one that follows; spaces may stand in the brackets."""
    opening, closing = re.compile(rf"<\s*{tag}\s*>", re.I), re.compile(rf"<\s*/\s*{tag}\s*>", re.I)
    place = 0
    while (begin := opening.search(text, place)) and (end := closing.search(text, begin.end())):
        yield text[begin.end() : end.start()]
        place = end.end()


def _as_decision(word: str) -> Decision | None:
    """Return the decision that a match of `_WORD` is; None for a dotted capital I, which matches in any letter case."""
    upper = word.upper()
    return "RESPOND" if upper == "RESPOND" else "IGNORE" if upper == "IGNORE" else None
