"""CoVoST 2's test sets: spoken sentences, to be translated (Wang et al. 2021).

`LANG/covost_v2.{SRC}_{TGT}.test.tsv` in Common Voice's folders, whose `LANG/clips/*.mp3` it names, or one such folder
alone.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from envs.errors import ManifestError
from envs.metrics import Metric
from envs.records import BrokenRecord, Record
from envs.speech.corpora import read_speech
from envs.suites import checked
from envs.suites.text_suite import TextItem, TextSuite
from envs.text_metrics import bleu_signature, corpus_bleu

NAME = "covost2"
TIERS = ("en_zh-CN", "zh-CN_en")
_TOKENIZERS = {"en_zh-CN": "zh", "zh-CN_en": "13a"}  # of the language that is translated into
_INSTRUCTIONS = {"en_zh-CN": "Translate the speech into Chinese.", "zh-CN_en": "Translate the speech into English."}


def read_covost2(folder: Path, tier: str) -> TextSuite:
    """Read the test set of a pair of languages; a sentence whose recording is not there is missing.

    Args:
        folder: Holds the release.
        tier: From and into which language, one of `TIERS`.

    Raises:
        ManifestError: when the folder does not hold it.
    """
    name = f"covost_v2.{tier}.test.tsv"
    rows = checked(folder, [row for row in read_speech(folder, NAME, "test") if row.file.name == name])
    if not rows:
        raise ManifestError(f"{folder}: no {name} in it or in a folder of it, which the corpus is published with")
    tokenizer = _TOKENIZERS[tier]
    return TextSuite(
        name=NAME,
        ability="Translation",
        folder=folder,
        items=tuple(_item(row, tier) for row in rows if isinstance(row, Record)),
        missing=tuple(str(row) for row in rows if isinstance(row, BrokenRecord)),
        metrics=partial(_metrics, tokenizer=tokenizer),
        notes={
            "bleu": f"sacreBLEU, {bleu_signature(tokenizer)}",
            "streamed": "every reply of a stream, joined" + ("" if tokenizer == "zh" else " with a space"),
        },
        said_as="translation",
        joined_by="" if tokenizer == "zh" else " ",
    )


def _item(row: Record, tier: str) -> TextItem:
    path, reference = row.columns["path"], row.columns["translation"]
    line = {"path": Path(path).name, "sentence": row.columns["text"], "reference": reference}
    return TextItem(line["path"], path, reference, _INSTRUCTIONS[tier], line=line)


def _metrics(items: Sequence[TextItem], answers: Sequence[str], tokenizer: str) -> dict[str, Metric]:
    return {"bleu": corpus_bleu([item.reference for item in items], answers, tokenizer)}
