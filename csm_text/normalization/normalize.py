"""The normalizer: text to spoken words in small letters, with the punctuation that matters for speech.

"Dr. Smith paid $12.50 on 3/4/2024." becomes "doctor smith paid twelve dollars and fifty cents on march fourth , twenty
twenty four ." A single capital is a letter that is spelled: "F B I".

It makes one pass over the text. At each position the first rule that matches (rules.py) reads its match. Every match is
bounded in length, so the time is linear in the length of the text. No rule raises an error.

Two libraries were tried on the cases of tests/csm_text. num2words reads bare numbers only and is under the LGPL.
kitten-text-processing 0.1.0 (Apache-2.0) read "555-1234" as "five hundred and fifty five-twelve thirty four", "24/7" as
"twenty four sevenths", "30 km/h" as "thirty kilometers per H", "AT&T" as "ATANDT"; it took 20 to 90 ms a sentence, and
9 MB. So the rules are our own.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

from csm_text.normalization.dates import MONTHS
from csm_text.normalization.everyday.table import RULES_2, RULES_AT, prepared
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import RULES, Reader
from csm_text.normalization.scripts import plain

_AMOUNTS = frozenset("time hour money money_after percent measure temperature".split())
_DATES = frozenset("month_year month_day day_month iso_date slash_date month decade fraction".split())
_SHORT_MONTHS = tuple(name[:3] for name in MONTHS)


class Normalizer:
    """Reads figures, signs, abbreviations and capitals as words."""

    def __init__(self, words: Container[str], version: int) -> None:
        """words: the known words, in small letters; they decide whether a word in capitals is read or spelled.
        version: 1 to 3, of english-phonemes; 3 has the rules of 2.
        """
        self._words = words
        self._version = version
        rules = RULES if version == 1 else RULES_2
        self._readers = {f"rule_{name}": (name, read) for name, _, read in rules}
        tables = {"all": RULES} if version == 1 else RULES_AT
        self._scanners = {at: _scanner(table) for at, table in tables.items()}

    def __call__(self, text: str) -> str:
        """Words, spelled letters, marks and a lexicon's private characters, parted by spaces."""
        reading = Reading(self._words, plain(prepared(text) if self._version > 1 else text))
        for match in self._matches(reading.text):
            reading.start, reading.end = match.span()
            name, read = self._readers[match.lastgroup or ""]
            if match[0] in ("-", "–") and _is_range(reading, self._version):
                reading.say("to")
            else:
                read(reading, match)
            reading.last_rule = name
        return " ".join(reading.out)

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        """The matches from left to right. Version 2 tries only the rules that can match at a character."""
        if self._version == 1:
            yield from self._scanners["all"].finditer(text)
            return
        position = 0
        while position < len(text):
            first = text[position]
            at = (
                "small" if first.islower() else "letter" if first.isalpha() else "figure" if first.isdigit() else "sign"
            )
            match = self._scanners[at].match(text, position)
            if match is None:
                position += 1
            else:
                yield match
                position = match.end()


def _scanner(rules: tuple[tuple[str, str, Reader], ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<rule_{name}>{pattern})" for name, pattern, _ in rules))


def _is_range(reading: Reading, version: int) -> bool:
    """Whether the hyphen at hand is between two times, amounts or days: "9am-5pm", "$5-$10", "Mon.-Fri."."""
    following = reading.after(4).lstrip()
    if reading.last_rule in _AMOUNTS:
        return following.lstrip("$€£¥₹")[:1].isdigit()
    if version > 1 and reading.last_rule in _DATES:
        return following[:1].isdigit() or following.startswith(_SHORT_MONTHS)
    return reading.last_rule == "abbreviation" and following[:1].isupper()
