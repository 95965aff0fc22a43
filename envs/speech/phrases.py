"""Sentences in English and Chinese that mean the same: what is translated and transcribed where no corpus is given."""

from dataclasses import dataclass

import numpy as np

PLACES = {
    "the train station": "火车站", "the hospital": "医院", "the library": "图书馆", "the post office": "邮局",
    "the airport": "机场", "the bank": "银行", "the supermarket": "超市", "the hotel": "酒店", "the museum": "博物馆",
    "the school": "学校", "the park": "公园", "the bus stop": "公交车站",
}  # fmt: skip
FOODS = {
    "a cup of tea": "一杯茶", "a cup of coffee": "一杯咖啡", "a bowl of rice": "一碗米饭", "a glass of water": "一杯水",
    "two apples": "两个苹果", "some noodles": "一些面条", "a piece of cake": "一块蛋糕", "some fish": "一些鱼",
}  # fmt: skip
PEOPLE = {
    "my brother": "我的哥哥", "my sister": "我的姐姐", "my mother": "我的妈妈", "my teacher": "我的老师",
    "our doctor": "我们的医生", "my friend": "我的朋友", "her father": "她的爸爸",
}  # fmt: skip
DAYS = {"today": "今天", "tomorrow": "明天", "on Monday": "星期一", "on Friday": "星期五", "this evening": "今天晚上"}
NUMBERS = {"two": "两", "three": "三", "five": "五", "ten": "十", "twenty": "二十", "fifty": "五十"}
WEATHER = {"raining": "下雨", "snowing": "下雪"}

_TEMPLATES = (
    ("Where is {place}?", "{place}在哪里？"),
    ("How do I get to {place}?", "我怎么去{place}？"),
    ("{place} is very near.", "{place}很近。"),
    ("{place} is closed {day}.", "{place}{day}关门。"),
    ("I would like {food}, please.", "我想要{food}，谢谢。"),
    ("{person} would like {food}.", "{person}想要{food}。"),
    ("{person} is waiting at {place}.", "{person}在{place}等着。"),
    ("{person} will come {day}.", "{person}{day}会来。"),
    ("We meet at {place} {day}.", "我们{day}在{place}见面。"),
    ("It costs {number} dollars.", "这个要{number}美元。"),
    ("I have to wait {number} minutes.", "我要等{number}分钟。"),
    ("It is {weather} at {place}.", "{place}在{weather}。"),
    ("{person} has lived here for {number} years.", "{person}在这里住了{number}年。"),
)
_SLOTS = {"place": PLACES, "food": FOODS, "person": PEOPLE, "day": DAYS, "number": NUMBERS, "weather": WEATHER}


@dataclass(frozen=True)
class Phrase:
    """One sentence in both languages, with the words that a translation must not miss."""

    english: str
    chinese: str
    english_facts: tuple[str, ...]
    chinese_facts: tuple[str, ...]


def draw_phrase(rng: np.random.Generator) -> Phrase:
    """Draw a sentence and its translation.

    >>> draw_phrase(np.random.default_rng(0)).english
    'My brother is waiting at the hotel.'
    """
    english, chinese = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
    used = {slot: options for slot, options in _SLOTS.items() if f"{{{slot}}}" in english}
    chosen = {slot: list(options.items())[int(rng.integers(len(options)))] for slot, options in used.items()}
    text = english.format(**{slot: pair[0] for slot, pair in chosen.items()})
    return Phrase(
        text[0].upper() + text[1:],
        chinese.format(**{slot: pair[1] for slot, pair in chosen.items()}),
        tuple(pair[0].split()[-1] for pair in chosen.values()),
        tuple(pair[1] for pair in chosen.values()),
    )
