"""Compares the utterances of codes with the text of their turn."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway.synthesis.texts.words import has_words


def is_said_as(utterances: Sequence[str], text: str) -> bool:
    """Whether the utterances, in order, contain all words of the text. Ignores white space, at which a text is cut, and
    parts without words, such as an emoji, which are not spoken.
    """
    places = [place for place, character in enumerate(text) if not character.isspace()]
    letters = "".join(text.split())  # letters[i] is text[places[i]]
    end = 0  # of the utterances so far, in `letters`
    rest = 0  # the same in `text`, whose spaces tell emoticons from words
    for utterance in utterances:
        said = "".join(utterance.split())
        begin = letters.find(said, end) if said else -1
        if begin < 0 or has_words(text[rest : places[begin]]):
            return False
        end = begin + len(said)
        rest = places[end - 1] + 1
    return not has_words(text[rest:])
