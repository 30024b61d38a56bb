"""Text to symbols: a fixed list of symbols, deterministic, for any text, in bounded time."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csm_text.frontend import NAMES, FrontEnd, UnknownFrontEndError, load
from csm_text.symbols import BOUNDARY, MARKS, PHONES, SYMBOLS

ROOT = Path(__file__).parents[2]
ANY_TEXT = st.text(st.characters() | st.characters(max_codepoint=127) | st.sampled_from("0123456789.,:/-$%'\" aAé你\n"))


def test_inventory_is_69_phones_a_boundary_and_eight_marks() -> None:
    assert len(PHONES) == 15 * 3 + 24 and len(SYMBOLS) == len(set(SYMBOLS)) == 69 + 1 + 8
    assert SYMBOLS[:10] == ("|", "-", ",", ":", ";", "...", ".", "!", "?", "AA0") and SYMBOLS[-1] == "ZH"


def test_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(
        UnknownFrontEndError,
        match='no text front end "klingon-1"; there is english-phonemes-1, english-phonemes-2, english-phonemes-3',
    ):
        load("klingon-1")


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("Hello, world!", "HH AH0 L OW1 , W ER1 L D !"),
        ("It's 3:45 pm.", "IH1 T S | TH R IY1 | F AO1 R T IY0 | F AY1 V | P IY1 | EH1 M ."),
        ("Wait... what?!", "W EY1 T ... W AH1 T ?"),
        ("no end mark", "N OW1 | EH1 N D | M AA1 R K"),
        ("- first - second -", "F ER1 S T - S EH1 K AH0 N D"),
        ("", "."),
        ("🙂", "."),
        ("?!", "."),
    ],
)
def test_words_are_parted_by_boundaries_or_marks(front_end: FrontEnd, text: str, symbols: str) -> None:
    assert front_end.phonemize(text) == symbols


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("- Milk", "M IH1 L K ."),
        ("Done ✅", "D AH1 N ."),
        ("Milk.", "M IH1 L K ."),
        ("Milk?", "M IH1 L K ?"),
        ("Milk,", "M IH1 L K ,"),
        ("Milk...", "M IH1 L K ..."),
        ("🙂", "."),
    ],
)
def test_an_utterance_ends_with_a_mark(front_end: FrontEnd, text: str, symbols: str) -> None:
    assert front_end.utterance(text) == symbols


@pytest.mark.parametrize(
    ("text", "word", "phones"),
    [
        ("the end", 0, "DH IY0"),
        ("the dog", 0, "DH AH0"),
        ("I read books.", 1, "R IY1 D"),
        ("I have read it.", 2, "R EH1 D"),
        ("They record music.", 1, "R AH0 K AO1 R D"),
        ("a record", 1, "R EH1 K ER0 D"),
        ("to live", 1, "L IH1 V"),
        ("a live show", 1, "L AY1 V"),
        ("close it", 0, "K L OW1 Z"),
        ("so close", 1, "K L OW1 S"),
        ("I used to go", 1, "Y UW1 S T"),
        ("it is used to cut", 2, "Y UW1 Z D"),
    ],
)
def test_neighbours_decide_how_some_words_sound(front_end: FrontEnd, text: str, word: int, phones: str) -> None:
    assert front_end.phonemize(text.rstrip(".")).split(f" {BOUNDARY} ")[word] == phones


@pytest.mark.parametrize(
    ("word", "symbols"),
    [
        ("laptops's", "L AE1 P T AA2 P S AH0 Z"),
        ("GPT", "JH IY1 | P IY1 | T IY1"),
        ("CEOs", "S IY1 | IY1 | OW1 Z"),
        ("zxqv", "Z IY1 EH1 K S K Y UW1 V IY1"),
        ("organised", "AO1 R G AH0 N AY2 Z D"),
        ("dont", "D OW1 N T"),
        ("flavours", "F L EY1 V ER0 Z"),
    ],
)
def test_words_outside_the_dictionary_have_phones(front_end: FrontEnd, word: str, symbols: str) -> None:
    assert front_end.phonemize(word) == symbols


def test_a_word_that_cannot_be_said_is_spelled(front_end: FrontEnd) -> None:
    """Words without a vowel in letters or phones, or with more than 40 letters, are spelled."""
    second = "IH1 T" if front_end.name == "english-phonemes-3" else "W AY1 T IY1"
    assert front_end.phonemize("xq yt") == f"EH1 K S K Y UW1 | {second}"
    assert front_end.phonemize("a" * 41) == " ".join(["EY1"] * 41) != front_end.phonemize("a" * 40)


def test_a_word_after_and_is_a_noun_where_it_often_is(front_end: FrontEnd) -> None:
    assert front_end.phonemize("dog and house").endswith("HH AW1 S")
    assert front_end.phonemize("stop and refuse").endswith("R AH0 F Y UW1 Z")


@given(text=ANY_TEXT)
def test_any_text_gives_symbols_of_the_inventory_only(front_end: FrontEnd, text: str) -> None:
    symbols = front_end.phonemize(text).split(" ")
    assert set(symbols) <= set(SYMBOLS)
    assert symbols == ["."] or (symbols[0] in PHONES and symbols[-1] != BOUNDARY)
    for one, other in zip(symbols, symbols[1:], strict=False):
        assert one in PHONES or other in PHONES, "no two boundaries or marks follow each other"


@settings(max_examples=5)
@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=18))
def test_the_same_text_gives_the_same_symbols_again(front_end: FrontEnd, texts: list[str]) -> None:
    """Whatever the front end has read before."""
    fresh = FrontEnd(front_end.name)  # takes a tenth of a second
    others = [fresh.phonemize(text) for text in texts]
    assert others[::-1] == [front_end.phonemize(text) for text in reversed(texts)]
    assert others == [front_end.phonemize(text) for text in texts]


def test_another_process_with_another_hash_seed_gives_the_same_symbols() -> None:
    text = "Schwarzenegger read 1,024 e-mails on 3/4/2024; glorbulation isn't a word. 你好!"
    program = f"from csm_text.frontend import load\nfor name in {NAMES!r}: print(load(name).phonemize({text!r}))"
    for seed in ("1", "2"):
        environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        assert done.stdout.decode().splitlines() == [load(name).phonemize(text) for name in NAMES]


def test_importing_and_loading_it_loads_no_torch_and_opens_no_socket() -> None:
    program = (
        "import sys\n"
        "sys.addaudithook(lambda name, args: sys.exit('network') if name.startswith('socket.connect') else None)\n"
        "from csm_text.frontend import load; load('english-phonemes-3').phonemize('glorbulate')\n"
        "print(sorted({'torch', 'grpc', 'csm_engine', 'services'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


LONG = [
    "a", "1", "1,", "a.", "-", "a@", "A", "é", "你", "'", "a'", "http://", "1 ", "March ", "/", "(1", "+1 ", "0:", "\n",
    "x1", "<a", "1/", "$1", "1.1.", "aB", "a1-", "(", "[)", "e.g. ", "St. ", "ab.", "\U000f0000", "^2", "q ",
    "1-", "IT'", "Mon-", "Mar 1-", "1/2 ", "A St ", "a.p", "5 µm", "Part I ", "a > B", "'0", "$5-", "v1.", ".5 m",
    "1x", "√", "A\n", "[a](b.c) ", "5\" ", "a/b/", "a.b(", "0-0-", "TX, OK ", "et al. ", "1 / ", "| a\n",
    "--a ", "0x1", "£5/", "1 Oak Dr ", "Mon to ", "2⁻¹", "1-1\" ",
    "Sat 1/", "1/2-", "802.1", "v1.2-", "Python 3.1", "R$1", "1'000", "1.000", "#1A", "F-10", "10a-", "1:1a", "a/b ",
    "I <3 ", "A.1", "per km ", "1 c a ", "room 101 ", "John 1:1-", "5 USD ", "Jr. A", "12/31 ", "x | ", "1800 ",
    "4 km/side", "A/", "@a.", "went 1-1-", "odds at 1/", "no. is ", "W. 4 St ", "may 1", "1 may ", "sat - ",
    "Jan-1-", "aaab", "1.5-", "1th min ", "text to 1234 ",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(pytest.param("english-phonemes-1", part, marks=pytest.mark.slow) for part in LONG),
        *(("english-phonemes-2", part) for part in LONG),
        *(("english-phonemes-3", part) for part in ("a", "q ", "aaab", "aB", "x1")),  # whose rules are those of 2
    ],
)
def test_time_grows_with_the_length_of_a_text_and_no_faster(name: str, part: str) -> None:
    """Ten times the text may take twenty times as long, not a hundred; the margin is for noise."""
    front_end = load(name)
    front_end.phonemize(part * 10)
    times = []
    gc.disable()  # what other tests have left may take a second to look through
    try:
        for length in (300, 3_000):
            start = time.thread_time()
            front_end.phonemize((part * length)[:length])
            times.append(time.thread_time() - start)
    finally:
        gc.enable()
    assert times[1] < 20 * times[0] + 0.05


def test_a_mark_is_kept_once_and_the_strongest_of_many(front_end: FrontEnd) -> None:
    assert [front_end.phonemize(f"yes{mark} no") for mark in (",;", "?!", "...!", ".,", "--")] == [
        f"Y EH1 S {mark} N OW1" for mark in (";", "?", "!", ".", "-")
    ]
    assert set(MARKS) == {"-", ",", ":", ";", "...", ".", "!", "?"}
