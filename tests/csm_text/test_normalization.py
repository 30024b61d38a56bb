"""Figures, signs, abbreviations and capitals become the words that a reader would say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from csm_text.frontend import FrontEnd

TABLE = Path(__file__).with_name("normalization.tsv")
CASES = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("# ")]

# Of the symbols of every text in the table. Weights were trained on what version 1 makes of a text: where this
# changes, the front end needs another number.
SYMBOLS_DIGEST = "09c91a82a503aff746177eee1e8f9d7fa777410f80c6a305e956db0a376eaa39"


def test_the_table_holds_at_least_150_cases() -> None:
    assert len(CASES) >= 150 and len({written for written, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_text_is_read_as_in_the_table(front_end: FrontEnd, written: str, spoken: str) -> None:
    assert front_end.normalize(written) == spoken


def test_version_1_makes_the_symbols_that_weights_were_trained_on(front_end: FrontEnd) -> None:
    symbols = "\n".join(front_end.phonemize(written) for written, _ in CASES)
    assert hashlib.sha256(symbols.encode()).hexdigest() == SYMBOLS_DIGEST


@pytest.mark.parametrize(
    "digits", ["0", "7", "13", "40", "99", "100", "101", "110", "999", "1000", "1000000", "20000013"]
)
def test_words_of_a_number_say_its_value(digits: str) -> None:
    from csm_text.normalization.numbers import cardinal

    assert _value(cardinal(digits)) == int(digits)


def _value(words: str) -> int:
    """Value of a number in words, reckoned the other way round."""
    small = {
        word: value
        for value, word in enumerate(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
            " seventeen eighteen nineteen".split()
        )
    }
    tens = {word: 10 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
    total = part = 0
    for word in words.split():
        if word == "hundred":
            part *= 100
        elif word in ("thousand", "million"):
            total, part = total + part * {"thousand": 1000, "million": 10**6}[word], 0
        else:
            part += small[word] if word in small else tens[word]
    return total + part
