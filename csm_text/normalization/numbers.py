"""Numbers in English words, American usage: "one hundred one", "nineteen oh five", "twenty first".

Numbers come as strings of digits, as they are written.
"""

from __future__ import annotations

from itertools import pairwise

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ("", "thousand", "million", "billion", "trillion")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_MOST_DIGITS = 3 * len(_SCALES)  # a longer number is read digit by digit
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def cardinal(digits: str) -> str:
    """A whole number; commas between thousands are allowed. One with leading zeros, or too long, is read by digit."""
    digits = digits.replace(",", "")
    if len(digits) > _MOST_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return by_digit(digits)
    number = int(digits)
    if number == 0:
        return "zero"
    words: list[str] = []
    for scale in reversed(range(len(_SCALES))):
        part = number // 1000**scale % 1000
        if part:
            words.append(_below_thousand(part))
            if scale:
                words.append(_SCALES[scale])
    return " ".join(words)


def by_digit(digits: str) -> str:
    return " ".join(_ONES[int(digit)] for digit in digits if digit.isdigit())


def decimal(whole: str, fraction: str | None) -> str:
    """A number with the digits after its point, which are read one by one; a whole number when there are none."""
    words = cardinal(whole or "0")
    return f"{words} point {by_digit(fraction)}" if fraction else words


def ordinal(digits: str) -> str:
    words = cardinal(digits).split()
    last = words[-1]
    if last in _ORDINALS:
        words[-1] = _ORDINALS[last]
    elif last.endswith("y"):
        words[-1] = last[:-1] + "ieth"
    else:
        words[-1] = last + "th"
    return " ".join(words)


def is_year(digits: str) -> bool:
    """Whether a number of four digits is read in pairs, as years are: 1100 to 2099."""
    return len(digits) == 4 and 1100 <= int(digits) <= 2099


def year(digits: str) -> str:
    """A year in words: in pairs where English reads it so."""
    if not is_year(digits) or digits.startswith("200"):
        return cardinal(digits)
    high, low = digits[:2], digits[2:]
    if low == "00":
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {two_digits(low)}"


def two_digits(digits: str) -> str:
    """Two digits as after an hour or a century: "oh five", "thirty"."""
    return f"oh {cardinal(digits[1])}" if digits[0] == "0" and digits[1] != "0" else cardinal(digits.lstrip("0") or "0")


def plural(words: str) -> str:
    """The plural of a number in words, as in "the nineteen nineties"."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def roman(numeral: str) -> int | None:
    """The value of a Roman numeral up to 399, in letters of either case; None if it is not the usual spelling."""
    values = [_ROMAN[letter] for letter in numeral.upper()]
    total = sum(-value if value < following else value for value, following in pairwise([*values, 0]))
    return total if total and _in_roman(total) == numeral.upper() else None


def _in_roman(value: int) -> str:
    tens = ("", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", "XC")
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    return "C" * (value // 100) + tens[value // 10 % 10] + ones[value % 10]


def _below_thousand(number: int) -> str:
    words = []
    if number >= 100:
        words += [_ONES[number // 100], "hundred"]
        number %= 100
    if number >= 20:
        words.append(_TENS[number // 10])
        number %= 10
    if number:
        words.append(_ONES[number])
    return " ".join(words)
