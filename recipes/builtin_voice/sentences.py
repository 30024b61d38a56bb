"""Sentences to speak, made up from templates: times, numbers, weather, names and short turns of a conversation.

Which split a sentence belongs to follows from the sentence itself, so none can be in both. It knows no audio.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from zlib import crc32

import numpy as np

Split = Literal["train", "held-out"]
HELD_OUT_IN = 8  # one sentence in so many is held out

WORDS = {
    "name": "Anna Peter Maria Oliver Julia Thomas Clara David Emma Martin Laura Simon Helen George Alice".split(),
    "city": "London Berlin Madrid Oslo Vienna Boston Dublin Chicago Lisbon Prague Denver Geneva".split(),
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday today tomorrow".split(),
    "month": "January February March April May June July August September October November December".split(),
    "number": "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty".split(),
    "sky": "sunny cloudy rainy foggy windy dry mild freezing stormy snowy".split(),
    "thing": "book letter ticket suitcase camera garden kitchen window bicycle coffee blanket piano".split(),
    "place": "station library market harbour theatre bakery hospital museum school airport".split(),
    "feeling": "happy tired curious hungry busy surprised worried ready glad sorry".split(),
    "action": "call write wait cook travel listen walk return practise begin".split(),
}
TEMPLATES = (
    "It is {number} past {number} and the {place} is closed.",
    "The train to {city} leaves at {number} on {day}.",
    "{day} will be {sky} in {city}, with {number} degrees.",
    "My name is {name}, and I have lived in {city} for {number} years.",
    "{name} bought a {thing} and {number} more at the {place}.",
    "Could you {action} with {name} on the {number} of {month}?",
    "I am {feeling} that you can {action} in {city}.",
    "Where did {name} leave the {thing}?",
    "No, the {thing} is near the {place}, not in the {place}.",
    "Please {action} until {day}, because {name} is {feeling}.",
    "The {place} has {number} rooms and one old {thing}.",
    "In {month} it is often {sky} and we {action} at home.",
    "Yes, {name} is {feeling} and wants to {action} again.",
    "Call me at {number}, {number}, {number}, {number}.",
)


def split_of(sentence: str) -> Split:
    return "held-out" if crc32(sentence.encode()) % HELD_OUT_IN == 0 else "train"


def sentences(split: Split, seed: int) -> Iterator[str]:
    """Without end; repeats are possible and rare."""
    random = np.random.default_rng(seed)
    while True:
        words = _Chooser(random)
        sentence = str(random.choice(TEMPLATES)).format_map(words)
        sentence = sentence[0].upper() + sentence[1:]
        if split_of(sentence) == split:
            yield sentence


class _Chooser(dict[str, str]):
    """Every look-up of a kind of word is another word of that kind."""

    def __init__(self, random: np.random.Generator) -> None:
        super().__init__()
        self._random = random

    def __missing__(self, kind: str) -> str:
        return str(self._random.choice(WORDS[kind]))
