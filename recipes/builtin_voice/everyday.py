"""Everyday talk from templates: questions, requests, names, dates, times, money, figures, short answers, small talk.

A template's slots are filled with words of its own lists (everyday.toml), with WordNet's common words and names, and
with figures in words (spoken.py). It knows no audio.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from recipes.builtin_voice.spoken import DAYS, MONTHS, Figures
from recipes.builtin_voice.wordnet import WordNet

_DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
TEMPLATES: list[str] = _DATA["templates"].splitlines()
WORDS: dict[str, list[str]] = _DATA["words"]

Slots = dict[str, Callable[[], str]]


class Everyday:
    """Draws sentences without end."""

    def __init__(self, random: np.random.Generator, wordnet: WordNet) -> None:
        self._random = random
        figures = Figures(random)
        own: Slots = {
            "name": lambda: self._one(wordnet.names),
            "town": lambda: self._one(wordnet.names),
            "day": lambda: self._one(DAYS),
            "month": lambda: self._one(MONTHS),
            "noun": lambda: self._one(wordnet.nouns),
            "plural": lambda: _plural(self._one(wordnet.nouns)),
            "adjective": lambda: self._one(wordnet.adjectives),
            "a_adjective": lambda: _with_article(self._one(wordnet.adjectives)),
            "did_not": lambda: self._one(
                ["lived here", "been away", "worked with " + self._one(WORDS["person"]), "been ill"]
            ),
            "open2": lambda: self._one(WORDS["open"]),
            "Who": lambda: _capital(self._one(WORDS["who"])),
            "Open": lambda: self._one(WORDS["open"]),
            **{name: getattr(figures, name) for name in _FIGURES},
        }
        lists: Slots = {name: (lambda words=words: self._one(words)) for name, words in WORDS.items()}  # type: ignore[misc]
        self._slots = lists | own

    def __iter__(self) -> Iterator[str]:
        while True:
            yield self.sentence()

    def sentence(self) -> str:
        template = self._one(TEMPLATES)
        text = re.sub(r"\{(\w+)\}", lambda match: self._slots[match[1]](), template)
        return _capital(text)

    def _one(self, words: list[str] | tuple[str, ...]) -> str:
        return words[int(self._random.integers(len(words)))]


_FIGURES = "number small point quantity year date time money phone nth letters".split()


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
