"""Compares the utterances of codes with the text of their turn."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway.synthesis.texts.words import has_words


def is_said_as(utterances: Sequence[str], text: str) -> bool:
    """Whether the utterances, in order, contain all words of the text. Ignores white space, at which a text is cut, and
    parts without words, such as an emoji, which are not spoken.
    """
    rest = "".join(text.split())
    for utterance in utterances:
        said = "".join(utterance.split())
        before, found, rest = rest.partition(said) if said else ("", "", rest)
        if not found or has_words(before):
            return False
    return not has_words(rest)
