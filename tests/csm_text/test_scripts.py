"""Letters of any script become plain ones."""

from __future__ import annotations

import unicodedata

import pytest

from csm_text.normalization.scripts import plain


@pytest.mark.parametrize(
    ("written", "letters"),
    [
        ("Ðakovo, Đakovo", "Thakovo, Dakovo"),
        ("Straße, STRAẞE", "Strasse, STRASSE"),
        ("Ægir, ÆGIR, Æ", "Aegir, AEGIR, Ae"),
        ("Þórður, ÞÓRÐUR", "Thorthur, THORTHUR"),
        ("Ш÷Ю中", "SH divided by YU Chinese text "),
        ("Əliyev", "Aliyev"),
        ("paraŀlel", "parallel"),
        ("Ŋutsu, Ɛʋɛ, Ɔkɔnkɔ", "Ngutsu, Eve, Okonko"),
        ("ЮНЕСКО, Юлия", "YUNYESKO, Yuleeya"),
        ("Чайковский, Горбачёв", "Chaykovskeey, Gorbachyov"),
        ("[ˈwɔːtə]", "[wota]"),
        ("Παπαδόπουλος, μπαμπάς", "papadopoolos, babas"),
        ("hello、world", "hello, world"),
    ],
)
def test_letters_of_other_alphabets_are_written_plainly(written: str, letters: str) -> None:
    assert plain(written) == letters


def test_no_letter_of_a_latin_alphabet_is_lost() -> None:
    """Of Latin-1 and Latin Extended-A, which the languages of Europe take."""
    letters = [chr(code) for code in range(0xC0, 0x180) if unicodedata.category(chr(code))[0] == "L"]
    assert [letter for letter in letters if not plain(letter).strip("'").isalpha()] == []
