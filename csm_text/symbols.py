"""The symbols of the front ends `english-phonemes-1` to `-3`, in a fixed order: a symbol's index is its token id.

They are a boundary between two words, punctuation marks, and the 39 ARPABET phones of CMUdict, vowels with their stress
(0 none, 1 primary, 2 secondary). The list never changes: other symbols need a front end with another name.
"""

from __future__ import annotations

import re

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
PHONES = (*(f"{vowel}{stress}" for vowel in VOWELS for stress in (0, 1, 2)), *CONSONANTS)

BOUNDARY = "|"
# From weak to strong. The strongest of consecutive marks is kept; of equal marks, the first.
MARKS = ("-", ",", ":", ";", "...", ".", "!", "?")
END = "."  # of an utterance

SYMBOLS = (BOUNDARY, *MARKS, *PHONES)
PRIVATE = re.compile("[\U000f0000-\U000ffffd]")  # Unicode's private use plane: each stands for a lexicon's phones
STRENGTH = {mark: strength for strength, mark in enumerate(MARKS)}


def add_mark(parts: list[str], mark: str) -> None:
    """Appends a mark after a word. Of consecutive marks, the strongest is kept. No mark precedes the first word."""
    if not parts:
        return
    if parts[-1] not in STRENGTH:
        parts.append(mark)
    elif STRENGTH[mark] > STRENGTH[parts[-1]]:
        parts[-1] = mark
