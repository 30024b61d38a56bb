"""The examples of texts and lexicons in docs/text.md are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from csm_text.frontend import FrontEnd, load
from csm_text.lexicon import Lexicon, read_lexicon
from csm_text.symbols import SYMBOLS

PAGE = (Path(__file__).parents[2] / "docs" / "text.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| .* \| `(.+)` \| (.+) \|$", PAGE, re.MULTILINE)


def test_the_table_was_found() -> None:
    assert len(ROWS) == PAGE.split("| what | rule |")[1].split("\n\n")[0].count("\n") - 1


@pytest.fixture
def front_end() -> FrontEnd:
    (name,) = re.findall('"text_frontend": "(.*)"', PAGE)
    return load(name)


@pytest.mark.parametrize(("written", "spoken"), ROWS)
def test_a_text_is_read_as_the_page_says(front_end: FrontEnd, written: str, spoken: str) -> None:
    assert front_end.normalize(written) == spoken


def test_the_page_s_symbols_are_produced(front_end: FrontEnd) -> None:
    ((written, symbols),) = re.findall(r"^(It's .*?)  ->  (.*)$", PAGE, re.MULTILINE)
    assert front_end.phonemize(written) == symbols
    assert f"There are {len(SYMBOLS)} symbols, separated by spaces." in PAGE


def test_the_lexicon_of_the_page_can_be_used(front_end: FrontEnd, tmp_path: Path) -> None:
    (text,) = re.findall(r"```\n(# word\t.*?)```", PAGE, re.DOTALL)
    (tmp_path / "words.tsv").write_text(text, encoding="utf-8")
    entries = read_lexicon(tmp_path / "words.tsv", phones=True, voices=["rms"])
    assert len(entries) == 3
    assert Lexicon(entries, voices=["rms"]).respell("CSM data") == "see ess em dah-ta"
    assert front_end.phonemize("Nguyen", Lexicon(entries)) == "W IH1 N"
