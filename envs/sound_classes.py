"""The catalogue of built-in sounds: which deserve a reply, and what a good reply says.

The reasons to speak are the paper's (section on comprehension-aware silence): (i) acute physiological
distress, (ii) severe weather or natural hazard, (iii) equipment damage or fire indicators, (iv) signals that
matter for safety. Labels, captions, domains and decisions agree with the recordings' manifests.
"""

import re
from dataclasses import dataclass

from envs.scenario import Answer, Decision

HUMAN = "Human Sound Signals"
DAILY = "Daily Living Sounds"
EQUIPMENT = "Equipment"
TRAFFIC = "Traffic"
NATURE = "Nature & Environment"
MUSIC = "Music"

_CRITERION = {"distress": "i", "natural_hazard": "ii", "equipment_or_fire": "iii", "safety_signal": "iv"}
_SUB_TASK_OF_DOMAIN = {HUMAN: "distress", NATURE: "natural_hazard", EQUIPMENT: "equipment_or_fire"}


@dataclass(frozen=True)
class SoundClass:
    """A kind of sound. `answer` is given exactly when `decision` is "RESPOND"."""

    label: str
    caption: str  # a short clause: "a baby is crying"
    domain: str
    decision: Decision
    answer: Answer | None = None


def _respond(
    label: str,
    caption: str,
    domain: str,
    *,
    sub_task: str,
    urgency: float,
    evidence_s: float,
    key_facts: tuple[str, ...],
    replies: tuple[str, str, str],
) -> SoundClass:
    answer = Answer(replies, key_facts, urgency, _CRITERION[sub_task], sub_task, evidence_s)
    return SoundClass(label, caption, domain, "RESPOND", answer)


_RESPOND = (
    _respond(
        "baby_cry", "a baby is crying", HUMAN,
        sub_task="distress", urgency=0.8, evidence_s=1.0, key_facts=("baby", "cry"),
        replies=(
            "I hear a baby crying. Please check on the little one.",
            "The baby is crying. It may be hungry or need you.",
            "That is a baby crying. Please go and comfort it.",
        ),
    ),
    _respond(
        "cough_fit", "a person coughs again and again", HUMAN,
        sub_task="distress", urgency=0.8, evidence_s=2.0, key_facts=("cough",),
        replies=(
            "I hear heavy coughing. Please sit upright and drink some water.",
            "That cough does not stop. Please take a break and breathe slowly.",
            "You keep coughing. Get help if breathing becomes hard.",
        ),
    ),
    _respond(
        "scream", "a person screams", HUMAN,
        sub_task="distress", urgency=1.0, evidence_s=0.8, key_facts=("scream",),
        replies=(
            "I hear a scream. Are you hurt? I can call for help.",
            "Somebody is screaming. Please check whether they are in danger.",
            "That was a scream. Please look whether someone needs help.",
        ),
    ),
    _respond(
        "fall", "somebody falls down", HUMAN,
        sub_task="distress", urgency=0.9, evidence_s=0.8, key_facts=("fall|fell",),
        replies=(
            "I heard somebody fall. Are you hurt? Do not get up quickly.",
            "It sounds as if someone fell. Please check on them.",
            "That was a heavy fall. Tell me if you need help.",
        ),
    ),
    _respond(
        "smoke_alarm", "a smoke alarm beeps", EQUIPMENT,
        sub_task="equipment_or_fire", urgency=1.0, evidence_s=1.2, key_facts=("smoke", "alarm|detector"),
        replies=(
            "I hear the smoke alarm. Look for fire and leave if needed.",
            "The smoke detector is beeping. Check for fire right now.",
            "That is the smoke alarm. Get everybody out and call for help.",
        ),
    ),
    _respond(
        "kettle_whistle", "a kettle whistles", DAILY,
        sub_task="equipment_or_fire", urgency=0.6, evidence_s=1.2, key_facts=("kettle|water",),
        replies=(
            "I hear the kettle whistling. Please turn off the stove.",
            "The kettle is boiling. Take it off the heat carefully.",
            "Your kettle whistles. Switch it off before it boils dry.",
        ),
    ),
    _respond(
        "water_leak", "water drips and leaks", DAILY,
        sub_task="equipment_or_fire", urgency=0.6, evidence_s=1.2, key_facts=("leak|drip", "water"),
        replies=(
            "I hear water leaking. Please close the valve and check the pipes.",
            "Water is dripping somewhere. Check the taps before damage is done.",
            "That sounds like a water leak. Keep the floor dry and find it.",
        ),
    ),
    _respond(
        "fuse", "a fuse hisses and burns", NATURE,
        sub_task="equipment_or_fire", urgency=1.0, evidence_s=0.6, key_facts=("fuse",),
        replies=(
            "I hear a burning fuse. Step back to a safe distance.",
            "A fuse is hissing. Move away from it at once.",
            "That is a lit fuse. Keep clear and protect your eyes.",
        ),
    ),
    _respond(
        "fire_crackle", "a fire crackles", NATURE,
        sub_task="equipment_or_fire", urgency=0.9, evidence_s=1.2, key_facts=("fire",),
        replies=(
            "I hear a fire crackling. Make sure that it is under control.",
            "Something is on fire. Leave the room and call for help.",
            "That sounds like fire. Check at once what is burning.",
        ),
    ),
    _respond(
        "machine_fault", "a machine grinds and jams", EQUIPMENT,
        sub_task="equipment_or_fire", urgency=0.7, evidence_s=1.0, key_facts=("machine", "jam|grind"),
        replies=(
            "I hear a machine grinding. Switch it off before it breaks.",
            "The machine sounds jammed. Please stop it and unplug it.",
            "That machine is jamming. Turn it off and check the gears.",
        ),
    ),
    _respond(
        "thunder", "thunder rumbles", NATURE,
        sub_task="natural_hazard", urgency=0.7, evidence_s=1.2, key_facts=("thunder",),
        replies=(
            "I hear thunder. Please stay inside and close the windows.",
            "Thunder is rolling. Seek shelter and keep away from trees.",
            "That was thunder. Unplug what is sensitive and stay indoors.",
        ),
    ),
    _respond(
        "rockfall", "rocks tumble down", NATURE,
        sub_task="natural_hazard", urgency=1.0, evidence_s=1.0, key_facts=("rock|stone",),
        replies=(
            "I hear rocks falling. Move away from the slope now.",
            "Stones are coming down. Take cover and protect your head.",
            "That is a rockfall. Keep clear until it has stopped.",
        ),
    ),
    _respond(
        "blast", "something explodes", NATURE,
        sub_task="safety_signal", urgency=1.0, evidence_s=0.4, key_facts=("explosion|explod|blast",),
        replies=(
            "I heard an explosion. Take cover and stay away from windows.",
            "Something exploded. Get to safety and call for help.",
            "That was a blast. Keep your distance and check for injuries.",
        ),
    ),
    _respond(
        "glass_break", "glass shatters", DAILY,
        sub_task="safety_signal", urgency=0.8, evidence_s=0.4, key_facts=("glass",),
        replies=(
            "I hear glass breaking. Watch out for the shards.",
            "Glass has shattered. Wear shoes before you clean it up.",
            "That was breaking glass. Check the windows and mind your feet.",
        ),
    ),
    _respond(
        "siren", "an emergency siren wails", TRAFFIC,
        sub_task="safety_signal", urgency=0.9, evidence_s=1.2, key_facts=("siren",),
        replies=(
            "I hear a siren. Make way for the emergency vehicle.",
            "A siren is coming closer. Please clear the road.",
            "That is a siren. Stop and let the emergency vehicle pass.",
        ),
    ),
    _respond(
        "car_horn", "a car horn blares", TRAFFIC,
        sub_task="safety_signal", urgency=0.9, evidence_s=0.5, key_facts=("horn|honk",),
        replies=(
            "I hear a car horn. Look out for traffic around you.",
            "A car is honking. Step back from the road.",
            "That is a horn. Please check the road before you cross.",
        ),
    ),
    _respond(
        "car_skid", "a car skids and its tyres squeal", TRAFFIC,
        sub_task="safety_signal", urgency=1.0, evidence_s=0.6, key_facts=("skid|tyre|tire",),
        replies=(
            "I hear a car skidding. Get away from the road.",
            "Tyres are squealing. Watch out for a car out of control.",
            "That car is skidding. Look around and keep your distance.",
        ),
    ),
    _respond(
        "backup_beep", "a lorry beeps while it reverses", TRAFFIC,
        sub_task="safety_signal", urgency=0.8, evidence_s=1.2, key_facts=("revers|back",),
        replies=(
            "I hear a vehicle reversing. Keep clear of its rear.",
            "A lorry is backing up. Make sure that the driver sees you.",
            "That beeping is a reversing truck. Stay out of its way.",
        ),
    ),
    _respond(
        "doorbell", "the doorbell rings", NATURE,
        sub_task="safety_signal", urgency=0.5, evidence_s=0.5, key_facts=("door",),
        replies=(
            "I hear the doorbell. Somebody is waiting for you outside.",
            "The doorbell is ringing. Please see who is there.",
            "Someone rings at the door. Check who it is before opening.",
        ),
    ),
)  # fmt: skip

_IGNORE = (
    ("applause", "people applaud", HUMAN),
    ("baby_laugh", "a baby is laughing", HUMAN),
    ("bird", "a bird is calling", NATURE),
    ("button_beep", "a button beeps", EQUIPMENT),
    ("cart", "a cart rolls on rails", TRAFFIC),
    ("cat", "a cat is calling", NATURE),
    ("chicken", "a chicken is calling", NATURE),
    ("clock_tick", "a clock ticks", EQUIPMENT),
    ("cough_single", "a person coughs once", HUMAN),
    ("cow", "a cow is calling", NATURE),
    ("cricket", "crickets chirp", NATURE),
    ("dishes", "dishes clink", DAILY),
    ("dog", "a dog is calling", NATURE),
    ("donkey", "a donkey is calling", NATURE),
    ("door", "a door moves", DAILY),
    ("engine", "an engine runs", TRAFFIC),
    ("fan", "a fan turns", EQUIPMENT),
    ("faucet", "a tap runs", DAILY),
    ("flowing_water", "water flows", NATURE),
    ("footsteps", "footsteps", HUMAN),
    ("frog", "a frog is calling", NATURE),
    ("guitar", "a guitar plays", MUSIC),
    ("knocking_work", "something is dug or set down", DAILY),
    ("laughter", "a person laughs", HUMAN),
    ("lion", "a lion is calling", NATURE),
    ("monkey", "a monkey is calling", NATURE),
    ("music", "music plays", MUSIC),
    ("note", "a single note sounds", MUSIC),
    ("paper", "paper rustles", DAILY),
    ("rain", "rain falls", NATURE),
    ("room_noise", "household background noise", NATURE),
    ("room_silence", "a quiet room", NATURE),
    ("sheep", "a sheep is calling", NATURE),
    ("snoring", "a person snores", HUMAN),
    ("speech_babble", "people talk to each other", HUMAN),
    ("switch", "a switch clicks", EQUIPMENT),
    ("train", "a train passes", TRAFFIC),
    ("typing", "someone types on a keyboard", DAILY),
    ("vacuum", "a vacuum cleaner runs", EQUIPMENT),
    ("whistling", "a person whistles a tune", HUMAN),
    ("wind", "wind blows", NATURE),
)

SOUND_CLASSES: dict[str, SoundClass] = {sound.label: sound for sound in _RESPOND} | {
    label: SoundClass(label, caption, domain, "IGNORE") for label, caption, domain in _IGNORE
}

_NO_CONTENT = re.compile(  # words of a caption that say nothing about the sound
    "an?|and|another|are|as|at|be|been|by|down|for|from|ha[sd]|have|her|his|in|into|is|its?|of|off|on|once|one|or|out"
    "|over|people|person|some|somebody|someone|something|the|their|there|this|to|under|up|while|with"
)


def answer_for(label: str, caption: str, domain: str = "") -> Answer:
    """Return what to say to a sound that deserves a reply.

    Args:
        label: A label of the catalogue, or a user's own.
        caption: What is heard, as a short clause: "a baby is crying". May be empty; the label stands in then.
        domain: The domain of the sound; for labels of one's own it decides the criterion.

    Returns:
        The catalogue's answer when it knows the label as one to respond to, else one made from the caption.
    """
    known = SOUND_CLASSES.get(label)
    if known is not None and known.answer is not None:
        return known.answer
    clause = caption.strip().rstrip(".!?") or label.replace("_", " ")
    sub_task = _SUB_TASK_OF_DOMAIN.get(domain, "safety_signal")
    return Answer(
        replies=(
            f"I hear that {clause}. Please check on it.",
            f"It sounds like {clause}. Please take a look.",
            f"Listen: {clause}. Please see whether help is needed.",
        ),
        key_facts=_key_facts(clause),
        urgency=0.8,
        criterion=_CRITERION[sub_task],
        sub_task=sub_task,
        evidence_s=1.0,
    )


def _key_facts(clause: str) -> tuple[str, ...]:
    """Return the stems of the first two content words: "crying" is stated by "cry" and "cries" as well."""
    words = [word for word in re.findall(r"[^\W\d_]+", clause.lower()) if not _NO_CONTENT.fullmatch(word)]
    stems = dict.fromkeys(re.sub(r"(?<=\w{3})(ing|ed|es|s)$", "", word) for word in words)
    return tuple(stems)[:2] or (clause.lower(),)
