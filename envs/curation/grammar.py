"""The embedded planner: scenes from a grammar of places, without a model and without a network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from envs.curation.outline import Outline, SubEvent
from envs.curation.places import PLACES, Odds, Place, are_apart, comes_before, needs, odds, usual_seconds
from envs.curation.verification import Hearing, Verdict, verify_by_rules
from envs.planning import RESPOND_SHARE, SILENT_SCENES
from envs.scenario import Decision, Role
from envs.sound_classes import SOUND_CLASSES
from envs.sources import Candidate

_FOREGROUND = (3, 6)
_MOST_BEDS = 3  # beside the one that lasts the whole scene


@dataclass(frozen=True)
class GrammarPlanner:
    """Plans scenes of built-in sounds; the same generator state gives the same outline.

    >>> GrammarPlanner().outline(np.random.default_rng(1)).place
    'railway station'
    """

    counts: Counter[str] = field(default_factory=Counter, compare=False)  # it rejects nothing of its own

    def outlines(
        self, rng: np.random.Generator, respond_share: float, candidates: Sequence[Candidate] = ()
    ) -> tuple[Outline, ...]:
        """Return one scene; the grammar knows its own sounds and needs no candidates."""
        return (self.outline(rng, respond_share),)

    def outline(self, rng: np.random.Generator, respond_share: float = RESPOND_SHARE) -> Outline:
        """Plan a scene in which each foreground sound deserves a reply with probability `respond_share`."""
        place = PLACES[int(rng.integers(len(PLACES)))]
        whole = _draw(rng, odds(place.whole_scene), [])
        assert whole is not None  # every place has ambience
        foreground = _foreground(rng, place, whole, 0.0 if rng.random() < SILENT_SCENES else respond_share)
        beds = _beds(rng, place, [whole, *foreground])
        events = [_sub_event(whole, "ambient", whole_scene=True)]
        events += [_sub_event(label, "foreground") for label in foreground]
        events += [_sub_event(label, role) for label, role in beds.items()]
        heard = [whole, *foreground]
        order = [
            (i, j)
            for i, first in enumerate(heard)
            for j, then in enumerate(heard)
            if comes_before(first, then) and (i > 0 or first in needs(then))
        ]
        return Outline(place.name, tuple(events), tuple(order), _exclusions([event.annotation for event in events]))

    def verify(self, event: SubEvent, hearing: Hearing) -> Verdict:
        """Judge a clip by rules."""
        return verify_by_rules(event, hearing)


def _foreground(rng: np.random.Generator, place: Place, whole: str, share: float) -> list[str]:
    """Draw what is heard one after another, and put it into an order that obeys the rules."""
    wanted = int(rng.integers(_FOREGROUND[0], _FOREGROUND[1] + 1))
    known = odds(place.foreground)
    chosen: list[str] = []
    while len(chosen) < wanted:
        decision: Decision = "RESPOND" if rng.random() < share else "IGNORE"
        fitting = {
            label: weight
            for label, weight in known.items()
            if SOUND_CLASSES[label].decision == decision and _missing(label, known, [whole, *chosen]) is not None
        }
        label = _draw(rng, fitting, [whole, *chosen])
        if label is None:
            break  # the place has no more to offer
        chosen += [*(_missing(label, known, [whole, *chosen]) or ()), label]
    return _in_order(rng, chosen)


def _missing(label: str, known: Odds, taken: Sequence[str]) -> tuple[str, ...] | None:
    """Return what has to be added before `label` may be: nothing, one sound, or None where that cannot be."""
    wanted = needs(label)
    if not wanted or any(need in taken for need in wanted):
        return ()
    for need in wanted:
        if need in known and not needs(need) and not any(are_apart(need, other) for other in (*taken, label)):
            return (need,)
    return None


def _in_order(rng: np.random.Generator, labels: Sequence[str]) -> list[str]:
    """Shuffle the labels into an order in which every rule holds."""
    waiting, order = list(labels), list[str]()
    while waiting:
        free = [label for label in waiting if not any(comes_before(other, label) for other in waiting)]
        order.append(free[int(rng.integers(len(free)))])
        waiting.remove(order[-1])
    return order


def _beds(rng: np.random.Generator, place: Place, taken: list[str]) -> dict[str, Role]:
    """Draw what lies under a part of the foreground."""
    beds: dict[str, Role] = {}
    for _ in range(int(rng.integers(0, _MOST_BEDS + 1))):
        # more of what could last the whole scene is ambience, the rest background
        role: Role = "ambient" if rng.random() < 0.4 else "background"
        label = _draw(rng, odds(place.whole_scene if role == "ambient" else place.beds), [*taken, *beds])
        if label is not None:
            beds[label] = role
    return beds


def _draw(rng: np.random.Generator, known: Odds, taken: Sequence[str]) -> str | None:
    """Draw one of the labels that none of those taken excludes."""
    free = [label for label in known if not any(are_apart(label, other) for other in taken)]
    if not free:
        return None
    weights = np.array([known[label] for label in free])
    return free[int(rng.choice(len(free), p=weights / weights.sum()))]


def _sub_event(label: str, role: Role, whole_scene: bool = False) -> SubEvent:
    sound = SOUND_CLASSES[label]
    return SubEvent(
        description=sound.caption,
        role=role,
        seconds=usual_seconds(label),
        whole_scene=whole_scene,
        annotation=label,
        decision=sound.decision,
        query=sound.caption,
        caption=sound.caption,
        tags=(label,),
    )


def _exclusions(labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return every pair of a sound in the scene and a built-in one that it keeps out."""
    return tuple((label, other) for label in labels for other in SOUND_CLASSES if are_apart(label, other))
