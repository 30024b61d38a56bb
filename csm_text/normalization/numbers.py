"""Numbers in English words, American usage: "one hundred one", "nineteen oh five", "twenty first"."""

from __future__ import annotations

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
MOST_DIGITS = 3 * len(_SCALES)  # a longer number is read digit by digit


def cardinal(digits: str) -> str:
    """digits: "0" to "9" and thousands' commas. A number with leading zeros, or too long, is read digit by digit."""
    digits = digits.replace(",", "")
    if len(digits) > MOST_DIGITS or (len(digits) > 1 and digits[0] == "0"):
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


def decimal(whole: str, fraction: str) -> str:
    """The digits after the point one by one."""
    return f"{cardinal(whole or '0')} point {by_digit(fraction)}"


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
    """Value of a Roman numeral up to 39, as for kings and chapters; None if its spelling is not usual."""
    tens = len(numeral) - len(numeral.lstrip("X"))
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    rest = numeral[tens:]
    if tens > 3 or rest not in ones or not numeral:
        return None
    return 10 * tens + ones.index(rest)


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
