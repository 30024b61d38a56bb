"""Unicode text in the ASCII letters that the rules of normalize.py read.

Compatibility forms are resolved (NFKD), digits of every script become 0 to 9, accents are removed. Greek and Cyrillic
words are transliterated. A run of words in any other script is replaced by the script's name: "Chinese text". Emoji,
pictures and control characters are dropped. It raises no error.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from csm_text.symbols import PRIVATE

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_RUNS = re.compile("(\x01[A-Za-z ]*\x02)(?:[\\s.,'\"-]{0,3}\\1)+")
_MARKED = re.compile("\x01([A-Za-z ]*)\x02")

_KEPT = {
    **dict.fromkeys("‘’ʼ‛′ʹ`´", "'"),
    **dict.fromkeys("“”„‟«»″‹›", '"'),
    **dict.fromkeys("‐‑−﹣－", "-"),
    "–": "–",
    "—": "—",
    "―": "—",
    "…": "...",
    "‥": "..",
    "⁄": "/",
    "÷": " divided by ",
    "±": " plus or minus ",
    "×": "×",
    "°": "°",
    "€": "€",
    "£": "£",
    "¥": "¥",
    "₹": "₹",
    "²": "^2",
    "³": "^3",
    "≈": " about ",
    "≠": " is not ",
    "≤": " at most ",
    "≥": " at least ",
    "∞": " infinity ",
    "√": " root ",
    "§": " section ",
    "©": " copyright ",
    "•": ", ",
    "·": " ",
    "№": "No. ",
    "¿": "",
    "¡": "",
    "、": ", ",
    "。": ". ",
    "，": ", ",
    "¢": "¢",
    "‰": " per mille",
    "™": "",
    "®": "",
    "º": "",
    "ª": "",
    "\u2028": "\n",
    "\u2029": "\n\n",
    "\u0085": "\n",
}
# Small Latin letters that Unicode takes for letters of their own: of European and African languages, and of phonetics.
_LATIN = {
    "ß": "ss",
    "æ": "ae",
    "ø": "o",
    "ł": "l",
    "ŀ": "l",
    "đ": "d",
    "þ": "th",
    "ð": "th",
    "œ": "oe",
    "ı": "i",
    "ĸ": "k",
    "ŋ": "ng",
    "ħ": "h",
    "ə": "a",
    "ǝ": "e",
    "ɑ": "a",
    "ɔ": "o",
    "ɛ": "e",
    "ɡ": "g",
    "ɣ": "g",
    "ɩ": "i",
    "ɪ": "i",
    "ʃ": "sh",
    "ʊ": "u",
    "ʌ": "u",
    "ʒ": "zh",
}
_CYRILLIC_IN_LATIN = (
    "a b v g d ye zh z ee y k l m n o p r s t oo f kh ts ch sh shch i e yu ya yo i yi ye g y ly ny ch j j w"
)
_CYRILLIC = dict(
    zip(
        "абвгдежзийклмнопрстуфхцчшщыэюяёіїєґјљњћђџў",
        _CYRILLIC_IN_LATIN.split(),
        strict=True,
    ),
    ъ="",
    ь="",
)
_GREEK = dict(
    zip("αβγδεζηθικλμνξοπρσςτυφχψω", "a v g d e z i th i k l m n x o p r s s t i f ch ps o".split(), strict=True)
)
_SCRIPTS = {
    "CJK": "Chinese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "DEVANAGARI": "Hindi",
}
_GREEK_WORD = re.compile("[Ͱ-Ͽἀ-῿]+")
_WIDE_JOIN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0e\ufe0f"))


def plain(text: str) -> str:
    """The text in ASCII. The only other characters in it are `– — × ° € £ ¥ ₹ ¢` and those of `symbols.PRIVATE`."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(_WIDE_JOIN))
        text = re.sub("(?<=[0-9])(?=[¼½¾⅐-⅞])", " ", text)
        text = _GREEK_WORD.sub(lambda match: _greek(match[0]), text)
        text = _NOT_ASCII.sub(_plain_run, text)
        text = _RUNS.sub(r"\1", text)
        text = _MARKED.sub(r" \1 ", text)
    return _CONTROL.sub(" ", text)


def _plain_run(match: re.Match[str]) -> str:
    """In a word of capitals, a letter that becomes several becomes capitals: ÆGIR is AEGIR, not AeGIR."""
    run, start, end = match[0], match.start(), match.end()
    neighbours = match.string[max(0, start - 1) : start] + match.string[end : end + 1]
    in_capitals = run.isupper() and (len(run) > 1 or neighbours.isupper())
    return "".join(_plain(c).upper() if in_capitals and c.isupper() else _plain(c) for c in run)


@lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    if character in _KEPT:
        return _KEPT[character]
    if PRIVATE.fullmatch(character):
        return character
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category[0] == "Z":
        return " "
    if category[0] == "M":
        return ""
    small = character.lower()
    for letters in (_LATIN, _CYRILLIC):
        if small in letters:
            return letters[small] if small == character else letters[small].capitalize()
    resolved = unicodedata.normalize("NFKD", character)
    if resolved != character:
        return "".join(c if c.isascii() else _plain(c) for c in resolved)
    if category[0] == "L":
        return _other_letter(character)
    return ", " if category[0] == "P" else " "


def _other_letter(character: str) -> str:
    name = unicodedata.name(character, "").split(" ")
    if name[0] == "LATIN":  # LATIN SMALL LETTER B WITH HOOK, LATIN LETTER SMALL CAPITAL B
        return next((word.lower() for word in name[3:] if len(word) == 1), "")
    if name[0] == "MODIFIER":
        return ""
    script = _SCRIPTS.get(name[0], name[0].capitalize() if name[0].isascii() and name[0].isalpha() else "foreign")
    return f"\x01{script} text\x02"


def _greek(word: str) -> str:
    """A single letter is read by its name, several letters as a word."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", word.lower()) if unicodedata.category(c) != "Mn")
    if len(letters) == 1 and letters in _GREEK:
        name = unicodedata.name(letters).split(" ")[-1].lower()
        return f" {name} "
    letters = letters.replace("ου", "oo").replace("μπ", "b")
    return "".join(_GREEK.get(c, c if c.isascii() else " ") for c in letters)
