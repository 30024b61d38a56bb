"""Whether the utterances of returned codes are the text that came back with them."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway.synthesis.texts.words import has_words


def is_said_as(utterances: Sequence[str], text: str) -> bool:
    """Whether the utterances, in order, are all words of the text. White space does not count, as a text is cut there,
    nor does what has no words, such as an emoji behind a sentence: it was not said.
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
