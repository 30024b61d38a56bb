"""The normalizer: text to spoken words in small letters, with the marks that matter for speech.

"Dr. Smith paid $12.50 on 3/4/2024." becomes "doctor smith paid twelve dollars and fifty cents on march fourth , twenty
twenty four ." A single capital is the name of a letter: "F B I".

It makes one pass over the text. At each place the first rule that matches (rules.py) reads its match. Every match is
bounded in length, so the time is linear in the length of the text. No rule can fail.

Two libraries were tried on the cases of tests/csm_text. num2words reads bare numbers only and is under the LGPL.
kitten-text-processing 0.1.0 (Apache-2.0) read "555-1234" as "five hundred and fifty five-twelve thirty four", "24/7" as
"twenty four sevenths", "30 km/h" as "thirty kilometers per H", "AT&T" as "ATANDT"; it took 20 to 90 ms a sentence, and
9 MB. So the rules are our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container

from csm_text.normalization import everyday
from csm_text.normalization.everyday import RULES_2
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import RULES
from csm_text.normalization.scripts import plain

_RULES = {1: RULES, 2: RULES_2}
_AMOUNTS = frozenset("time hour money money_after percent measure temperature".split())


class Normalizer:
    """Reads figures, signs, abbreviations and capitals as words."""

    def __init__(self, words: Container[str], version: int) -> None:
        """words: the known words, in small letters. They decide whether capitals are read or spelled.
        version: 1 or 2, of english-phonemes
        """
        self._words = words
        self._prepared: Callable[[str], str] = everyday.prepared if version > 1 else str
        rules = _RULES[version]
        self._scanner = re.compile("|".join(f"(?P<rule_{name}>{pattern})" for name, pattern, _ in rules))
        self._readers = {f"rule_{name}": (name, read) for name, _, read in rules}

    def __call__(self, text: str) -> str:
        """The spoken form, parted by spaces: words, spelled letters, marks, and a lexicon's private characters."""
        reading = Reading(self._words, plain(self._prepared(text)))
        for match in self._scanner.finditer(reading.text):
            reading.start, reading.end = match.span()
            name, read = self._readers[match.lastgroup or ""]
            if match[0] in ("-", "–") and _joins(reading):
                reading.say("to")
            else:
                read(reading, match)
            reading.last_rule = name
        return " ".join(reading.out)


def _joins(reading: Reading) -> bool:
    """Whether a hyphen stands between two times, amounts or days: "9am-5pm", "$5-$10", "Mon.-Fri."."""
    following = reading.after(4).lstrip()
    if reading.last_rule in _AMOUNTS:
        return following.lstrip("$€£¥₹")[:1].isdigit()
    return reading.last_rule == "abbreviation" and following[:1].isupper()
