"""The two manifests of Proactive-Sound-Bench: what is heard, what it deserves, and what a good reply says.

`proactive_reply_benchmark.jsonl` has a line `{"id", "path", "description", "decision"}` for each of 644 recordings,
`proactive_reply_benchmark_response.jsonl` the same with `standard_answers` for the 267 that deserve a reply. A path is
`./proactive-sound-effect/DOMAIN/SUB-DOMAIN/DECISION/ID.wav` (paper, Proactive-Sound-Bench).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from envs.errors import ManifestError
from envs.layouts import published
from envs.records import BrokenRecord, read_json_lines
from envs.scenario import Decision

BENCHMARK = "proactive_reply_benchmark.jsonl"
RESPONSES = "proactive_reply_benchmark_response.jsonl"
_KEYS = ("id", "path", "description", "decision")


@dataclass(frozen=True)
class BenchItem:
    """One recording of the benchmark."""

    id: str
    path: str  # as released, below the folder of the manifests
    description: str
    decision: Decision
    references: tuple[str, ...]  # replies, of those to RESPOND to

    @property
    def domain(self) -> str:
        """The first folder below the recordings' own, such as "Music"."""
        return PurePosixPath(self.path).parts[1]

    @property
    def sub_domain(self) -> str:
        """The second one, behind the domain: "Music/Artistic"."""
        return "/".join(PurePosixPath(self.path).parts[1:3])


def read_items(folder: Path) -> tuple[BenchItem, ...]:
    """Return the items of both manifests in the release's order. No recording has to be there.

    Raises:
        ManifestError: when a manifest is missing or has no items, or naming the line that is none of the benchmark's,
            has an id twice, or deserves a reply and has no reference.
    """
    references = dict(_references(folder / RESPONSES))
    items: dict[str, BenchItem] = {}
    file = folder / BENCHMARK
    for line, value in _lines(file):
        place = f"{file}, line {line}"
        item = _item(value, references, place)
        if item.id in items:
            raise ManifestError(f"{place}: id {item.id!r} was there before, expected each once; remove one line")
        items[item.id] = item
    if not items:
        raise ManifestError(f"{file}: holds no items, expected one a line")
    return tuple(items.values())


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for found in read_json_lines(published(file)):
        if isinstance(found, BrokenRecord):
            raise ManifestError(f"{found}; a manifest has to be whole: download it again")
        line, value = found
        if not isinstance(value, dict):
            raise ManifestError(f"{file}, line {line}: expected an object, got {type(value).__name__}")
        yield line, value


def _references(file: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line, value in _lines(file):
        answers = value.get("standard_answers")
        if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
            raise ManifestError(f"{file}, line {line}: standard_answers is {answers!r}, expected a list of texts")
        yield str(value.get("id")), tuple(answers)


def _item(value: dict[str, Any], references: dict[str, tuple[str, ...]], place: str) -> BenchItem:
    for key in _KEYS:
        if not isinstance(value.get(key), str) or not value[key]:
            raise ManifestError(f"{place}: {key} is {value.get(key)!r}, expected text")
    decision = value["decision"]
    if decision not in ("RESPOND", "IGNORE"):
        raise ManifestError(f"{place}: decision is {decision!r}, expected RESPOND or IGNORE")
    if len(PurePosixPath(value["path"]).parts) < 4:
        raise ManifestError(f"{place}: path is {value['path']!r}, expected folders for domain and sub-domain")
    answers = references.get(value["id"], ())
    if decision == "RESPOND" and not answers:
        raise ManifestError(f"{place}: id {value['id']!r} deserves a reply, and {RESPONSES} has no reference for it")
    return BenchItem(value["id"], value["path"], value["description"], decision, answers)
