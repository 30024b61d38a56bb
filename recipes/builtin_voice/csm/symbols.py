"""The CSM's input for flite's speech: the symbols of the front end `english-phonemes-3`, from flite's own words.

So the symbols match the sound, also where flite's lexicon and the front end's differ. Flite has one schwa for CMUdict's
AH0, and no second stress. In a word with several stressed vowels, some of them are written with second stress.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from csm_text.symbols import BOUNDARY, MARKS, PHONES
from recipes.builtin_voice.flite import Word

SCHWA = "AX"


def symbols_of(words: Iterable[Word], random: np.random.Generator) -> str:
    """Separated by spaces."""
    symbols: list[str] = []
    for word in words:
        if not word.phones:
            continue
        if symbols and symbols[-1] not in MARKS:
            symbols.append(BOUNDARY)
        symbols += _word(word, random)
        if mark := _mark(word.punctuation):
            symbols.append(mark)
    return " ".join(symbols)


def _word(word: Word, random: np.random.Generator) -> list[str]:
    spelled = [_phone(phone) for phone in word.phones]
    stressed = [index for index, phone in enumerate(spelled) if phone.endswith("1")]
    if len(stressed) > 1:
        main = int(random.choice(stressed))
        for index in stressed:
            if index != main:
                spelled[index] = spelled[index][:-1] + "2"
    return spelled


def _phone(phone: str) -> str:
    """The phone of CMUdict for flite's name and stress, such as "ax0". Raises ValueError for an unknown name."""
    name, stress = phone[:-1].upper(), phone[-1]
    name = "AH" if name == SCHWA else name
    for spelled in (f"{name}{stress}", name):
        if spelled in PHONES:
            return spelled
    raise ValueError(f"flite's phone {phone!r} is none of CMUdict's")


def _mark(punctuation: str) -> str:
    """The strongest mark in it, none if there is none."""
    return max((mark for mark in MARKS if mark in punctuation), key=MARKS.index, default="")
