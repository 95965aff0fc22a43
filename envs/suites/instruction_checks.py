"""Whether an answer keeps the instructions of its prompt, as IFEval states them (Zhou et al. 2023), strictly.

A prompt has `instruction_id_list` and, for each of them, `kwargs`. Every instruction of the paper is checked but that
of an answer's language, which needs a model.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

INSTRUCTIONS_AS = (
    "prompts all of whose instructions are kept, strictly; instruction_accuracy is the mean share of a prompt's"
    " (the release's is of all instructions)"
)
_SENTENCE_END = re.compile(r"[.!?]+(?:[\"')\]]+)?(?:\s+|$)")
_WORDS = re.compile(r"\w+")
_ANSWERS = ("my answer is yes.", "my answer is no.", "my answer is maybe.")
Details = Mapping[str, Any]
_WORDS_LIST, _COUNT = list, float
_KINDS = {list: "a list of words", float: "a number", str: "text"}


def kept(question: Mapping[str, Any], answer: str) -> list[bool]:
    """Return for each instruction of a question whether an answer keeps it; silence keeps none.

    Args:
        question: Has `instruction_id_list` and `kwargs`, all of which `unknown_instruction` lets pass.
        answer: What was said.
    """
    pairs = zip(question["instruction_id_list"], question["kwargs"], strict=True)
    return [bool(answer.strip()) and _CHECKS[name].keeps(answer, details) for name, details in pairs]


def unknown_instruction(question: Mapping[str, Any]) -> str:
    """Return the first instruction of a question that cannot be checked; blank where all can be."""
    return next((str(name) for name in question["instruction_id_list"] if name not in _CHECKS), "")


def lacking(question: Mapping[str, Any]) -> str:
    """Return what is wrong with the details of a question's instructions; blank where nothing is."""
    ids, details = question.get("instruction_id_list"), question.get("kwargs")
    if not isinstance(ids, list) or not ids or not isinstance(details, list) or len(ids) != len(details):
        return f"instruction_id_list is {ids!r} and kwargs {details!r}, expected a list each, of the same length"
    for name, own in zip(ids, details, strict=True):
        for key, kind in (_CHECKS[name].needs if name in _CHECKS else {}).items():
            value = own.get(key) if isinstance(own, Mapping) else None
            if not isinstance(value, int | float if kind is _COUNT else kind):
                return f"{key} of {name} is {value!r}, expected {_KINDS[kind]}"
    return ""


def _related(count: int, relation: str | None, wanted: int) -> bool:
    """Return whether a count is as it should be; IFEval knows two relations."""
    return count < wanted if relation == "less than" else count >= wanted


def _says(answer: str, keyword: str) -> bool:
    return re.search(rf"\b{re.escape(keyword)}\b", answer, re.IGNORECASE) is not None


def _frequency(answer: str, details: Details) -> bool:
    found = len(re.findall(rf"\b{re.escape(details['keyword'])}\b", answer, re.IGNORECASE))
    return _related(found, details.get("relation"), details["frequency"])


def _letters(answer: str, details: Details) -> bool:
    count = answer.lower().count(details["letter"].lower())
    return _related(count, details.get("let_relation"), details["let_frequency"])


def _sentences(answer: str, details: Details) -> bool:
    count = len([part for part in _SENTENCE_END.split(answer) if part.strip()])
    return _related(count, details.get("relation"), details["num_sentences"])


def _paragraphs(answer: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", answer) if part.strip()]


def _parted(answer: str, details: Details) -> bool:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", answer)]
    if parts and not parts[0]:
        parts = parts[1:]
    if parts and not parts[-1]:
        parts = parts[:-1]
    return all(parts) and len(parts) == details["num_paragraphs"]


def _nth_word(answer: str, details: Details) -> bool:
    parts, nth = _paragraphs(answer), int(details["nth_paragraph"])
    if len(parts) != details["num_paragraphs"] or not 1 <= nth <= len(parts):
        return False
    first = _WORDS.findall(parts[nth - 1].lower())[:1]
    return first == [details["first_word"].lower()]


def _highlights(answer: str, details: Details) -> bool:
    found = [part for part in re.findall(r"\*\*([^\n*]+)\*\*|\*([^\n*]+)\*", answer) if "".join(part).strip()]
    return len(found) >= details["num_highlights"]


def _sections(answer: str, details: Details) -> bool:
    # the data set's own spelling of the key
    return len(re.findall(rf"\s?{re.escape(details['section_spliter'])}\s?\d+\s?", answer)) >= details["num_sections"]


def _is_json(answer: str) -> bool:
    inner = re.sub(r"^```(?:json)?|```$", "", answer.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(inner)
    except (ValueError, RecursionError):
        return False
    return True


def _two(answer: str) -> bool:
    parts = [part.strip() for part in answer.split("******")]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _capitals(answer: str, details: Details) -> bool:
    count = sum(word.isupper() for word in re.findall(r"[^\W_]+(?:['-][^\W_]+)*", answer))
    return _related(count, details.get("capital_relation"), details["capital_frequency"])


def _postscript(answer: str, details: Details) -> bool:
    return details["postscript_marker"].lower().replace(" ", "") in answer.lower().replace(" ", "")


def _repeats(answer: str, details: Details) -> bool:
    return answer.strip().lower().startswith(details["prompt_to_repeat"].strip().lower())


def _ends(answer: str, details: Details) -> bool:
    return answer.strip().strip('"').lower().endswith(details["end_phrase"].strip().lower())


def _quoted(answer: str) -> bool:
    plain = answer.strip()
    return len(plain) > 1 and plain.startswith('"') and plain.endswith('"')


@dataclass(frozen=True)
class _Check:
    """Says whether an answer keeps an instruction; `needs` are its details, each with what it has to be."""

    keeps: Callable[[str, Details], bool]
    needs: Mapping[str, type] = field(default_factory=dict)


_CHECKS = {
    "keywords:existence": _Check(lambda a, d: all(_says(a, w) for w in d["keywords"]), {"keywords": _WORDS_LIST}),
    "keywords:forbidden_words": _Check(
        lambda a, d: not any(_says(a, w) for w in d["forbidden_words"]), {"forbidden_words": _WORDS_LIST}
    ),
    "keywords:frequency": _Check(_frequency, {"keyword": str, "frequency": _COUNT}),
    "keywords:letter_frequency": _Check(_letters, {"letter": str, "let_frequency": _COUNT}),
    "length_constraints:number_words": _Check(
        lambda a, d: _related(len(_WORDS.findall(a)), d.get("relation"), d["num_words"]), {"num_words": _COUNT}
    ),
    "length_constraints:number_sentences": _Check(_sentences, {"num_sentences": _COUNT}),
    "length_constraints:number_paragraphs": _Check(_parted, {"num_paragraphs": _COUNT}),
    "length_constraints:nth_paragraph_first_word": _Check(
        _nth_word, {"num_paragraphs": _COUNT, "nth_paragraph": _COUNT, "first_word": str}
    ),
    "detectable_content:number_placeholders": _Check(
        lambda a, d: len(re.findall(r"\[.*?\]", a)) >= d["num_placeholders"], {"num_placeholders": _COUNT}
    ),
    "detectable_content:postscript": _Check(_postscript, {"postscript_marker": str}),
    "detectable_format:number_bullet_lists": _Check(
        lambda a, d: len(re.findall(r"(?m)^\s*[*-]\s", a)) == d["num_bullets"], {"num_bullets": _COUNT}
    ),
    "detectable_format:constrained_response": _Check(lambda a, _: any(answer in a.lower() for answer in _ANSWERS)),
    "detectable_format:number_highlighted_sections": _Check(_highlights, {"num_highlights": _COUNT}),
    "detectable_format:multiple_sections": _Check(_sections, {"section_spliter": str, "num_sections": _COUNT}),
    "detectable_format:json_format": _Check(lambda a, _: _is_json(a)),
    "detectable_format:title": _Check(lambda a, _: any(t.strip() for t in re.findall(r"<<([^\n]+?)>>", a))),
    "combination:two_responses": _Check(lambda a, _: _two(a)),
    "combination:repeat_prompt": _Check(_repeats, {"prompt_to_repeat": str}),
    "startend:end_checker": _Check(_ends, {"end_phrase": str}),
    "startend:quotation": _Check(lambda a, _: _quoted(a)),
    "change_case:capital_word_frequency": _Check(_capitals, {"capital_frequency": _COUNT}),
    "change_case:english_capital": _Check(lambda a, _: a.isupper()),
    "change_case:english_lowercase": _Check(lambda a, _: a.islower()),
    "punctuation:no_comma": _Check(lambda a, _: "," not in a),
}
