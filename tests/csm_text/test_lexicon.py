"""An operator's lexicon: whole words match, they are replaced as the file says, and errors name the line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csm_text.frontend import FrontEnd
from csm_text.lexicon import Entry, Lexicon, LexiconError, read_lexicon
from csm_text.symbols import SYMBOLS

FILE = """\
# word        how it is said    voice

csm\tsee ess em
Nguyen\t/W IH1 N/
new york\tthe big apple
york\tyoke
data\tday ta
data\t\tdah ta\t\trms
C++\tsee plus plus
Zoë\tzoh ee
"""


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    path = tmp_path / "lexicon.tsv"
    path.write_text(FILE, encoding="utf-8")
    return read_lexicon(path, phones=True, voices=["rms", "slt"])


@pytest.mark.parametrize(
    ("text", "respelled"),
    [
        ("CSM and csm, Csm.", "see ess em and see ess em, see ess em."),
        ("csmx xcsm csm1 _csm_", "csmx xcsm csm1 _see ess em_"),
        ("the csm's data", "the see ess em's day ta"),
        ("New York, york", "the big apple, yoke"),
        ("nguyen", "nguyen"),
        ("I use C++.", "I use see plus plus."),
        ("C++x C++11", "C++x C++11"),
        ("Zoë, Zoëy", "zoh ee, Zoëy"),
        ("", ""),
        ("nothing here", "nothing here"),
    ],
)
def test_words_are_replaced_where_they_stand_alone(entries: list[Entry], text: str, respelled: str) -> None:
    assert Lexicon(entries).respell(text) == respelled


def test_a_voice_has_words_of_its_own(entries: list[Entry]) -> None:
    said = [Lexicon(entries, voices=voices).respell("data") for voices in ((), ("slt",), ("rms",), ("x", "rms"))]
    assert said == ["day ta", "day ta", "dah ta", "dah ta"]


def test_the_first_file_goes_before_the_second() -> None:
    operator, bundle = [Entry("csm", spelling="one")], [Entry("csm", spelling="two"), Entry("tts", spelling="three")]
    assert Lexicon(operator, bundle).respell("csm tts") == "one three"


def test_phones_go_past_every_rule_and_keep_a_possessive(front_end: FrontEnd, entries: list[Entry]) -> None:
    lexicon = Lexicon(entries)
    assert front_end.phonemize("Nguyen's dog, Nguyen.", lexicon) == "W IH1 N Z | D AO1 G , W IH1 N ."
    assert front_end.phonemize("the Nguyen", lexicon) == "DH AH0 | W IH1 N"


def test_a_text_cannot_ask_for_a_lexicons_phones_by_their_character(front_end: FrontEnd, entries: list[Entry]) -> None:
    assert front_end.phonemize("b \U000f0000 c", Lexicon(entries)) == front_end.phonemize("b   c")


def test_the_word_as_it_is_written_goes_before_the_word_in_any_case() -> None:
    entries = [Entry("us", spelling="us"), Entry("US", spelling="you ess"), Entry("us", spelling="uz", voice="rms")]
    assert Lexicon(entries).respell("US, us, Us") == "you ess, us, us"
    assert Lexicon(entries, voices=["rms"]).respell("US, us") == "uz, uz"


def test_the_longest_word_that_begins_there_is_used() -> None:
    entries = [
        Entry("new york", spelling="two"),
        Entry("new", spelling="one"),
        Entry("new york city", spelling="three"),
    ]
    assert Lexicon(entries).respell("new york city, new york, new yorks") == "three, two, one yorks"


def test_a_typographic_apostrophe_is_an_apostrophe() -> None:
    lexicon = Lexicon([Entry("o'brien", spelling="oh bryan"), Entry("L’Oréal", spelling="lore ee al")])
    assert lexicon.respell("O’Brien o'brien L'Oréal L’Oréal") == "oh bryan oh bryan lore ee al lore ee al"


def test_a_word_ends_at_no_accent() -> None:
    assert Lexicon([Entry("Zoe", spelling="zee")]).respell("Zoe Zoe\u0308") == "zee Zoe\u0308"


def test_a_spelling_cannot_ask_for_phones_by_their_character(front_end: FrontEnd) -> None:
    for entries in (
        [Entry("x", spelling="\U000f0001")],
        [Entry("x", spelling="\U000f0000"), Entry("y", phones=("B",))],
    ):
        assert front_end.phonemize("x's, y", Lexicon(entries)).startswith("EH1 S , ")


def test_entries_that_begin_alike_are_not_compared_one_by_one() -> None:
    """Without the index, 20,000 such entries would take two seconds in every request."""
    lexicon = Lexicon([Entry(f"new w{number}", spelling=f"x{number}") for number in range(20_000)])
    start = time.process_time()
    assert lexicon.respell("new york, new w19999. " * 100) == "new york, x19999. " * 100
    assert time.process_time() - start < 0.5


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_bytes("\ufeffcsm\tsee\r\nx\ty\r\n".encode())
    assert read_lexicon(path, phones=True, voices=[]) == [Entry("csm", spelling="see"), Entry("x", spelling="y")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("csm", "line 2 has 1 columns; a word, how it is said and perhaps a voice are needed, parted by tabs"),
        ("a\tb\trms\tc", "line 2 has 4 columns"),
        ("csm\tsee\tanna", 'line 2: the voice is "anna"; allowed are rms, slt'),
        ("csm\t/S IY9/", 'line 2: there is no phone "IY9"; allowed are AA0 AA1'),
        ("csm\t//", "line 2: there are no phones between the slashes"),
        ("+x\tplus", 'line 2: the word is "\\+x"; it must begin with a letter or a digit'),
        ("first\tagain", 'line 2: "first" has an entry already'),
        ("x" * 201 + "\tsaid", "line 2: the word has 201 characters; 200 are allowed"),
        ("x\t" + "y" * 201, "line 2: how it is said has 201 characters; 200 are allowed"),
        ("x" * 200_000 + "\tsaid", "line 2: the word has 200000 characters; 200 are allowed"),
    ],
)
def test_a_mistake_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text(f"first\tone\n{line}\n", encoding="utf-8")
    with pytest.raises(LexiconError, match=f"lexicon.tsv, {message}"):
        read_lexicon(path, phones=True, voices=["rms", "slt"])


def test_phones_need_a_front_end(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text("csm\t/S IY1/\n", encoding="utf-8")
    with pytest.raises(LexiconError, match="line 1: .* phones need a bundle with a text front end"):
        read_lexicon(path, phones=False, voices=[])


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LexiconError, match="is no UTF-8"):
        read_lexicon(path, phones=True, voices=[])


def test_a_lexicon_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csm_text.lexicon.MOST_ENTRIES", 2)
    path = tmp_path / "lexicon.tsv"
    path.write_text("a\t1\nb\t2\nc\t3\n", encoding="utf-8")
    with pytest.raises(LexiconError, match="line 3: a lexicon may have 2 entries"):
        read_lexicon(path, phones=True, voices=[])


def test_a_file_of_any_size_is_not_read_whole() -> None:
    with pytest.raises(LexiconError, match="/dev/zero has more than 41943040 bytes"):
        read_lexicon(Path("/dev/zero"), phones=True, voices=[])


@given(text=st.text(), words=st.lists(st.sampled_from(["csm", "Nguyen", "new york", "C++", "data", " "])))
def test_any_text_with_a_lexicon_gives_symbols_of_the_inventory(
    front_end: FrontEnd, text: str, words: list[str]
) -> None:
    entries = [Entry("csm", spelling="see"), Entry("Nguyen", phones=("W", "IH1", "N")), Entry("C++", spelling=text)]
    symbols = front_end.phonemize(text + " ".join(words), Lexicon(entries))
    assert set(symbols.split(" ")) <= set(SYMBOLS)
