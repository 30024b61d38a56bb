"""Whether a text has anything to say. It knows no language and no front end."""

from __future__ import annotations

import re
import unicodedata

# What a text front end reads, as far as it needs to be known here. Tests hold both against it.
READ_ALOUD = frozenset("&%‰+±=≈≠≤≥×÷√∞@#§©°\\$€£¥₹¢")  # by their names, even where nothing else is
_LEFT_OUT = re.compile(  # emoticons that stand alone, and markup, but no addresses
    r"(?:(?<=\s)|^)(?:[:;=][-'^o]?[()DPpOo3/|*\[\]\\]|<3|\^[_-]?\^|[xX]D)(?=\s|$)|<(?!https?:)[A-Za-z/][^<>]{0,100}>"
)
_MAY_BE_LEFT_OUT = re.compile("[:;=<^]|[xX]D")  # one of them is in all of those, and in few sentences

NO_WORDS = (
    "has nothing to say: it needs a letter, a digit or a sign that is read aloud, such as %; emoticons and markup do"
    " not count."
)


def has_words(text: str) -> bool:
    """Whether it has a letter or a digit of any script, or a sign that is read aloud. Marks and emoji are none, and
    emoticons and markup have none.
    """
    if _MAY_BE_LEFT_OUT.search(text):
        text = _LEFT_OUT.sub(" ", text)
    return _any_is_said(text) or _any_is_said(unicodedata.normalize("NFKD", text))  # the second for signs like ㎏


def _any_is_said(text: str) -> bool:
    return any(character.isalnum() or character in READ_ALOUD for character in text)
