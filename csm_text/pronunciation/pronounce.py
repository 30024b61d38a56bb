"""Words to phones: by the dictionary, as a known word with an ending, by letter names, or by the letter model."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

from csm_text.pronunciation import heteronyms
from csm_text.pronunciation.dictionary import Dictionary, Phones
from csm_text.symbols import VOWELS

_LETTERS = {
    "A": "EY1",
    "B": "B IY1",
    "C": "S IY1",
    "D": "D IY1",
    "E": "IY1",
    "F": "EH1 F",
    "G": "JH IY1",
    "H": "EY1 CH",
    "I": "AY1",
    "J": "JH EY1",
    "K": "K EY1",
    "L": "EH1 L",
    "M": "EH1 M",
    "N": "EH1 N",
    "O": "OW1",
    "P": "P IY1",
    "Q": "K Y UW1",
    "R": "AA1 R",
    "S": "EH1 S",
    "T": "T IY1",
    "U": "Y UW1",
    "V": "V IY1",
    "X": "EH1 K S",
    "W": "D AH1 B AH0 L Y UW0",
    "Y": "W AY1",
    "Z": "Z IY1",
}
_NO_APOSTROPHE = {
    word.replace("'", ""): word
    for word in (
        "don't can't won't didn't doesn't isn't wasn't aren't weren't couldn't wouldn't shouldn't haven't hasn't hadn't"
        " that's there's what's who's he's she's it's you're they're we've you've they've i've i'm you'll they'll"
    ).split()
}
_BRITISH = (
    ("isation", "ization"),
    ("is", "iz"),
    ("ys", "yz"),
    ("our", "or"),
    ("ll", "l"),
    ("nce", "nse"),
    ("ogue", "og"),
)
LONGEST = 40  # letters; a longer word, or one without a vowel, is spelled
_SIBILANTS = frozenset({"S", "Z", "SH", "ZH", "CH", "JH"})
_VOICELESS = frozenset({"P", "T", "K", "F", "TH"})
_ENDINGS = {"'ll": "AH0 L", "'ve": "V", "'d": "D", "'re": "ER0", "'m": "M", "n't": "AH0 N T"}


class LetterToSound(Protocol):
    """The interface of a letter-to-sound model (letters.py, whole_words.py)."""

    def phones(self, letters: str) -> Phones:
        """letters: a to z, at least one."""


class Pronouncer:
    """Finds the phones of words. Those of a heteronym depend on the words beside it."""

    def __init__(self, dictionary: Dictionary, letters: LetterToSound) -> None:
        self._dictionary = dictionary
        self._letters = letters
        self._in_isolation = lru_cache(maxsize=20_000)(self._by_itself)

    def __contains__(self, word: object) -> bool:
        """Whether a word, given in small letters, is known as it stands."""
        return isinstance(word, str) and (word in heteronyms.PREFERRED or word in self._dictionary)

    def phones(self, words: list[str]) -> list[Phones]:
        """The phones of each word. words: small letters with apostrophes, or a spelled letter as a capital."""
        result: list[Phones] = []
        following: Phones = ()
        for index in range(len(words) - 1, -1, -1):
            before = words[index - 1] if index else ""
            after = words[index + 1] if index + 1 < len(words) else ""
            if words[index] == "the":
                after = following[0] if following else ""
            chosen = heteronyms.sound(words[index], before, after)
            following = chosen or self._in_isolation(words[index])
            result.append(following)
        return result[::-1]

    def _by_itself(self, word: str) -> Phones:
        if not word:
            return ()
        if word[0] in _LETTERS:  # a letter's name, and what follows it: "O's"
            return self.with_ending(tuple(_LETTERS[word[0]].split()), word[1:])
        found = self._dictionary.get(word)
        if found is not None:
            return found
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) > len(ending):
                return self.with_ending(self._by_itself(word[: -len(ending)]), ending)
        base = word[:-2] if word.endswith("'s") else word.rstrip("'")
        if base != word and base:
            return self.with_ending(self._by_itself(base), word[len(base) :])
        return self._inflected(word) or self._respelled(word) or self._unknown(word)

    def _respelled(self, word: str) -> Phones | None:
        """Phones of a word that is known in another spelling: "dont", "organised"."""
        if word in _NO_APOSTROPHE:
            return self._dictionary.get(_NO_APOSTROPHE[word])
        for british, american in _BRITISH:
            if british in word[2:]:
                head, _, tail = word.rpartition(british)
                found = self._dictionary.get(head + american + tail)
                if found is not None:
                    return found
        return None

    def _inflected(self, word: str) -> Phones | None:
        """Phones of the plural of a known word: "laptops"."""
        if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
            base = self._dictionary.get(word[:-1])
            if base is not None:
                return self.with_ending(base, "'s")
        return None

    def with_ending(self, phones: Phones, ending: str) -> Phones:
        """The phones with those of an ending such as "'s" or "n't". phones: at least one."""
        if ending in ("", "'"):
            return phones
        if ending != "'s":
            return phones + (tuple(_ENDINGS[ending].split()) if ending in _ENDINGS else self._unknown(ending))
        last = phones[-1]
        if last in _SIBILANTS:
            return (*phones, "AH0", "Z")
        return (*phones, "S" if last in _VOICELESS else "Z")

    def _unknown(self, word: str) -> Phones:
        letters = re.sub("[^a-z]", "", word)
        if not letters:
            return ()
        if len(letters) <= LONGEST and re.search("[aeiouy]", letters):
            phones = self._letters.phones(letters)
            if any(phone[:2] in VOWELS for phone in phones):
                return phones
        return tuple(phone for letter in letters.upper() for phone in _LETTERS[letter].split())
