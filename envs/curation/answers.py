"""What a language model may answer in each of its three roles, checked field by field and rule by rule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs.curation.outline import Outline, SubEvent, outline_from_json
from envs.curation.verification import REASONS, Verdict
from envs.errors import PlanningError
from envs.json_checks import at, json_list, json_object, parse_object
from envs.scenario import Decision

_QUERY_WORDS = (4, 12)
_MOST_SCENES = 2
_MAJORITY = 0.5


@dataclass(frozen=True)
class Annotation:
    """A line of the bag that a scene is planned from: unrelated to the others."""

    text: str  # its caption, with its label: unique in the bag
    decision: Decision


def read_plan(text: str, bag: Sequence[Annotation], respond_share: float) -> tuple[Outline, ...]:
    """Return the scenes of a plan.

    Raises:
        AnswerError: saying what is wrong with the answer, for the model to read.
    """
    answer = parse_object(text)
    pairs = [
        json_list(pair, int, f"exclude[{i}]", 2) for i, pair in enumerate(at(answer, "exclude", list, "answer", []))
    ]
    exclusions = [[_annotation(number, bag, f"exclude[{i}]").text for number in pair] for i, pair in enumerate(pairs)]
    scenes = at(answer, "scenes", list, "answer")
    if not 1 <= len(scenes) <= _MOST_SCENES:
        raise PlanningError(f"the answer holds {len(scenes)} scenes, expected 1, or 2 where they exclude each other")
    return tuple(
        _scene(json_object(scene, f"scenes[{i}]"), exclusions, bag, respond_share) for i, scene in enumerate(scenes)
    )


def _scene(
    scene: dict[str, Any], exclusions: list[list[str]], bag: Sequence[Annotation], respond_share: float
) -> Outline:
    """Return one scene; annotation numbers become what they stand for."""
    events = []
    for i, item in enumerate(at(scene, "sub_events", list, "scene")):
        event, where = json_object(item, f"sub_events[{i}]"), f"sub_events[{i}].annotation"
        number = at(event, "annotation", int, f"sub_events[{i}]", None)
        known = Annotation("", "IGNORE") if number is None else _annotation(number, bag, where)
        # what the model adds by itself asks for no reply
        events.append(event | {"annotation": known.text, "decision": known.decision})
    outline = outline_from_json(scene | {"sub_events": events, "exclusions": exclusions})
    foreground = [event for event in outline.sub_events if event.role == "foreground"]
    replies = sum(event.decision == "RESPOND" for event in foreground)
    if respond_share <= _MAJORITY and replies > _MAJORITY * len(foreground):
        raise PlanningError(
            f"{replies} of {len(foreground)} foreground sub-events deserve a reply, expected at most half;"
            " add some that do not, or leave some out"
        )
    return outline


def _annotation(number: int, bag: Sequence[Annotation], where: str) -> Annotation:
    if not 0 <= number < len(bag):
        raise PlanningError(f"{where} is {number}, expected the number of an annotation, 0 to {len(bag) - 1}", "field")
    return bag[number]


def read_refinement(text: str, outline: Outline) -> Outline:
    """Return the outline with the queries, captions and tags of an answer.

    Raises:
        AnswerError: saying what is wrong with the answer, for the model to read.
    """
    items = at(parse_object(text), "sub_events", list, "answer")
    if len(items) != len(outline.sub_events):
        raise PlanningError(f"the answer refines {len(items)} sub-events, expected all {len(outline.sub_events)}")
    pairs = zip(outline.sub_events, items, strict=True)
    return replace(outline, sub_events=tuple(_refined(event, item, i) for i, (event, item) in enumerate(pairs)))


def _refined(event: SubEvent, item: object, index: int) -> SubEvent:
    where = f"sub_events[{index}]"
    data = json_object(item, where)
    query, caption = at(data, "query", str, where), at(data, "caption", str, where)
    least, most = _QUERY_WORDS
    if not least <= len(query.split()) <= most:
        raise PlanningError(f"{where}.query has {len(query.split())} words, expected {least} to {most}: {query[:80]!r}")
    if not caption.strip():
        raise PlanningError(f"{where}.caption is blank, expected what is heard, in a short clause", "field")
    tags = json_list(data.get("tags"), str, f"{where}.tags")
    return replace(event, query=query, caption=caption, tags=tuple(tags))


def read_verdict(text: str) -> Verdict:
    """Return a verdict on a clip.

    Raises:
        AnswerError: saying what is wrong with the answer, for the model to read.
    """
    answer = parse_object(text)
    kind = at(answer, "verdict", str, "answer")
    if kind == "accept":
        return Verdict("accept")
    reason = at(answer, "reason", str, "answer")
    if reason not in REASONS:
        raise PlanningError(f"reason is {reason[:40]!r}, expected one of {', '.join(REASONS)}", "field")
    if kind == "reprocess":
        return Verdict("reprocess", reason)
    if kind == "reject":
        return Verdict("reject", reason)
    raise PlanningError(f"verdict is {kind[:40]!r}, expected accept, reprocess or reject", "field")
