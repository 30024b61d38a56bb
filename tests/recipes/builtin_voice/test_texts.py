"""What is learned from and what is judged by never meet. Needs Debian's wordnet-base."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from recipes.builtin_voice.evaluation.sets import DEVELOPMENT, SETS, evaluation_texts
from recipes.builtin_voice.sentences import split_of
from recipes.builtin_voice.texts import JUDGED, SHARED_RUN, texts, words_of
from recipes.builtin_voice.wordnet import FOLDER, LENGTHS, PARTS_OF_SPEECH, read_wordnet

WRITTEN = ("everyday", "figures", "names", DEVELOPMENT)  # by hand
needs_wordnet = pytest.mark.skipif(
    not all((FOLDER / f"data.{part}").exists() for part in PARTS_OF_SPEECH), reason="wordnet-base is not installed"
)


def runs(text: str) -> set[str]:
    words = words_of(text)
    return {" ".join(words[at : at + SHARED_RUN]) for at in range(len(words) - SHARED_RUN + 1)}


@needs_wordnet
def test_splits_share_no_text() -> None:
    learned, kept = (set(islice(texts(split, 3), 2000)) for split in ("train", "held-out"))
    assert learned and kept and not learned & kept


@needs_wordnet
def test_no_training_text_shares_six_words_in_a_row_with_the_evaluation() -> None:
    learned = set[str]().union(*(runs(text) for text in islice(texts("train", 4), 3000)))
    asked = set[str]().union(
        *(runs(reading) for name in WRITTEN for text in evaluation_texts(name) for reading in text.readings)
    )
    assert len(learned) > 3000 and len(asked) > 300 and not learned & asked


@needs_wordnet
def test_the_same_seed_gives_the_same_texts() -> None:
    assert list(islice(texts("train", 5), 100)) == list(islice(texts("train", 5), 100))


@needs_wordnet
def test_texts_of_wordnet_are_short_and_plain() -> None:
    wordnet = read_wordnet()
    assert len(wordnet.examples) > 30_000 and len(wordnet.definitions) > 30_000
    for text in wordnet.examples + wordnet.definitions:
        assert len(text.split()) in LENGTHS and text[0].isupper() and text[-1] in ".?!"
        assert not re.search(r"[^A-Za-z' ,;:?!.-]", text)


def test_at_least_200_everyday_sentences_are_judged_outside_the_development_set() -> None:
    everyday, development = ({text.text for text in evaluation_texts(name)} for name in ("everyday", DEVELOPMENT))
    assert len(everyday) >= 200 and development and not everyday & development
    assert DEVELOPMENT not in SETS


def test_accepted_transcripts_have_no_digits() -> None:
    for name in WRITTEN:
        assert (JUDGED / f"{name}.txt").exists()
        for text in evaluation_texts(name):
            assert text.readings and not any(re.search(r"\d", reading) for reading in text.readings), text


def test_the_closest_accepted_transcript_counts() -> None:
    (text,) = [text for text in evaluation_texts("figures") if len(text.readings) > 1][:1]
    for reading in text.readings:
        assert text.word_errors(reading)[0] == 0
    wrong, words = text.word_errors("")
    assert wrong == words > 0


def test_domain_sentences_know_their_split() -> None:
    assert {split_of(text.text) for text in evaluation_texts("domain", 20)} == {"held-out"}
