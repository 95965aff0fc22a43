"""The catalogue of sounds: which ones deserve a word, what a good word is, and how urgent it is.

Criteria of a reply (paper, comprehension-aware silence): (i) acute physiological distress, (ii) severe weather or
natural hazard, (iii) equipment damage or fire, (iv) safety-critical signals of the surroundings.
"""

import re
from dataclasses import dataclass

from envs.scenario import Answer, Decision

HUMAN, DAILY, EQUIPMENT = "Human Sound Signals", "Daily Living Sounds", "Equipment"
TRAFFIC, NATURE, MUSIC = "Traffic", "Nature & Environment", "Music"


@dataclass(frozen=True)
class SoundClass:
    """One kind of sound; `answer` is given exactly when `decision` is "RESPOND"."""

    label: str
    caption: str
    domain: str
    decision: Decision
    answer: Answer | None = None


def _respond(
    label: str, caption: str, domain: str, rule: str, urgency: float, evidence_s: float, facts: str, *replies: str
) -> SoundClass:
    criterion, sub_task = rule.split(" ")
    answer = Answer(replies, tuple(facts.split(" ")), urgency, criterion, sub_task, evidence_s)
    return SoundClass(label, caption, domain, "RESPOND", answer)


_DISTRESS, _HAZARD = "i distress", "ii natural_hazard"
_FIRE, _SAFETY = "iii equipment_or_fire", "iv safety_signal"

_RESPOND = (
    _respond(
        "smoke_alarm", "a smoke alarm beeps", EQUIPMENT, _FIRE, 1.0, 1.2, "alarm",
        "I hear a smoke alarm. Check for fire and leave the house.",
        "A smoke alarm is beeping. Look for smoke right away.",
        "The smoke alarm has gone off. Please get to safety.",
    ),
    _respond(
        "glass_break", "glass shatters", DAILY, _SAFETY, 0.9, 0.6, "glass",
        "I hear glass breaking. Watch out for the shards.",
        "Some glass has just shattered. Keep your feet away.",
        "That was breaking glass. Please check what happened.",
    ),
    _respond(
        "siren", "a siren wails", TRAFFIC, _SAFETY, 0.9, 1.2, "siren",
        "I hear a siren. Make way for the emergency vehicle.",
        "A siren is coming closer. Please clear the road.",
        "There is a siren outside. Be careful on the street.",
    ),
    _respond(
        "car_horn", "a car horn blares", TRAFFIC, _SAFETY, 0.8, 0.8, "horn|honk",
        "I hear a car horn. Look out for traffic.",
        "A car is honking. Please watch the road.",
        "That was a car horn. Take care near the street.",
    ),
    _respond(
        "kettle_whistle", "a kettle whistles", DAILY, _FIRE, 0.7, 1.2, "kettle",
        "I hear the kettle whistling. Please turn off the stove.",
        "The kettle is boiling. Take it off the heat.",
        "Your kettle is whistling. The water is ready.",
    ),
    _respond(
        "cough_fit", "a person coughs again and again", HUMAN, _DISTRESS, 0.9, 2.0, "cough",
        "I hear a coughing fit. Drink some water and breathe slowly.",
        "You are coughing a lot. Do you need help?",
        "Someone keeps coughing. Please sit down and take a breath.",
    ),
    _respond(
        "baby_cry", "a baby is crying", HUMAN, _DISTRESS, 0.9, 1.2, "baby cry",
        "I hear a baby crying. Please check on the child.",
        "The baby is crying. It may be hungry or unwell.",
        "A baby cries. Someone should comfort it now.",
    ),
    _respond(
        "water_leak", "water is leaking", EQUIPMENT, _FIRE, 0.7, 1.6, "water leak|drip",
        "I hear water leaking. Close the main valve.",
        "Some water is dripping. Look for a leak in the pipes.",
        "There may be a water leak. Check under the sink.",
    ),
    _respond(
        "doorbell", "the doorbell rings", DAILY, _SAFETY, 0.6, 0.8, "door",
        "I hear the doorbell. Someone is at the door.",
        "The doorbell is ringing. You have a visitor.",
        "Somebody rang the doorbell. Please go and see.",
    ),
    _respond(
        "thunder", "thunder rumbles", NATURE, _HAZARD, 0.8, 1.2, "thunder",
        "I hear thunder. A storm is near, stay inside.",
        "That was thunder. Please close the windows.",
        "Thunder is rolling. Unplug what the lightning could harm.",
    ),
    _respond(
        "scream", "a person screams", HUMAN, _DISTRESS, 1.0, 0.8, "scream",
        "I hear a scream. Is somebody hurt?",
        "Someone is screaming. Do you need help?",
        "That was a scream. I can call for help.",
    ),
    _respond(
        "fuse", "a fuse hisses and burns", NATURE, _FIRE, 1.0, 0.6, "fuse|hiss",
        "I hear a fuse hissing. Step back at once.",
        "A fuse is burning. Get away from it.",
        "That hiss is a burning fuse. Please keep clear.",
    ),
    _respond(
        "blast", "something explodes", NATURE, _SAFETY, 1.0, 0.6, "blast|explosion",
        "I hear a blast. Take cover and stay down.",
        "That was an explosion. Keep away from the windows.",
        "There was a loud blast. Are you all right?",
    ),
    _respond(
        "fire_crackle", "a fire crackles", NATURE, _FIRE, 0.9, 1.6, "fire",
        "I hear a fire crackling. Make sure it is under control.",
        "Something is on fire. Please check at once.",
        "That sounds like a fire. Keep an extinguisher near.",
    ),
)

_IGNORE = (
    ("rain", "rain falls", NATURE),
    ("typing", "someone types on a keyboard", DAILY),
    ("fan", "a fan hums", EQUIPMENT),
    ("footsteps", "footsteps", HUMAN),
    ("bird", "a bird is calling", NATURE),
    ("music", "music plays", MUSIC),
    ("note", "a single note sounds", MUSIC),
    ("whistling", "a person whistles a tune", HUMAN),
    ("door", "a door moves", DAILY),
    ("engine", "an engine runs", TRAFFIC),
    ("cough_single", "a person coughs once", HUMAN),
    ("baby_laugh", "a baby is laughing", HUMAN),
    ("cat", "a cat is calling", NATURE),
    ("dog", "a dog is calling", NATURE),
    ("cow", "a cow is calling", NATURE),
    ("sheep", "a sheep is calling", NATURE),
    ("frog", "a frog is calling", NATURE),
    ("knocking_work", "something is dug or set down", DAILY),
    ("switch", "a switch clicks", EQUIPMENT),
    ("dishes", "dishes clink", DAILY),
    ("applause", "people applaud", HUMAN),
    ("wind", "wind blows", NATURE),
    ("clock_tick", "a clock ticks", DAILY),
    ("flowing_water", "water flows", NATURE),
    ("room_noise", "household background noise", NATURE),
    ("speech_babble", "people talk", HUMAN),
)

SOUND_CLASSES: dict[str, SoundClass] = {
    **{c.label: c for c in _RESPOND},
    **{label: SoundClass(label, caption, domain, "IGNORE") for label, caption, domain in _IGNORE},
}

_FILLERS = frozenset("a an and are at be been has have in into is it of on or over something someone the to up was".split())


def answer_for(label: str, caption: str) -> Answer:
    """Return the catalogue's answer to a sound, or one made from the caption of a sound that it does not know.

    Args:
        label: The sound's label.
        caption: A short clause such as "a baby is crying".
    """
    known = SOUND_CLASSES.get(label)
    if known is not None and known.answer is not None:
        return known.answer
    words = [w for w in re.findall(r"[\w']+", caption.lower()) if w not in _FILLERS] or [label]
    clause = caption.strip().rstrip(".")
    return Answer(
        replies=(
            f"I can hear that {clause}. Please check on it.",
            f"Listen: {clause}. Please take a look.",
        ),
        key_facts=tuple(words[:2]),
        urgency=0.8,
        criterion="iv",
        sub_task="safety_signal",
        evidence_s=1.0,
    )
