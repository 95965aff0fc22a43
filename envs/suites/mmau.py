"""MMAU's test-mini: questions on sounds, music and speech, each with choices (Sakshi et al. 2024).

`mmau-test-mini.json`, a list of `{"id", "audio_id": "./test-mini-audios/ID.wav", "question", "choices", "answer",
"task", "difficulty", ...}`, and the folder `test-mini-audios` beside it. Its first version has no `id`.

In a stream the question and its choices are spoken after the recording, by espeak-ng: the paper's "audio instructions".
"""

from pathlib import Path
from typing import Any

from envs.audio import header_fault
from envs.errors import ManifestError
from envs.layouts import published
from envs.records import BrokenRecord, missing, read_json_records
from envs.suites.text_suite import TextItem, TextSuite, choice_metrics
from envs.text_metrics import CHOSEN_AS

NAME = "mmau"
TIERS = ("test-mini",)
_TEXTS = ("audio_id", "question", "answer", "task", "difficulty")


def read_mmau(folder: Path, tier: str) -> TextSuite:
    """Read the questions; one whose recording is not there is missing.

    Args:
        folder: Holds the release.
        tier: The part, one of `TIERS`.

    Raises:
        ManifestError: when the folder does not hold it, or naming the question that is none of the benchmark's.
    """
    file = published(folder / f"mmau-{tier}.json")
    items, gone = [], []
    for found in read_json_records(file):
        if isinstance(found, BrokenRecord):
            raise ManifestError(f"{found}; the questions have to be whole: download them again")
        line, value = found
        place = f"{file}, line {line}"
        item = _item(value, place)
        if missing(folder, item.path, place):
            gone.append(f"{item.id} ({item.path})")
        elif fault := header_fault(folder / item.path):
            gone.append(f"{item.id} ({fault})")
        else:
            items.append(item)
    return TextSuite(
        name=NAME,
        ability="AudioUnderstanding",
        folder=folder,
        items=tuple(items),
        missing=tuple(gone),
        metrics=choice_metrics,
        notes={
            "accuracy": CHOSEN_AS,
            "streamed": "the question and its choices are spoken after the recording; every reply counts, joined",
        },
        said_as="model_prediction",
    )


def _item(value: Any, place: str) -> TextItem:
    if not isinstance(value, dict):
        raise ManifestError(f"{place}: expected an object, got {type(value).__name__}")
    for key in _TEXTS:
        if not isinstance(value.get(key), str) or not value[key].strip():
            raise ManifestError(f"{place}: {key} is {value.get(key)!r}, expected text")
    choices = value.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise ManifestError(f"{place}: choices is {choices!r}, expected a list of texts")
    if value["answer"] not in choices:
        raise ManifestError(f"{place}: answer is {value['answer']!r}, expected one of the choices {choices}")
    listed = [f"({chr(ord('A') + i)}) {choice}" for i, choice in enumerate(choices)]
    return TextItem(
        id=str(value.get("id", value["audio_id"])),
        path=value["audio_id"],
        reference=value["answer"],
        instruction=f"{value['question']} Choose one: {' '.join(listed)}",
        spoken=f"{value['question']} {', '.join(choices[:-1])}, or {choices[-1]}?",
        choices=tuple(choices),
        groups=(f"task {value['task']}", f"difficulty {value['difficulty']}"),
        line=value,
    )
