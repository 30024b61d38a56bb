"""Whether a text has anything to say. It knows no language and no front end."""

from __future__ import annotations

import unicodedata

# Signs that are read by their names even where nothing else is. A test holds them against the text front end.
READ_ALOUD = frozenset("&%‰+±=≈≠≤≥×÷√∞@#§©°\\$€£¥₹¢")

NO_WORDS = "has no letter, no digit and no sign that is read aloud, such as %; there is nothing to say."


def has_words(text: str) -> bool:
    """Whether it has a letter or a digit of any script, or a sign that is read aloud. Marks and emoji are none."""
    return _any_is_said(text) or _any_is_said(unicodedata.normalize("NFKD", text))  # the second for signs like ㎏


def _any_is_said(text: str) -> bool:
    return any(character.isalnum() or character in READ_ALOUD for character in text)
