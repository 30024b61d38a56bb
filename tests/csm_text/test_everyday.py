"""Layout becomes marks; and rules tried by the first character give the same words as all rules at every position."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csm_text.frontend import load
from csm_text.normalization.everyday.layout import FULL
from csm_text.normalization.everyday.table import RULES_2
from csm_text.normalization.normalize import Normalizer
from csm_text.normalization.numbers import roman

TABLES = [Path(__file__).with_name(f"{name}.tsv") for name in ("normalization", "everyday", "answers", "pasted")]
WRITTEN = [line.split("\t")[0] for table in TABLES for line in table.read_text(encoding="utf-8").splitlines()]
WORDS = sorted({word for text in WRITTEN for word in text.split(" ")})
NAME = "english-phonemes-2"


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("To buy:\n- Apples\n- Bananas\n- Milk (2%)", "to buy : apples , bananas , milk , two percent ,"),
        ("To buy:\n* Apples\n* Bananas", "to buy : apples , bananas"),
        ("## Summary\nThe result is good.\n\n### Details\nMore", "summary . the result is good . details . more"),
        ("| Name | Price |\n|------|-------|\n| Tea | $3 |", "name , price . tea , three dollars ."),
        ("| a | p95 ms |\n|---|---|\n| 5 | 6 |", "A , P ninety five milliseconds . five , six ."),
        ("```python\nprint('hi')\n```", "print hi"),
        ("Steps:\n\n1. **Open** it.\n2. Close it.", "steps . one . open it . two . close it ."),
        ("Roses are red\nViolets are blue", "roses are red , violets are blue"),
        ("Best,\nTom", "best , tom"),
        ("It is a line that is\nbroken in the middle", "it is a line that is broken in the middle"),
        ("> Quoted\n> text\n\n5 > 3", "quoted text . five greater than three"),
        ("- [ ] Buy milk\n- [x] Sell it", "buy milk , sell it"),
        ("See [the page](https://example.com/a_(b)) and ![a cat](cat.png).", "see the page and a cat ."),
        ("It is so.[1][2] And so.[^3]", "it is so . and so ."),
        ("x = arr[0](1)", "X equals arr zero , one ,"),
        ("Tom &amp; Ann", "tom and ann"),
    ],
)
def test_layout_becomes_marks(written: str, spoken: str) -> None:
    assert load(NAME).normalize(written) == spoken


def test_a_full_line_continues_on_the_next_before_a_capital() -> None:
    line = "and so he went to " + "the " * 10
    assert len(line) > FULL
    assert load(NAME).normalize(f"{line}\nLondon").endswith("the london")
    assert load(NAME).normalize("so he went to\nLondon") == "so he went to , london"


class Slow(Normalizer):
    """A normalizer that tries all rules but that of plain words at every position."""

    def __init__(self) -> None:
        super().__init__(load(NAME)._pronouncer, 2)
        self._whole = re.compile("|".join(f"(?P<rule_{name}>{pattern})" for name, pattern, _ in RULES_2[1:]))

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        return self._whole.finditer(text)


@cache
def slow() -> Normalizer:
    return Slow()


@cache
def fast() -> Normalizer:
    return Normalizer(load(NAME)._pronouncer, 2)


def test_rules_by_first_character_read_as_all_rules() -> None:
    assert len(WRITTEN) > 1000
    assert {text: fast()(text) for text in WRITTEN} == {text: slow()(text) for text in WRITTEN}


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("!=-bit.ly/3abc", "is not equal to bit dot ly slash three abc"),
        ("my-link.ly/3abc", "my dash link dot ly slash three abc"),
        ('9.8 3/4" function', "nine point eight three quarters inch function"),
    ],
)
def test_texts_found_by_random_tests_are_read_alike_by_fast_and_slow_rules(written: str, spoken: str) -> None:
    assert fast()(written) == slow()(written) == spoken


@settings(max_examples=300, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), max_size=12), between=st.sampled_from([" ", "", "\n", ", ", "-"]))
def test_words_of_the_tables_in_any_order_are_read_alike_by_fast_and_slow_rules(words: list[str], between: str) -> None:
    assert fast()(between.join(words)) == slow()(between.join(words))


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(max_codepoint=127) | st.sampled_from("0123456789 \n.,:/'\"-aexXIVm$€°×–")))
def test_any_characters_are_read_alike_by_fast_and_slow_rules(text: str) -> None:
    assert fast()(text) == slow()(text)


@pytest.mark.parametrize(
    ("numeral", "value"), [("LVIII", 58), ("XL", 40), ("xix", 19), ("CCC", 300), ("IIX", None), ("", None)]
)
def test_long_numerals_have_their_values(numeral: str, value: int | None) -> None:
    assert roman(numeral) == value
