"""LibriSpeech's test sets: read sentences, to be written down (Panayotov et al. 2015).

`SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTT.flac` with `SPEAKER-CHAPTER.trans.txt` beside them, below the folder that
its archives unpack into, `LibriSpeech`, or below its parent.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from envs.metrics import Metric
from envs.records import BrokenRecord, Record
from envs.speech.corpora import read_speech
from envs.suites import checked
from envs.suites.text_suite import TextItem, TextSuite
from envs.text_metrics import WORDS_AS, word_error_rates

NAME = "librispeech"
_RELEASED = {"test-clean": 2620, "test-other": 2939}  # utterances
TIERS = tuple(_RELEASED)
INSTRUCTION = "Transcribe the speech."


def read_librispeech(folder: Path, tier: str) -> TextSuite:
    """Read a test set; an utterance whose recording is not there is missing.

    Args:
        folder: Holds the release.
        tier: The test set, one of `TIERS`.

    Raises:
        ManifestError: when the folder does not hold it.
    """
    home = folder / "LibriSpeech" if (folder / "LibriSpeech").is_dir() else folder
    rows = checked(home, read_speech(home, NAME, tier))
    own = [row for row in rows if isinstance(row, Record)]
    # a broken row has no columns; its table lies in the folders of its split
    gone = [row for row in rows if isinstance(row, BrokenRecord) and row.file.relative_to(home).parts[0] == tier]
    return TextSuite(
        name=NAME,
        ability="SpeechRecognition",
        folder=home,
        items=tuple(_item(row) for row in own),
        missing=tuple(map(str, gone)),
        metrics=_metrics,
        notes={
            "wer": f"jiwer over both sides in {WORDS_AS}; errors of all utterances over the words of all references",
            "streamed": "every reply of a stream, joined with a space",
        },
        said_as="text",
        released=_RELEASED[tier],
    )


def _item(row: Record) -> TextItem:
    name, text = PurePosixPath(row.columns["path"]).stem, row.columns["text"]
    return TextItem(name, row.columns["path"], text, INSTRUCTION, line={"id": name, "reference": text})


def _metrics(items: Sequence[TextItem], answers: Sequence[str]) -> dict[str, Metric]:
    return word_error_rates([item.reference for item in items], answers)
