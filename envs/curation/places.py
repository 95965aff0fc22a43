"""What may be heard where, and the rules of its order: the grammar's words, all labels of the built-in sounds."""

from dataclasses import dataclass

Odds = dict[str, float]


@dataclass(frozen=True)
class Place:
    """A place with the sounds that belong there, by role; `fire*3` is three times as likely as `fire`."""

    name: str
    whole_scene: str  # ambience that can last as long as one stays
    beds: str  # what may lie under the foreground for a while
    foreground: str


PLACES = (
    Place(
        "kitchen", "room_noise*3 fan*2", "clock_tick music speech_babble faucet dishes",
        "dishes*3 faucet*3 footsteps*2 door*2 button_beep switch cough_single laughter paper"
        " kettle_whistle*3 water_leak*2 glass_break*2 smoke_alarm*2 fire_crackle fall doorbell",
    ),
    Place(
        "street", "engine*3 wind*2 rain speech_babble", "bird dog footsteps train music",
        "footsteps*3 speech_babble*2 dog*2 bird whistling*2 laughter cough_single door knocking_work"
        " car_horn*3 car_skid*2 siren*3 backup_beep*2 glass_break thunder scream",
    ),
    Place(
        "office", "room_noise*2 fan*3", "typing*3 paper speech_babble clock_tick",
        "typing*3 paper*3 footsteps*2 door*2 switch*2 button_beep*2 cough_single laughter speech_babble"
        " cough_fit*2 smoke_alarm*2 fall*2 doorbell water_leak glass_break",
    ),
    Place(
        "nursery", "room_noise*2 room_silence*2 fan", "clock_tick music rain",
        "baby_laugh*3 note*2 door*2 footsteps*2 paper switch knocking_work whistling music"
        " baby_cry*5 fall*2 glass_break*2 cough_fit doorbell",
    ),
    Place(
        "bathroom", "room_noise*2 fan*3 flowing_water", "faucet flowing_water rain",
        "faucet*3 door*2 switch*2 footsteps*2 whistling cough_single knocking_work paper"
        " water_leak*4 fall*3 cough_fit glass_break smoke_alarm",
    ),
    Place(
        "garden", "wind*3 rain cricket", "bird*3 dog flowing_water chicken frog",
        "bird*3 dog*2 cat*2 frog footsteps*2 knocking_work*2 whistling laughter chicken"
        " thunder*3 fuse*2 fall*2 glass_break fire_crackle baby_cry scream",
    ),
    Place(
        "workshop", "fan*3 engine*2 room_noise", "knocking_work music vacuum",
        "knocking_work*3 switch*3 button_beep*2 footsteps*2 door whistling cough_single paper vacuum"
        " machine_fault*4 smoke_alarm*2 fall*2 fuse blast backup_beep glass_break",
    ),
    Place(
        "railway station", "speech_babble*3 wind room_noise", "train*2 footsteps cart music",
        "train*3 footsteps*3 cart*2 whistling laughter cough_single note door applause"
        " scream*2 fall*2 baby_cry*2 siren cough_fit",
    ),
    Place(
        "shop", "speech_babble*2 music*2 fan*2", "footsteps button_beep paper",
        "button_beep*3 paper*2 footsteps*3 cart*2 door*2 laughter cough_single baby_laugh"
        " baby_cry*2 glass_break*3 smoke_alarm*2 fall doorbell scream",
    ),
    Place(
        "living room at night", "room_silence*3 room_noise*2 rain", "clock_tick*3 wind snoring",
        "clock_tick*2 snoring*2 cat door*2 switch*2 footsteps*2 cough_single paper"
        " smoke_alarm*3 glass_break*3 cough_fit*2 fall water_leak*2 thunder baby_cry doorbell",
    ),
    Place(
        "seaside", "flowing_water*3 wind*3", "bird speech_babble music",
        "bird*3 dog*2 laughter*2 footsteps whistling speech_babble guitar knocking_work"
        " thunder*3 rockfall*2 scream*2 siren baby_cry",
    ),
    Place(
        "farm", "wind*3 cricket engine", "chicken sheep cow flowing_water",
        "cow*2 sheep*2 chicken*2 donkey*2 dog cat footsteps door knocking_work"
        " thunder*2 machine_fault*2 backup_beep*2 fire_crackle fall",
    ),
    Place(
        "concert hall", "room_noise*2 speech_babble*2", "speech_babble paper",
        "music*3 guitar*3 note*2 applause*3 cough_single*2 footsteps door laughter paper"
        " cough_fit*2 smoke_alarm*2 fall scream",
    ),
    Place(
        "zoo", "wind*2 speech_babble*2 flowing_water", "bird frog footsteps",
        "lion*3 monkey*3 bird*2 frog*2 footsteps*2 laughter baby_laugh whistling cart"
        " baby_cry*2 scream*2 siren fall thunder",
    ),
    Place(
        "quarry", "wind*3 engine*3", "knocking_work engine",
        "knocking_work*3 footsteps*2 cart*2 whistling cough_single bird speech_babble switch"
        " rockfall*3 fuse*2 blast*2 backup_beep*3 machine_fault siren",
    ),
)  # fmt: skip

BEFORE = {  # where both are heard in the foreground, the first comes before every one of the others
    "faucet": "kettle_whistle",
    "footsteps": "doorbell door typing",
    "doorbell": "door",
    "switch": "vacuum machine_fault",
    "cough_single": "cough_fit",
    "glass_break": "baby_cry scream siren",
    "fall": "baby_cry siren",
    "car_horn": "car_skid",
    "car_skid": "glass_break scream siren",
    "rockfall": "scream siren",
    "fuse": "blast",
    "blast": "fire_crackle machine_fault siren rockfall",
    "machine_fault": "smoke_alarm",
    "fire_crackle": "smoke_alarm",
    "scream": "siren",
    "baby_laugh": "baby_cry",
    "note": "guitar music",
}

NEEDS = {  # what makes no sense unless one of these came before it, or lasts the whole scene
    "kettle_whistle": "faucet",
    "thunder": "rain wind",
    "applause": "music guitar speech_babble",
    "backup_beep": "engine",
    "car_skid": "engine car_horn",
    "machine_fault": "switch engine fan",
    "rockfall": "wind knocking_work",
    "blast": "fuse knocking_work",
}

APART = {  # what is never heard in one scene with any of the others
    "room_silence": "music vacuum speech_babble train fan engine rain wind applause laughter",
    "snoring": "vacuum music applause speech_babble typing laughter guitar whistling train bird",
    "bird": "cricket thunder",
    "cricket": "rain thunder",
    "rain": "fire_crackle",
    "kettle_whistle": "whistling",
    "smoke_alarm": "backup_beep button_beep",
    "backup_beep": "button_beep",
    "thunder": "blast rockfall",
    "fuse": "fire_crackle",
    "baby_laugh": "scream laughter",
    "lion": "cow sheep donkey chicken dog cat",
    "vacuum": "music speech_babble",
}

SECONDS = {  # how long a sound usually lasts; others 3 s
    0.8: "button_beep switch door",
    1.4: "cough_single knocking_work car_horn glass_break sheep footsteps",
    2.0: "cat dog chicken cart dishes doorbell note fall blast car_skid whistling frog monkey",
}


def odds(words: str) -> Odds:
    """Return labels with their odds.

    >>> odds("dishes*3 faucet")
    {'dishes': 3.0, 'faucet': 1.0}
    """
    pairs = (word.partition("*") for word in words.split())
    return {label: float(weight or 1) for label, _, weight in pairs}


def needs(label: str) -> tuple[str, ...]:
    """Return of which sounds one has to come before `label`; empty: it stands for itself."""
    return tuple(NEEDS.get(label, "").split())


def comes_before(first: str, then: str) -> bool:
    """Return whether `first` has to be heard before `then`, where both are in the foreground."""
    return then in BEFORE.get(first, "").split() or first in needs(then)


def are_apart(one: str, other: str) -> bool:
    """Return whether two sounds exclude each other; no sound is planned twice in one scene."""
    return one == other or other in APART.get(one, "").split() or one in APART.get(other, "").split()


def usual_seconds(label: str) -> float:
    """Return how long a sound usually lasts, in seconds."""
    return next((seconds for seconds, labels in SECONDS.items() if label in labels.split()), 3.0)
