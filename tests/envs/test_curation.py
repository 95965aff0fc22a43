"""Curation: outlines obey their rules for every seed, captions find their clips, every rejection is counted."""

import doctest
import itertools
import json
import pickle
from collections import Counter
from dataclasses import asdict, replace
from graphlib import TopologicalSorter
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.clip_library import ClipLibrary, Recording
from envs.curation import curated_scenarios, grammar, places, planner_from_options, retrieval
from envs.curation.grammar import GrammarPlanner
from envs.curation.grounding import Grounded, Grounding
from envs.curation.outline import LEAST, MOST, Outline, SubEvent, outline_from_json
from envs.curation.places import APART, BEFORE, NEEDS, PLACES, SECONDS, odds
from envs.curation.retrieval import CandidateIndex, TfidfIndex
from envs.curation.verification import Hearing, verify_by_rules
from envs.errors import AnswerError, ConfigError, PlanningError, ScenarioError
from envs.foley import Foley
from envs.scenario import Clip
from envs.sound_classes import SOUND_CLASSES
from envs.sources import Mixture

LABELS = list(SOUND_CLASSES)
INDEX = TfidfIndex([f"{sound.label} {sound.caption}" for sound in SOUND_CLASSES.values()])
HUM = SubEvent("a fan turns", "ambient", 3.0, whole_scene=True, annotation="fan", tags=("fan",))
BARK = SubEvent("a dog barks", "foreground", 1.0, annotation="dog", query="a dog barks", caption="a dog is calling")
STEPS = SubEvent("footsteps", "foreground", 1.0, annotation="footsteps")


def tone(seconds: float, *, gap_s: float = 0.0) -> np.ndarray:
    """A trembling tone with 20 ms of silence at its ends and a gap in its middle."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    envelope = ((t > 0.02) & (t < seconds - 0.02) & (abs(t - seconds / 2) >= gap_s / 2)).astype(np.float32)
    tremolo = 0.3 + 0.2 * np.sin(2 * np.pi * 3 * t)
    return (envelope * tremolo * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


def clip(audio: np.ndarray, label: str = "dog", caption: str = "a dog barks", **changes: Any) -> Clip:
    return replace(Clip(audio, label, caption, "Test", "IGNORE", f"{label}.wav"), **changes)


def library(*clips: Clip) -> ClipLibrary:
    return ClipLibrary([Recording(one, "", "test") for one in clips])


def found(event: SubEvent, *clips: Clip) -> tuple[Grounded | None, Counter[str]]:
    counts = Counter[str]()
    grounding = Grounding(library(*clips).candidates(), verify_by_rules, counts)
    return grounding.ground(event, np.random.default_rng(0)), counts


# The grammar


def test_the_grammar_speaks_of_built_in_sounds_only() -> None:
    tables = [place.whole_scene + " " + place.beds + " " + place.foreground for place in PLACES]
    tables += [f"{key} {value}" for table in (BEFORE, NEEDS, APART) for key, value in table.items()]
    tables += SECONDS.values()
    named = {label for text in tables for label in odds(text)}
    assert named == set(SOUND_CLASSES)  # and of all of them
    beds = {label for place in PLACES for label in (*odds(place.whole_scene), *odds(place.beds))}
    assert {SOUND_CLASSES[label].decision for label in beds} == {"IGNORE"}
    assert len({place.name for place in PLACES}) == len(PLACES) >= 12


def test_no_rule_of_order_leads_in_a_circle() -> None:
    graph = {label: set(NEEDS.get(label, "").split()) for label in LABELS}
    for first, others in BEFORE.items():
        for then in others.split():
            graph[then].add(first)
    TopologicalSorter(graph).prepare()


def test_what_a_sound_needs_can_be_heard_where_it_can() -> None:
    for place in PLACES:
        offered = odds(place.whole_scene) | odds(place.foreground)
        for label in odds(place.foreground):
            needed = NEEDS.get(label, "").split()
            assert not needed or set(needed) & offered.keys(), (place.name, label)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.4, 1.0]))
@settings(max_examples=400, deadline=None)
def test_every_outline_obeys_every_rule(seed: int, share: float) -> None:
    outline = GrammarPlanner().outline(np.random.default_rng(seed), share)
    events = outline.sub_events
    place = next(place for place in PLACES if place.name == outline.place)
    labels = [event.annotation for event in events]
    foreground = [event.annotation for event in events if event.role == "foreground"]
    whole = [event.annotation for event in events if event.whole_scene]
    assert LEAST <= len(events) <= MOST
    assert len(whole) == 1
    assert events[0].whole_scene
    assert len(foreground) >= 2
    assert set(labels) <= (odds(place.whole_scene) | odds(place.beds) | odds(place.foreground)).keys()
    assert set(foreground) <= odds(place.foreground).keys()
    assert len(set(labels)) == len(labels)  # no two alarms of a kind
    for first, others in BEFORE.items():
        for then in set(others.split()) & set(foreground):
            assert first not in foreground or foreground.index(first) < foreground.index(then)
    for i, label in enumerate(foreground):
        needed = set(NEEDS.get(label, "").split())
        assert not needed or needed & {*foreground[:i], *whole}, label
    for one, others in APART.items():
        assert one not in labels or not set(others.split()) & set(labels)
    assert share or all(event.decision == "IGNORE" for event in events)


def test_the_same_seed_plans_the_same_scene() -> None:
    planner = GrammarPlanner()
    plans = [planner.outline(np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert plans[0] == plans[1] != plans[2]
    assert outline_from_json(json.loads(json.dumps(asdict(plans[0])))) == plans[0]


@pytest.mark.parametrize("module", [grammar, places, retrieval])
def test_the_examples_of_the_docstrings_are_true(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert not failed
    assert tried


# Outlines


@pytest.mark.parametrize(
    ("events", "order", "message"),
    [
        ((HUM, BARK), (), "2 sub-events, expected 3 to 15"),
        ((HUM, BARK) * 8, (), "16 sub-events"),
        ((replace(HUM, whole_scene=False), BARK, STEPS), (), "no ambient sub-event lasts the whole scene"),
        ((HUM, replace(HUM, annotation="a"), replace(HUM, annotation="b")), (), "no sub-event is in the foreground"),
        ((HUM, BARK, BARK), (), "two neighbours in the foreground are 'dog'"),
        ((HUM, BARK, STEPS), ((2, 1),), "sub-event 2 comes before 1, but they are listed otherwise"),
        ((HUM, BARK, STEPS), ((1, 3),), "list the 3 sub-events"),
        ((HUM, replace(BARK, role="background"), STEPS), ((1, 2),), "sub-event 1, which is background"),
        ((HUM, replace(BARK, whole_scene=True), STEPS), (), r"sub_events\[1\] lasts the whole scene and is foreground"),
        ((HUM, replace(BARK, seconds=0.0), STEPS), (), r"sub_events\[1\].seconds is 0.0, expected 0.2 to 60"),
        ((HUM, replace(BARK, description=" "), STEPS), (), r"sub_events\[1\].description is blank"),
        ((HUM, replace(BARK, role="background", decision="RESPOND"), STEPS), (), "belong in the foreground"),
    ],
)
def test_an_outline_that_breaks_a_rule_is_refused(
    events: tuple[SubEvent, ...], order: tuple[tuple[int, int], ...], message: str
) -> None:
    with pytest.raises(PlanningError, match=message) as error:
        Outline("a room", events, order)
    assert "\n" not in str(error.value)


def test_what_excludes_each_other_is_not_in_one_scene() -> None:
    Outline("a room", (HUM, BARK, STEPS), exclusions=(("dog", "cat"), ("dog", "dog")))
    with pytest.raises(PlanningError, match="both 'dog' and 'footsteps'"):
        Outline("a room", (HUM, BARK, STEPS), exclusions=(("dog", "footsteps"),))
    with pytest.raises(PlanningError, match="both 'dog' and 'dog'"):
        Outline("a room", (HUM, BARK, STEPS, BARK), exclusions=(("dog", "dog"),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"place": None}, "scene has no 'place', expected text"),
        ({"place": 3}, "scene.place is 3, expected text"),
        ({"sub_events": "many"}, 'scene.sub_events is "many", expected a list'),
        ({"sub_events": [1]}, r"sub_events\[0\] is 1, expected an object"),
        (
            {"sub_events": [{"description": "x", "role": "loud", "seconds": 1}] * 3},
            r"\[0\].role is 'loud', expected fore",
        ),
        (
            {"sub_events": [{"description": "x", "role": "ambient", "seconds": "1"}]},
            'seconds is "1", expected a number',
        ),
        (
            {"sub_events": [{"description": "x", "role": "ambient", "seconds": True}]},
            "seconds is true, expected a numb",
        ),
        ({"order": [[1]]}, r"order\[0\] is \[1\], expected a list of 2"),
        ({"order": [["a", 1]]}, r'order\[0\]\[0\] is "a", expected a whole number'),
    ],
)
def test_json_that_is_no_outline_is_refused_by_field(change: dict[str, Any], message: str) -> None:
    events = [asdict(event) | {"tags": list(event.tags)} for event in (HUM, BARK, STEPS)]
    good = {"place": "a room", "sub_events": events, "order": [[0, 1]]}
    assert outline_from_json(good) == Outline("a room", (HUM, BARK, STEPS), ((0, 1),))
    with pytest.raises(AnswerError, match=message):
        outline_from_json(good | change)


# Retrieval


def test_a_kettle_is_found_by_what_it_does() -> None:
    assert LABELS[INDEX.search("a kettle is whistling")[0][0]] == "kettle_whistle"


@pytest.mark.parametrize("label", LABELS)
def test_every_caption_finds_its_own_class(label: str) -> None:
    (best, score), (_, second), _ = INDEX.search(SOUND_CLASSES[label].caption)
    assert LABELS[best] == label
    assert score > second


def test_ties_go_to_the_first_and_nothing_known_scores_nothing() -> None:
    index = TfidfIndex(["a dog", "a cat", "a dog", ""])
    assert index.search("dogs", top=4) == [(0, 1.0), (2, 1.0), (1, 0.0), (3, 0.0)]
    assert index.search("zebra of the") == [(0, 0.0), (1, 0.0), (2, 0.0)]
    assert TfidfIndex([]).search("dog") == []


def test_clips_of_the_same_words_take_turns() -> None:
    index = CandidateIndex(library(*(clip(tone(1), origin=str(i)) for i in range(8))).candidates())
    tops = [index.search("a dog", np.random.default_rng(seed)) for seed in range(20)]
    assert {len(top) for top in tops} == {3}
    assert len({found.clip.origin for top in tops for found, _ in top if found.clip}) == 8


def test_a_mixture_offers_what_all_its_sources_have() -> None:
    mixture = Mixture((library(clip(tone(1), "goat", "a goat bleats")), Foley()), (1.0, 1.0))
    assert len(mixture.candidates()) == 1 + len(SOUND_CLASSES)
    drawn = [one.take(np.random.default_rng(0)).label for one in mixture.candidates()[:3]]
    assert drawn == [one.label for one in mixture.candidates()[:3]]


# Grounding


def test_a_fitting_clip_is_taken_as_it_is() -> None:
    bark = clip(tone(1.0))
    grounded, counts = found(BARK, bark)
    assert grounded is not None
    assert grounded.clip is bark
    assert grounded.how == "retrieved"
    assert counts == {"accepted": 1}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (clip(tone(1.0), "goat", "a goat bleats"), "identity"),
        (clip(tone(0.4)), "duration"),
        (clip(tone(1.0), decision="RESPOND"), "decision"),
    ],
)
def test_a_clip_that_does_not_fit_is_counted_and_another_generated(other: Clip, reason: str) -> None:
    grounded, counts = found(replace(BARK, decision="IGNORE"), other)
    assert grounded is not None
    assert (grounded.how, grounded.clip.label, grounded.clip.origin) == ("generated", "dog", "foley")
    assert counts[f"rejected: {reason}"] == counts["generated"] == 1


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (tone(2.0, gap_s=0.6), "continuity"),
        (tone(4.0), "duration"),
        (tone(1.0)[1000:-1000], "continuity"),  # cut off in the middle of the tone
    ],
)
def test_what_tfjp_can_mend_is_reprocessed_once(audio: np.ndarray, reason: str) -> None:
    event = replace(BARK, seconds=1.2)
    grounded, counts = found(event, clip(audio))
    assert grounded is not None
    assert grounded.how == "reprocessed"
    assert counts == {f"reprocessed: {reason}": 1, "accepted": 1}
    assert verify_by_rules(event, Hearing(grounded.clip, 1.0)).kind == "accept"
    spoken, counts = found(event, clip(audio, domain="Speech"))  # what is said is not touched
    assert counts[f"rejected: {reason}"] == 1
    assert spoken is not None
    assert spoken.how == "generated"


def test_noise_under_a_bed_is_no_noise() -> None:
    rain = clip((0.3 * np.random.default_rng(1).standard_normal(16_000)).astype(np.float32))
    rain = replace(rain, audio=np.concatenate((np.zeros(160, np.float32), rain.audio, np.zeros(160, np.float32))))
    assert verify_by_rules(replace(BARK, role="background"), Hearing(rain, 1.0)).kind == "accept"
    assert verify_by_rules(BARK, Hearing(rain, 1.0)).reason == "cleanliness"


def test_one_recording_is_not_heard_twice_in_a_scene() -> None:
    bark = clip(tone(1.0), recording="r1")
    counts = Counter[str]()
    grounding = Grounding(library(bark).candidates(), verify_by_rules, counts)
    for scene in ({"foreground": [bark]}, {"beds": [bark]}):
        grounded = grounding.ground(BARK, np.random.default_rng(0), **scene)
        assert grounded is None or grounded.how == "generated"
    assert counts["rejected: scene"] == 2


def test_what_nothing_is_like_is_left_out_but_ambience_is_always_there() -> None:
    unheard = replace(BARK, description="qwerty", query="qwerty", caption="qwerty")
    assert found(unheard, clip(tone(1.0)))[1]["dropped: nothing like it"] == 1
    grounded, _ = found(replace(HUM, description="qwerty", tags=()), clip(tone(1.0)))
    assert grounded is not None
    assert (grounded.clip.label, grounded.how) == ("room_noise", "generated")


# Scenarios


def test_curated_streams_keep_the_order_and_the_shares() -> None:
    scenarios = curated_scenarios(Foley())
    replies = sounds = 0
    for seed in range(40):
        scene = next(scenarios.scenes(seed))
        kept = [i for i, grounded in enumerate(scene.grounded) if grounded is not None]
        assert all(first in kept for first, then in scene.outline.order if then in kept)
        heard = [g.clip.label for g in scene.grounded if g is not None and g.event.role == "foreground"]
        assert [c.label for c in scene.plan.foreground] == heard
        assert heard
        assert len(scene.plan.whole_scene) == 1
        assert 40 <= scene.plan.num_chunks <= 60
        sounds += len(heard)
        replies += sum(c.decision == "RESPOND" for c in scene.plan.foreground)
    assert 0.2 < replies / sounds < 0.5
    assert sounds / 40 > 3
    assert scenarios.counts["accepted"] > 40


def test_the_same_seed_gives_the_same_stream_also_from_a_copy() -> None:
    scenarios = curated_scenarios(Foley(), chunks=(40, 45))
    first = scenarios(3)
    copy = pickle.loads(pickle.dumps(scenarios))
    assert copy(3).audio.tobytes() == first.audio.tobytes()
    assert curated_scenarios(Foley(), chunks=(40, 45))(3).events == first.events
    ambience = [event for event in first.events if event.duration_s == first.duration_s]
    assert [(event.role, event.onset_s) for event in ambience] == [("ambient", 0.0)]
    foreground = [event for event in first.events if event.role == "foreground"]
    assert all(one.end_s <= other.onset_s for one, other in itertools.pairwise(foreground))


def test_a_short_stream_leaves_the_end_of_a_scene_out() -> None:
    scenarios = curated_scenarios(Foley(), chunks=(18, 18))
    for seed in range(10):
        scene = next(scenarios.scenes(seed))
        foreground = [
            g for e, g in zip(scene.outline.sub_events, scene.grounded, strict=True) if e.role == "foreground"
        ]
        assert None not in foreground[: len(scene.plan.foreground)]  # what is left out comes last
        assert scenarios(seed).num_chunks == 18
    assert scenarios.counts["dropped: no room"] > 10


@pytest.mark.parametrize(
    ("name", "url", "model", "message"),
    [
        ("gramar", None, None, "did you mean 'grammar'"),
        ("grammar", "http://here", None, "asks no model"),
        ("llm", None, "m", "needs a base URL and a model"),
        ("llm", "http://here", None, "needs a base URL and a model"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    name: str, url: str | None, model: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planner_from_options(name, url, model)


@pytest.mark.parametrize("change", [{"respond_share": 1.5}, {"chunks": (0, 4)}, {"chunks": (9, 8)}])
def test_impossible_scenes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match="expected"):
        curated_scenarios(Foley(), **change)
