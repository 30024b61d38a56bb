"""Web and mail addresses, phone numbers, dotted numbers: rules of the normalizer.

Each rule is a pattern, and a function that returns the words of a match.
"""

from __future__ import annotations

import re

from csm_text.normalization.found import Groups
from csm_text.normalization.numbers import by_digit, cardinal

_TOP = "com|org|net|edu|gov|io|ai|app|dev|info|co|uk|eu|us|ca|au|de|fr|ch|tv|me"
URL = r"(?<![A-Za-z0-9])(?P<url>(?:(?i:https?|ftp)://|(?i:www)\.(?=[A-Za-z0-9]))[A-Za-z0-9][^\s<>\"|]{0,300})"
MAIL = (
    r"(?<![A-Za-z0-9._+-])(?P<mail>[A-Za-z0-9](?:[A-Za-z0-9_+-]|\.(?=[A-Za-z0-9])){0,63}"
    r"@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,20})(?![A-Za-z0-9])"
)
DOMAIN = (
    rf"(?<![A-Za-z0-9.@-])(?P<domain>(?:[A-Za-z0-9-]{{1,63}}\.){{1,4}}(?:{_TOP})(?![A-Za-z0-9-]|\.[A-Za-z0-9])"
    r"(?:/[^\s<>\"|,;]{0,200})?)"
)
DOTTED = r"(?<![\w.,])(?P<dotprefix>[vV]?)(?P<dotted>\d{1,3}(?:\.\d{1,4}){2,4})(?![\w])(?!\.\d)"
PHONE = (
    r"(?<![\w.,+-])(?P<phone>"
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){1,6}(?![\d])"  # +44 20 7946 0958
    r"|(?:1[ .-])?\(\d{3}\)[ -]?\d{3}[ .-]\d{4}(?!\d)"  # (555) 123-4567
    r"|(?:1[ .-])?\d{3}([ .-])\d{3}[ .-]\d{4}(?!\d)"  # 555-123-4567
    r"|\d{3}-\d{4}(?![\d-])"  # 555-1234
    r"|0\d{1,4}[ /-]\d{3,8}(?:[ -]\d{2,6}){0,2}(?![\d.,:])"  # 020 7946 0958
    r")"
)
HANDLE = r"(?<![A-Za-z0-9@])@(?P<handle>[A-Za-z_][A-Za-z0-9_]{0,63})"
TAG = r"(?<![A-Za-z0-9#&])#(?P<tag>[A-Za-z][A-Za-z0-9_]{0,63})"
TAG_NUMBER = r"(?<![A-Za-z0-9#&])#\s?(?P<tagnumber>\d{1,15})(?![\dA-Za-z])"

_PARTS = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|\d+|[^A-Za-z0-9]")
_SIGNS = {
    ".": "dot",
    "/": "slash",
    "-": "dash",
    "_": "underscore",
    "?": "question mark",
    "=": "equals",
    "&": "and",
    "#": "hash",
    "%": "percent",
    "+": "plus",
    "~": "tilde",
    "@": "at",
    ":": "colon",
    ",": "comma",
    ";": "semicolon",
    "!": "exclamation mark",
    "*": "star",
    "$": "dollar",
    "\\": "backslash",
}


def spelled(address: str) -> list[str]:
    """The parts of an address: signs by their names, numbers in words, and other words as they are written."""
    parts = []
    for part in _PARTS.findall(address):
        if part[0].isdigit():
            parts.append(cardinal(part) if len(part) <= 2 else by_digit(part))
        else:
            parts.append(_SIGNS.get(part, part if part[0].isalpha() else ""))
    return [part for part in parts if part]


def split_end(address: str) -> tuple[str, str]:
    """(the address, the signs at its end that belong to the sentence)"""
    kept = address.rstrip(".,;:!?'\")]}>")
    if "(" in kept and address[len(kept) :].startswith(")"):
        kept += ")"
    return kept, address[len(kept) :]


def without_scheme(url: str) -> str:
    return re.sub(r"^(?i:https?|ftp)://", "", url).rstrip("/")


def dotted(found: Groups) -> str:
    """Four numbers are an IP address; fewer or more are a version."""
    parts = (found["dotted"] or "").split(".")
    address = len(parts) == 4
    words = (" dot " if address else " point ").join(
        by_digit(p) if address and len(p) > 2 else cardinal(p) for p in parts
    )
    return f"version {words}" if found["dotprefix"] else words


def phone(found: Groups) -> str:
    """Digit by digit, with a pause between the groups."""
    number = found["phone"] or ""
    groups = re.findall(r"\d+", number)
    words = ", ".join(by_digit(group) for group in groups)
    return f"plus {words}" if number.startswith("+") else words
