"""The utterances of returned codes must be the text that is sent with them."""

from __future__ import annotations

import random

import pytest

from services.gateway.requests.utterances import is_said_as
from services.gateway.synthesis.texts.sentences import sentences_of

SAID = ["Good morning.", "How are you?"]


@pytest.mark.parametrize(
    "text",
    [
        "Good morning. How are you?",
        " Good morning.\n\nHow are  you?\t",
        "Good morning.How are you?",
        "Good morning. \N{SMILING FACE WITH SMILING EYES} How are you? :)",
        "- Good morning. * How are you?",
        "Good morning. XD :P How are you? XD :D",
        "<b> Good morning. </b> How are you? <br> :D \N{SMILING FACE WITH SMILING EYES}",
    ],
)
def test_spaces_and_parts_without_words_do_not_count(text: str) -> None:
    assert is_said_as(SAID, text)


@pytest.mark.parametrize(
    "text",
    [
        "Good morning.",
        "How are you? Good morning.",
        "Good morning. Well, how are you?",
        "Good morning. And how are you?",
        "Well. Good morning. How are you?",
        "Good morning. How are you? Fine.",
        "Good Morning. How are you?",
        "Good morning, how are you?",
        "",
    ],
)
def test_other_words_are_another_text(text: str) -> None:
    assert not is_said_as(SAID, text)


def test_an_utterance_without_words_is_in_no_text() -> None:
    assert not is_said_as(["Good morning.", " "], "Good morning.")
    assert not is_said_as([], "Good morning.")


@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_every_text_is_said_as_the_sentences_that_it_is_cut_into(language: str) -> None:
    rng = random.Random(11)
    words = ["Hello", "it is 3.5 km", "ja", "Dr. X", "a" * 310, "e\u0301", "\u306f\u3044"]
    signs = [*" \n.!?-*", "\u00a0", "\u201c", "\u3002", "\u200d", ":)", " :D ", " XD ", "<b>", "\U0001f600"]
    parts = [*words, *words, *signs]
    texts = ["".join(rng.choices(parts, k=rng.randrange(1, 14))) for _ in range(600)]
    cut = [(sentences_of(text, language), text) for text in texts]
    assert all(is_said_as(sentences, text) for sentences, text in cut if sentences)
    assert sum(len(sentences) > 1 for sentences, _ in cut) > 200
