"""The state of reading one text: the position, and the words, letters and marks so far. It knows no rules."""

from __future__ import annotations

import re
from collections.abc import Container

from csm_text.normalization import abbreviations
from csm_text.symbols import STRENGTH, add_mark


class Reading:
    """The output that rules write to. `text[start:end]` is the current rule's match."""

    def __init__(self, words: Container[str], text: str) -> None:
        self.text = text
        self.start = self.end = 0
        self.last_rule = ""  # the rule before the current one
        self.open_brackets: list[bool] = []  # for each open bracket, whether it is read as a pause
        self.out: list[str] = []
        self._known = words
        self._all_capitals = not re.search("[a-z]", text) and len(re.findall("[A-Z]{2,}", text)) > 2

    def before(self, length: int) -> str:
        return self.text[max(self.start - length, 0) : self.start]

    def after(self, length: int) -> str:
        return self.text[self.end : self.end + length]

    def knows(self, word: str) -> bool:
        """Whether a word, given in small letters, is in the dictionary."""
        return word in self._known

    def say(self, words: str) -> None:
        """Adds words as they are spoken. A single capital is a spelled letter; "." and "," are marks."""
        for part in re.findall(r"[A-Za-z']+|[.,]", words):
            if part in STRENGTH:
                self.mark(part)
            else:
                self.out.append(part if len(part) == 1 else part.lower())

    def mark(self, mark: str) -> None:
        add_mark(self.out, mark)

    def spell(self, letters: str, ending: str = "") -> None:
        """Adds spelled letters. ending: what the last one's name ends with, such as "'s" for "CEOs"."""
        self.out.extend(letters.upper())
        self.out[-1] += ending

    def word(self, word: str) -> None:
        """Adds a word of the text. Its capitals decide whether it is read, spelled, or read in parts ("GitHub")."""
        if word in abbreviations.WARS:
            self.say(abbreviations.WARS[word])
            return
        base, apostrophe, ending = word.partition("'")
        if base in abbreviations.SPELLED_SMALL:
            base = base.upper()
        parts = re.findall("[A-Z]*[^A-Z]+|[A-Z]+", base)
        if base.isupper() and len(base) > 1 and self._is_spelled(base):
            self.spell(base, apostrophe + ending.lower())
        elif base.endswith("s") and len(base) > 2 and base[:-1].isupper() and not self._all_capitals:
            self.spell(base[:-1], "'s")
        elif len(parts) > 1 and base.lower() not in self._known:
            for part in parts[:-1]:
                self.word(part if len(part) > 1 else part.upper())
            self.word(parts[-1] + apostrophe + ending)
        elif len(word) == 1 and (word not in "AaIi" or (word in "Aa" and self._is_letter(word))):
            self.spell(word)
        else:
            self.out.append(word.lower())

    def written(self, words: str) -> None:
        """Adds words of an address, where a single letter is always spelled."""
        for word in words.split(" "):
            if len(word) == 1 or word.lower() == "www":
                self.spell(word)
            else:
                self.word(word)

    def letters(self, part: str) -> None:
        """Adds letters that are beside digits, as in "BA2490": a short unknown word is spelled."""
        if len(part) == 1 or (len(part) < 4 and part.lower() not in self._known):
            self.spell(part)
        else:
            self.word(part)

    def _is_letter(self, word: str) -> bool:
        """Whether "a" or "A" is the letter, not the article: before a mark, or as a capital inside a sentence, unless
        the next word has a capital too."""
        after = self.text[self.start + 1 : self.start + 41].lstrip(" \t\n\"'")
        if not after or re.match(r"[,;:?!)]|\.(?!\.)", after):
            return True
        inside = bool(self.out) and self.out[-1] not in STRENGTH
        return word == "A" and inside and not after[0].isupper()

    def _is_spelled(self, capitals: str) -> bool:
        """Whether a word in capitals is spelled: an unknown one is, unless it is long and has a vowel."""
        small = capitals.lower()
        has_vowel = re.search("[AEIOUY]", capitals) is not None
        if self._all_capitals:
            return small not in self._known and not has_vowel
        if capitals in abbreviations.SPELLED:
            return True
        if len(capitals) <= 3:
            return small not in abbreviations.STRESSED
        return small not in self._known and (len(capitals) <= 5 or not has_vowel)
