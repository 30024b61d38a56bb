"""The symbols of the front end `english-phonemes-1`, in a fixed order: a symbol's place is its id.

39 phones of ARPABET as CMUdict uses them, vowels with their stress (0 none, 1 first, 2 second); a boundary between two
words; marks. The list never changes: other symbols are another front end with another name.
"""

from __future__ import annotations

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
PHONES = (*(f"{vowel}{stress}" for vowel in VOWELS for stress in (0, 1, 2)), *CONSONANTS)

BOUNDARY = "|"
# From weak to strong: of marks that follow each other the strongest is kept, of equal ones the first.
MARKS = ("-", ",", ":", ";", "...", ".", "!", "?")

SYMBOLS = (BOUNDARY, *MARKS, *PHONES)
STRENGTH = {mark: strength for strength, mark in enumerate(MARKS)}
PLACES = {symbol: place for place, symbol in enumerate(SYMBOLS)}
