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
        self.last_rule = ""  # that matched more than white space
        self.open_brackets: list[bool] = []  # of each that is open, whether it is a pause
        self.out: list[str] = []
        self._known = words
        self._shouted = not re.search("[a-z]", text) and len(re.findall("[A-Z]{2,}", text)) > 2

    def before(self, length: int) -> str:
        return self.text[max(self.start - length, 0) : self.start]

    def after(self, length: int) -> str:
        return self.text[self.end : self.end + length]

    def knows(self, word: str) -> bool:
        """Whether a word, given in small letters, is in the dictionary."""
        return word in self._known

    def say(self, words: str) -> None:
        """Adds words that are written out; a single capital is a letter, a mark is a mark."""
        for part in re.findall(r"[A-Za-z']+|[.,]", words):
            if part in STRENGTH:
                self.mark(part)
            else:
                self.out.append(part if len(part) == 1 and part.isupper() else part.lower())

    def mark(self, mark: str) -> None:
        add_mark(self.out, mark)

    def spell(self, letters: str, ending: str = "") -> None:
        """Adds letters by their names. ending: of the last letter's name, "'s" in "CEOs"."""
        self.out.extend(letters.upper())
        self.out[-1] += ending

    def word(self, word: str) -> None:
        """Adds a word as it is written; capitals and inner capitals decide how it is read."""
        if word in abbreviations.WARS:
            self.say(abbreviations.WARS[word])
            return
        base, apostrophe, ending = word.partition("'")
        if base in abbreviations.SPELLED_SMALL:
            base = base.upper()
        parts = re.findall("[A-Z]*[^A-Z]+|[A-Z]+", base)
        if base.isupper() and len(base) > 1 and self._is_spelled(base):
            self.spell(base, apostrophe + ending.lower())
        elif base.endswith("s") and len(base) > 2 and base[:-1].isupper() and not self._shouted:
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
        """Adds the words of an address, which has no articles and no sentences."""
        for word in words.split(" "):
            if len(word) == 1 or word.lower() == "www":
                self.spell(word)
            else:
                self.word(word)

    def letters(self, part: str) -> None:
        """Adds letters beside figures, as in "BA2490": a short unknown word is spelled."""
        if len(part) == 1 or (len(part) < 4 and part.lower() not in self._known):
            self.spell(part)
        else:
            self.word(part)

    def _is_letter(self, word: str) -> bool:
        """Whether "A" is the letter and no article: before a mark, and as a capital inside a sentence, unless the next
        word has a capital too."""
        after = self.text[self.start + 1 : self.start + 41].lstrip(" \t\n\"'")
        if not after or re.match(r"[,;:?!)]|\.(?!\.)", after):
            return True
        inside = bool(self.out) and self.out[-1] not in STRENGTH
        return word == "A" and inside and not after[0].isupper()

    def _is_spelled(self, capitals: str) -> bool:
        """Whether capitals are spelled: unknown ones are, unless they are speakable and long, or all is capitals."""
        small = capitals.lower()
        speakable = re.search("[AEIOUY]", capitals) is not None
        if self._shouted:
            return small not in self._known and not speakable
        if capitals in abbreviations.SPELLED:
            return True
        if len(capitals) <= 3:
            return small not in abbreviations.STRESSED
        return small not in self._known and (len(capitals) <= 5 or not speakable)
