"""A scene in words, before any sound is chosen for it (paper, hierarchical event curation)."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from envs.errors import PlanningError
from envs.json_checks import at, json_list, json_object
from envs.scenario import Decision, Role

LEAST, MOST = 3, 15  # sub-events
SHORTEST_S, LONGEST_S = 0.2, 60.0
_ROLES = ("foreground", "background", "ambient")


@dataclass(frozen=True)
class SubEvent:
    """One thing that is to be heard.

    Attributes:
        description: In words: "a kettle comes to the boil".
        role: Foreground, background or ambient.
        seconds: How long it should last.
        whole_scene: It lasts from the first chunk to the last; for ambience only.
        annotation: What it was planned from: a label, or an annotation of the bag; exclusions name it.
        decision: Whether it deserves a reply; None: whatever the sound found for it deserves.
        query: What to search for it with.
        caption: What to generate it from, where nothing is found.
        tags: Labels that are accepted for it.
    """

    description: str
    role: Role
    seconds: float
    whole_scene: bool = False
    annotation: str = ""
    decision: Decision | None = None
    query: str = ""
    caption: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outline:
    """A coherent scene: 3-15 sub-events, the foreground in the order in which it is heard.

    Attributes:
        place: Where it happens.
        sub_events: At least one in the foreground, and one ambient over the whole scene.
        order: Pairs of indexes: the first is heard before the second begins.
        exclusions: Pairs of annotations that may not both be in the scene.

    Raises:
        PlanningError: when it breaks a rule.
    """

    place: str
    sub_events: tuple[SubEvent, ...]
    order: tuple[tuple[int, int], ...] = ()
    exclusions: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not LEAST <= len(self.sub_events) <= MOST:
            raise PlanningError(f"a scene has {len(self.sub_events)} sub-events, expected {LEAST} to {MOST}")
        for i, event in enumerate(self.sub_events):
            _check_sub_event(i, event)
        if not any(event.whole_scene for event in self.sub_events):
            raise PlanningError("no ambient sub-event lasts the whole scene, expected at least one")
        foreground = [event for event in self.sub_events if event.role == "foreground"]
        if not foreground:
            raise PlanningError("no sub-event is in the foreground, expected at least one")
        for one, other in pairwise(foreground):
            if one.annotation and one.annotation == other.annotation:
                raise PlanningError(
                    f"two neighbours in the foreground are {one.annotation!r}; one after another they sound like one"
                )
        self._check_order()
        self._check_exclusions()

    def _check_order(self) -> None:
        for first, then in self.order:
            if not 0 <= first < then < len(self.sub_events):
                raise PlanningError(
                    f"order says that sub-event {first} comes before {then}, but they are listed otherwise;"
                    f" list the {len(self.sub_events)} sub-events, from 0 on, as they are heard"
                )
            for index in (first, then):
                event = self.sub_events[index]
                if event.role != "foreground" and not (event.whole_scene and index == first):
                    raise PlanningError(
                        f"order names sub-event {index}, which is {event.role}: its moment is drawn;"
                        " order the foreground, or what lasts the whole scene before it"
                    )

    def _check_exclusions(self) -> None:
        held = Counter(event.annotation for event in self.sub_events)
        for one, other in self.exclusions:
            if held[one] > 1 if one == other else held[one] and held[other]:
                raise PlanningError(f"the scene holds both {one!r} and {other!r}, which exclude each other")


def _check_sub_event(index: int, event: SubEvent) -> None:
    where = f"sub_events[{index}]"
    if event.role not in _ROLES:
        raise PlanningError(f"{where}.role is {event.role!r}, expected {', '.join(_ROLES[:2])} or {_ROLES[2]}", "field")
    if not event.description.strip():
        raise PlanningError(f"{where}.description is blank, expected what is heard", "field")
    if not SHORTEST_S <= event.seconds <= LONGEST_S:
        raise PlanningError(f"{where}.seconds is {event.seconds}, expected {SHORTEST_S} to {LONGEST_S:g}", "field")
    if event.whole_scene and event.role != "ambient":
        raise PlanningError(f"{where} lasts the whole scene and is {event.role}, expected ambient")
    if event.decision not in (None, "RESPOND", "IGNORE"):
        raise PlanningError(f"{where}.decision is {event.decision!r}, expected RESPOND, IGNORE or none", "field")
    if event.role != "foreground" and event.decision == "RESPOND":
        raise PlanningError(f"{where} is {event.role} and deserves a reply; such sounds belong in the foreground")


def outline_from_json(data: object, where: str = "scene") -> Outline:
    """Check the JSON of an outline; keys that it does not know are left alone.

    Raises:
        AnswerError: naming the field, what it holds and what was expected.
    """
    scene = json_object(data, where)
    events = [_sub_event(item, f"sub_events[{i}]") for i, item in enumerate(at(scene, "sub_events", list, where))]
    return Outline(
        place=at(scene, "place", str, where),
        sub_events=tuple(events),
        order=_pairs(scene, "order", int),
        exclusions=_pairs(scene, "exclusions", str),
    )


def _pairs(scene: dict[str, Any], key: str, kind: type) -> tuple[tuple[Any, Any], ...]:
    items = at(scene, key, list, "scene", [])
    pairs = [json_list(item, kind, f"{key}[{i}]", 2) for i, item in enumerate(items)]
    return tuple((one, other) for one, other in pairs)


def _sub_event(data: object, where: str) -> SubEvent:
    item = json_object(data, where)
    return SubEvent(
        description=at(item, "description", str, where),
        role=at(item, "role", str, where),
        seconds=at(item, "seconds", float, where),
        whole_scene=at(item, "whole_scene", bool, where, False),
        annotation=at(item, "annotation", str, where, ""),
        decision=at(item, "decision", str, where, None),
        query=at(item, "query", str, where, ""),
        caption=at(item, "caption", str, where, ""),
        tags=tuple(json_list(item.get("tags", []), str, f"{where}.tags")),
    )
