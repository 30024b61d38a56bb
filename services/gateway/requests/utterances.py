"""Whether the utterances of returned codes are the text that came back with them."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway.synthesis.texts.words import has_words


def is_said_as(utterances: Sequence[str], text: str) -> bool:
    """Whether the utterances, in order, are all words of the text. White space does not count, as a text is cut there,
    nor does what has no words, such as an emoji behind a sentence: it was not said.
    """
    rest = "".join(text.split())
    for utterance in utterances:
        said = "".join(utterance.split())
        before, found, rest = rest.partition(said) if said else ("", "", rest)
        if not found or has_words(before):
            return False
    return not has_words(rest)
