"""Digits, signs, abbreviations and capitals become the words that a reader would say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from csm_text.frontend import FrontEnd, load
from csm_text.normalization.derived import derived


def _table(name: str) -> list[list[str]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if not line.startswith("# ")]


CASES, TYPED, ANSWERS, PASTED = map(_table, ("normalization.tsv", "everyday.tsv", "answers.tsv", "pasted.tsv"))
EVERYDAY = [*TYPED, *ANSWERS, *PASTED]

# Of the symbols of every text in a table. Replicas of one name go on with each other's streams: where one of these
# changes, the front end needs another number.
DIGESTS = {  # of normalization.tsv, everyday.tsv, answers.tsv and pasted.tsv
    "english-phonemes-1": (
        "09c91a82a503aff746177eee1e8f9d7fa777410f80c6a305e956db0a376eaa39",
        "a3895ef5624a51578e30a8a92a650e02701724c261a180b570c05c0ca819b906",
        "ff243820d1960dd4aadd5b749b519f5903c09c53763dfe4bc5f8f52aa9638c27",
        "f1fc1cfd794a252cad3ca7e33661e24b6fc79442ed558f4adbdeacd472ffbc38",
    ),
    "english-phonemes-2": (
        "30f730ac1c1443a3f6cbf98dc32459c02c93af534f414a154d8ceda9ee06cf52",
        "67ba56cb9a88b62b0c8f18c065a5b0dfaad6d289859b87989484b57ea9435b65",
        "16cd357ecf37ff4acebeb17421d4a219c72b0b61a60f56900ae774575acf3117",
        "aaad28f34d134f85221e30e4c0abbba3328368cdff82836d8ac517c116ffcd86",
    ),
    "english-phonemes-3": (
        "09e47ddba0fc8188b27373fec8fb99809193e0fd782765e6d10b56332b3c4a91",
        "b150b64d15122b12bb472ad446edda8750dcd1521918383c01b5b3e9b9da26d6",
        "bf137649be480b81e034f4c4949a2f04f079da7ab422655aac7bcab0d6dfd2ce",
        "f3cb8451932f6df9a054dc18b0d3e6113ddc3f62e5ed63c1bcc3172293aa2702",
    ),
}


def test_the_table_holds_at_least_150_cases() -> None:
    assert len(CASES) >= 150 and len({written for written, _ in CASES}) == len(CASES)


def test_texts_are_read_as_in_the_table(front_end: FrontEnd) -> None:
    cases = dict(CASES)
    if front_end.name != "english-phonemes-1":
        cases |= {written: spoken for written, spoken in EVERYDAY if written in cases}
    assert {written: front_end.normalize(written) for written in cases} == cases


@pytest.mark.parametrize("table", [TYPED, ANSWERS, PASTED], ids=["typed", "answers", "pasted"])
def test_version_2_reads_everyday_texts_as_in_their_table(table: list[list[str]]) -> None:
    front_end = load("english-phonemes-2")
    assert {written: front_end.normalize(written) for written, _ in table} == dict(table)


def test_texts_of_the_tables_have_the_symbols_of_each_version(front_end: FrontEnd) -> None:
    assert tuple(_digest(front_end, cases) for cases in (CASES, TYPED, ANSWERS, PASTED)) == DIGESTS[front_end.name]


def _digest(front_end: FrontEnd, cases: list[list[str]]) -> str:
    symbols = "\n".join(front_end.phonemize(written) for written, _ in cases)
    return hashlib.sha256(symbols.encode()).hexdigest()


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("1099", "one thousand ninety nine"),
        ("1100", "eleven hundred"),
        ("2099", "twenty ninety nine"),
        ("2100", "two thousand one hundred"),
        ("100,000,000,000,000", "one hundred trillion"),
        ("1,000,000,000,000,000", "one" + " zero" * 15),
        ("1/2/49", "january second , twenty forty nine"),
        ("1/2/50", "january second , nineteen fifty"),
        ("12/13/2024", "december thirteenth , twenty twenty four"),
        ("yes) no", "yes , no"),
        ("13/12/2024", "december thirteenth , twenty twenty four"),
        ("3/45/2024", "three slash forty five slash two thousand twenty four"),
        ("10.0.0.1", "ten dot zero dot zero dot one"),
        ("(see example.com) now", "see example dot com , now"),
        ("GitLab's page", "git lab's page"),
        ("THE FROBOZ IS HERE NOW", "the froboz is here now"),
    ],
)
def test_limits_of_the_rules_are_those_of_the_page(front_end: FrontEnd, written: str, spoken: str) -> None:
    assert front_end.normalize(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("E. g. tea.", "for example , tea ."),
        ("Look at the sun. Our rep. Then he left.", "look at the sun . our rep . then he left ."),
        ("Ask gen. Smith", "ask gen . smith"),
        ("He lives on Elm Dr. today.", "he lives on elm drive today ."),
    ],
)
def test_an_abbreviation_depends_on_what_is_around_it(front_end: FrontEnd, written: str, spoken: str) -> None:
    assert front_end.normalize(written) == spoken


def test_a_slashed_abbreviation_may_have_capitals() -> None:
    assert load("english-phonemes-1").normalize("W/O sugar.") == "without sugar ."


@pytest.mark.parametrize(
    "digits", ["0", "7", "13", "40", "99", "100", "101", "110", "999", "1000", "1000000", "20000013"]
)
def test_words_of_a_number_say_its_value(digits: str) -> None:
    from csm_text.normalization.numbers import cardinal

    assert _value(cardinal(digits)) == int(digits)


def _value(words: str) -> int:
    """The value of a number in words: the inverse of the normalizer."""
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


def test_a_derived_pattern_needs_each_part_that_it_replaces() -> None:
    assert derived("(a|b)c", ("a|b", "a|d"), ("d)c", "e)c")) == "(a|e)c"
    with pytest.raises(ValueError, match="'d' is not in '\\(a"):
        derived("(a|b)c", ("b)", "b|f)"), ("d", "e"))
