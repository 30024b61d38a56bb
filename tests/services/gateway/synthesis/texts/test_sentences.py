"""A growing text cut into sentences."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.synthesis.texts.english import english
from services.gateway.synthesis.texts.sentences import LONGEST, SentenceCutter, sentences_of
from services.gateway.synthesis.texts.words import has_words


def cut(text: str, size: int = 1, language: str = "en") -> list[str]:
    cutter = SentenceCutter(language)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [sentence for piece in pieces for sentence in cutter.push(piece)] + cutter.flush()


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("Dr. Smith paid $3.50 at 5 p.m. yesterday. Then he left!", 2),
        ('"Really?" she asked. Yes.', ['"Really?" she asked.', "Yes."]),
        ("A title\n\nAnd a paragraph.", ["A title", "And a paragraph."]),
        ("no end", ["no end"]),
        ("  ...  \n\n ?! ", []),
        ("", []),
    ],
)
def test_sentences_are_the_same_however_the_pieces_come(text: str, sentences: list[str] | int, size: int) -> None:
    found = cut(text, size)
    if isinstance(sentences, int):
        assert len(found) == sentences and " ".join(found) == text
    else:
        assert found == sentences


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "He has a B.Sc. in physics.",
        "Version v2.3.1 is out.",
        "It is approx. 5 km away.",
        "My appt. is at Sunset Bd. on Mon. Jan. 5, in rm. 12.",
        "It takes 5 hrs. by car, weighs 5 lbs. now, and the govt. says no.",
        "Natl. Park and intl. flights are open.",
        "The price is $5 incl. VAT.",
        "See vol. II and ch. 5 of it.",
        "The avg. temp. is 20 degrees.",
        "ASP.NET is a framework.",
        "Call tel. 555-1234 now.",
        "Smith et al. found E. coli in it.",
        "Roe v. Wade was decided by Gov. Lee, Maj. Tom and J. Henderson.",
        "Dr. Tom, Ms. Lee and Prof. Helen met at Ft. Worth.",
        "Mix 2 tbsp. sugar on Tues. and Thurs. at max. 5 degrees.",
        "1. First item here.",
        "Use .NET and run ./configure in ../data, at Ste. 5.",
    ],
)
def test_an_abbreviation_ends_no_sentence(text: str, size: int) -> None:
    assert cut(f"{text} It goes on.", size) == [text, "It goes on."]


WHOLE = [  # each is one sentence, whatever is before and after it
    "I live on Main St.",
    "It is by Foo Inc.",
    "We met at 10 a.m. EST.",
    "Come at 5 p.m. Friday.",
    "Well... what is it?!",
    "OK.",
    "No.",
    "I like it in the U.K.",
    "It's for me.",
    "I said no.",
    "This is art.",
    "Take vitamin C.",
    "Press X.",
    "I work at AT&T.",
    "It takes 20 min.",
    "It's 72° F.",
    "My ID.",
    "**Note.**",
    "It is *so*.",
    "He, i.e. Tom, won.",
    "Tom vs. Ann is on.",
    "See https://Docs.Example.Com/A.B?c=D for it.",
    "Write to Tom.Lee@Example.Com now.",
    "Use System.out.println and Math.PI here.",
    "So . . . what now?",
    "Hmm… let me think.",
    "Hmm…",
    '"Why?" she asked.',
    "Meet at St. Mary's.",
]


@given(st.data())
@settings(max_examples=100, deadline=None, database=None)
def test_whole_sentences_come_back_from_pieces_of_any_size(data: st.DataObject) -> None:
    """After some abbreviations "It", "I" and contractions begin a sentence; the beginning of a name does not."""
    beginnings = ["It's late.", "I think so.", "Then they left.", "Don't go!", "We are."]
    sentences = data.draw(st.lists(st.sampled_from(WHOLE) | st.sampled_from(beginnings), min_size=1, max_size=4))
    sentences = [part for sentence in sentences for part in (sentence, data.draw(st.sampled_from(beginnings)))]
    text, found = " ".join(sentences), list[str]()
    cutter = SentenceCutter("en")
    while text:
        size = data.draw(st.integers(1, 12))
        found += cutter.push(text[:size])
        text = text[size:]
    assert found + cutter.flush() == sentences


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_line_before_a_list_and_its_items_are_sentences(size: int) -> None:
    assert cut("Do this:\n1. Open it.\n2. Close it.", size) == ["Do this:", "1. Open it.", "2. Close it."]
    assert cut("Buy:\n- Eggs\n- Milk", size) == ["Buy:", "- Eggs", "- Milk"]


def test_an_incomplete_word_ends_no_sentence() -> None:
    """After "Inc.", "To" begins a sentence and "Tom" does not; after "a.m.", "EST" does not."""
    cutter = SentenceCutter("en")
    assert cutter.push("He is at Foo Inc. To") == [] and cutter.push("m is too.") == []
    assert cutter.flush() == ["He is at Foo Inc. Tom is too."]
    assert cutter.push("It is at 10 a.m. E") == [] and cutter.push("ST") == []
    assert cutter.push(". I") == ["It is at 10 a.m. EST."]


@pytest.mark.parametrize(("opens", "closes"), ["''", '""', "“”", "()"])
def test_sentences_in_a_quote_are_joined_only_if_the_quote_ends(opens: str, closes: str) -> None:
    text = f"{opens}It is one. It is two.{closes} Then three."
    assert cut(text, 1000)[0].startswith(f"{opens}It is one. It is two.{closes}")
    assert cut(text, 1)[:2] == [f"{opens}It is one.", f"It is two.{closes}" + (" Then three." if opens == "(" else "")]


def test_full_stops_without_a_space_end_sentences_of_other_scripts_at_once() -> None:
    assert SentenceCutter("").push("你好。你") == ["你好。"]


def test_a_sentence_that_ends_with_capitals_waits_for_no_other() -> None:
    assert SentenceCutter("en").push("I live in the USA. W") == ["I live in the USA."]
    assert SentenceCutter("en").push("I live in the USA.\n\n") == ["I live in the USA."]


def test_a_sentence_is_whole_when_the_next_one_begins() -> None:
    cutter = SentenceCutter("en-US")
    assert cutter.push("It costs 3.") == []
    assert cutter.push("5 euros.") == []
    assert cutter.push(" W") == ["It costs 3.5 euros."]
    assert cutter.push("ell") == []
    assert cutter.flush() == ["Well"]
    assert cutter.flush() == []


def test_a_line_that_is_empty_ends_a_sentence() -> None:
    assert SentenceCutter("").push("Say this\n\n") == ["Say this"]


@pytest.mark.parametrize("language", ["en", "de", "ja"])
@pytest.mark.parametrize("space", ["\u00a0", "\u1680", "\u2003", "\u2028", "\u202f", "\u3000", "\x85"])
def test_a_wide_space_before_a_full_stop_is_a_space(space: str, language: str) -> None:
    """The library panics after a single capital, which must not cost the call its answer."""
    for size in (1, 100):
        found = cut(f"Vitamin A{space}. Take it.", size, language)
        assert "".join("".join(found).split()) == "VitaminA.Takeit."


def test_a_word_of_many_letters_takes_no_longer_than_its_length() -> None:
    """With the library alone it was quadratic, and nothing else ran meanwhile."""

    def least_s(letters: int) -> float:
        text, times = f"Hello. {'a' * letters}", []
        for _ in range(5):
            start = time.thread_time()
            english(text)
            times.append(time.thread_time() - start)
        return min(times)

    assert least_s(16_384) < 24 * least_s(2048)


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_text_of_marks_and_quotes_takes_no_longer_than_its_length(language: str) -> None:
    """It was quadratic: a text that --max-text-length may allow blocked all other calls for 9 s."""

    def least_s(marks: int) -> float:
        text, times = "Hello. " + "!“" * marks, []
        for _ in range(3):
            start = time.thread_time()
            assert len(sentences_of(text, language)) == 1
            times.append(time.thread_time() - start)
        return min(times)

    assert least_s(16 * 1024) < 8 * least_s(4 * 1024)


def test_other_languages_have_their_own_abbreviations() -> None:
    assert cut("Das gilt z. B. für Prof. Weiß. Ende.", language="de") == ["Das gilt z. B. für Prof. Weiß.", "Ende."]


@pytest.mark.parametrize("word", ["word ", "word, ", "x"])
def test_a_sentence_without_an_end_is_cut_between_words(word: str) -> None:
    text = word * 400
    sentences = cut(text, 11)
    assert all(LONGEST // 2 < len(sentence) <= LONGEST for sentence in sentences[:-1])
    assert "".join(sentences).replace(" ", "") == text.replace(" ", "")
    if word != "x":
        assert all(sentence.endswith(word.strip()) for sentence in sentences)


@given(st.lists(st.text(st.sampled_from("aT. 1/_'\n\tDr"), max_size=6) | st.text(max_size=6), max_size=8))
@settings(max_examples=200, deadline=None, database=None)
def test_pieces_of_any_kind_are_cut_and_none_is_lost(pieces: list[str]) -> None:
    """Pieces may be empty, as a flush before the first word is. Outer spaces and parts without words are dropped."""
    cutter, sentences = SentenceCutter("en"), list[str]()
    for piece in pieces:
        sentences += cutter.push(piece)
    sentences += cutter.flush()
    rest = "".join(pieces)
    for sentence in sentences:
        before, found, rest = rest.partition(sentence)
        assert found and not has_words(before)
    assert not has_words(rest)
