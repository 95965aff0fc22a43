"""What spoken questions are about, and what a right answer says: small, closed, and without a network."""

from dataclasses import dataclass

import numpy as np

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Peru": "Lima", "Canada": "Ottawa", "Norway": "Oslo", "Greece": "Athens", "Cuba": "Havana",
    "Poland": "Warsaw", "Austria": "Vienna", "Thailand": "Bangkok", "China": "Beijing", "Ireland": "Dublin",
    "Portugal": "Lisbon", "Russia": "Moscow", "Sweden": "Stockholm",
}  # fmt: skip
LEGS = {"spider": 8, "dog": 4, "bird": 2, "ant": 6, "horse": 4, "bee": 6, "cat": 4, "duck": 2, "beetle": 6}
COLOURS = {
    "a ripe banana": "yellow", "fresh snow": "white", "grass": "green", "coal": "black", "a ripe tomato": "red",
    "the clear sky": "blue", "an orange": "orange", "chocolate": "brown", "an elephant": "grey|gray",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "early": "late", "open": "closed", "wet": "dry", "young": "old", "fast": "slow",
    "empty": "full", "heavy": "light", "loud": "quiet", "dark": "bright|light", "rich": "poor",
}  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = tuple("January February March April May June July August September October November December".split())


@dataclass(frozen=True)
class Question:
    """A question with its right answers; `facts` as in `envs.scenario.Answer`."""

    text: str
    replies: tuple[str, ...]
    facts: tuple[str, ...]
    subject: str  # what a later question may come back to


def spoken_number(number: int) -> str:
    """Return a number from 0 to 99 in words.

    >>> spoken_number(42)
    'forty two'
    """
    tens, ones = divmod(number, 10)
    if tens < 2:
        return ONES[number]
    return TENS[tens] + (f" {ONES[ones]}" if ones else "")


def _capital(rng: np.random.Generator) -> Question:
    country = _pick(rng, tuple(CAPITALS))
    city = CAPITALS[country]
    asked = _pick(rng, (f"What is the capital of {country}?", f"Which city is the capital of {country}?"))
    return Question(asked, (f"The capital of {country} is {city}.", f"It is {city}."), (city,), country)


def _sum(rng: np.random.Generator) -> Question:
    a, b = (int(n) for n in rng.integers(2, 40, 2))
    total = spoken_number(a + b)
    text = f"What is {spoken_number(a)} plus {spoken_number(b)}?"
    replies = (f"{spoken_number(a)} plus {spoken_number(b)} is {total}.".capitalize(), f"That makes {total}.")
    return Question(text, replies, (f"{total}|{a + b}",), total)


def _legs(rng: np.random.Generator) -> Question:
    animal = _pick(rng, tuple(LEGS))
    count = spoken_number(LEGS[animal])
    article = "an" if animal[0] in "aeiou" else "a"
    replies = (f"{article.capitalize()} {animal} has {count} legs.", f"It has {count} legs.")
    return Question(f"How many legs does {article} {animal} have?", replies, (f"{count}|{LEGS[animal]}",), animal)


def _colour(rng: np.random.Generator) -> Question:
    thing = _pick(rng, tuple(COLOURS))
    colour = COLOURS[thing].split("|")[0]
    replies = (f"{thing.capitalize()} is {colour}.", f"It is {colour}.")
    return Question(f"Which colour does {thing} have?", replies, (COLOURS[thing],), thing)


def _opposite(rng: np.random.Generator) -> Question:
    word = _pick(rng, tuple(OPPOSITES))
    other = OPPOSITES[word].split("|")[0]
    replies = (f"The opposite of {word} is {other}.", f"That is {other}.")
    return Question(f"What is the opposite of {word}?", replies, (OPPOSITES[word],), word)


def _next_in(rng: np.random.Generator, names: tuple[str, ...], unit: str) -> Question:
    index = int(rng.integers(len(names)))
    name, following = names[index], names[(index + 1) % len(names)]
    replies = (f"{following} comes after {name}.", f"The {unit} after {name} is {following}.")
    return Question(f"Which {unit} comes after {name}?", replies, (following,), name)


def _weekday(rng: np.random.Generator) -> Question:
    return _next_in(rng, WEEKDAYS, "day")


def _month(rng: np.random.Generator) -> Question:
    return _next_in(rng, MONTHS, "month")


_KINDS = (_capital, _sum, _legs, _colour, _opposite, _weekday, _month)


def ask(rng: np.random.Generator) -> Question:
    """Draw a question: capitals, sums, legs, colours, opposites, days and months."""
    return _KINDS[int(rng.integers(len(_KINDS)))](rng)


def _pick(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]
