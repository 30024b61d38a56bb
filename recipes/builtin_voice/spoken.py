"""Numbers, dates, times and money in words, as people say them. The voice is trained on them.

The text front end turns figures into such words (csm_text). This module draws the words directly, in all their forms.
It knows no text.
"""

from __future__ import annotations

import numpy as np

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"))
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
UNITS = (
    "degrees miles kilometers meters feet inches pounds kilograms grams liters gallons seconds minutes hours days weeks"
    " months years people pages times points votes steps rooms seats tickets dollars euros percent"
).split()

_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}


def cardinal(number: int, *, joined_by: str = " ") -> str:
    """A number in words. joined_by: what follows "hundred": " " or " and "."""
    for scale, name in SCALES:
        if number >= scale:
            rest = number % scale
            return f"{cardinal(number // scale, joined_by=joined_by)} {name}" + (
                f" {cardinal(rest, joined_by=joined_by)}" if rest else ""
            )
    if number >= 100:
        rest = number % 100
        return f"{ONES[number // 100]} hundred" + (f"{joined_by}{cardinal(rest)}" if rest else "")
    if number < 20:
        return ONES[number]
    return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")


def ordinal(number: int) -> str:
    *front, last = cardinal(number).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    else:
        last = {"twelve": "twelfth"}.get(last, last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return " ".join([*front, last])


def digits(number: str, *, zero: str = "zero") -> str:
    """Digits one by one."""
    return " ".join(zero if digit == "0" else ONES[int(digit)] for digit in number)


def year(number: int) -> str:
    century, rest = divmod(number, 100)
    if 2000 <= number < 2010 or rest == 0 and century % 10 == 0:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


class Figures:
    """Draws figures in words."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def number(self) -> str:
        """A number. Small ones are more frequent; "and" sometimes follows "hundred"."""
        number = int(
            10 ** self._random.uniform(0, self._random.choice([1.4, 2, 3, 4, 6.5], p=[0.3, 0.35, 0.2, 0.1, 0.05]))
        )
        if number > 2000:
            number = number // 100 * 100 if self._random.random() < 0.5 else number
        return cardinal(number, joined_by=" and " if self._random.random() < 0.25 else " ")

    def small(self) -> str:
        return cardinal(int(self._random.integers(2, 100)))

    def point(self) -> str:
        places = "".join(str(d) for d in self._random.integers(0, 10, int(self._random.integers(1, 3))))
        return f"{cardinal(int(10 ** self._random.uniform(0, 2)) - 1)} point {digits(places)}"

    def quantity(self) -> str:
        number = self.point() if self._random.random() < 0.2 else self.number()
        return f"{number} {self._random.choice(UNITS)}"

    def year(self) -> str:
        recent = self._random.random() < 0.8
        return year(int(self._random.integers(1900, 2035) if recent else self._random.integers(1000, 1900)))

    def date(self) -> str:
        month, day = str(self._random.choice(MONTHS)), ordinal(int(self._random.integers(1, 32)))
        forms = [f"{month} {day}", f"the {day} of {month}", f"{month} the {day}", f"{month} {day}, {self.year()}"]
        if self._random.random() < 0.25:
            return f"{self._random.choice(DAYS)}, {self._random.choice(forms)}"
        return str(self._random.choice(forms))

    def time(self) -> str:
        hour, minute = int(self._random.integers(1, 13)), int(self._random.integers(60))
        after = str(
            self._random.choice(["", "", "", " A M", " P M", " in the morning", " in the evening", " at night"])
        )
        match int(self._random.integers(5)):
            case 0:
                return f"{ONES[hour]} o'clock"
            case 1:
                return f"half past {ONES[hour]}"
            case 2:
                past = self._random.choice(
                    ["quarter past", "quarter to", "ten past", "twenty to", "five past", "ten to"]
                )
                return f"{past} {ONES[hour]}"
            case 3:
                return f"{ONES[hour]}{after}"
            case _:
                said = "oh " + ONES[minute] if 0 < minute < 10 else cardinal(minute) if minute else "o'clock"
                return f"{ONES[hour]} {said}{after if minute else ''}"

    def money(self) -> str:
        whole = int(10 ** self._random.uniform(0, 4))
        currency, cent = [("dollar", "cent"), ("dollar", "cent"), ("euro", "cent"), ("pound", "pence")][
            int(self._random.integers(4))
        ]
        said = f"{cardinal(whole)} {currency}{'' if whole == 1 else 's'}"
        if self._random.random() < 0.5:
            cents = int(self._random.integers(1, 20)) * 5
            plural = "" if cent == "pence" or cents == 1 else "s"
            said += f"{self._random.choice([' and ', ' ', ', '])}{cardinal(cents)} {cent}{plural}"
        return said

    def phone(self) -> str:
        """Groups of digits, with pauses between them."""
        sizes = [(3, 4), (3, 3, 4), (4,), (5,), (2, 2, 2), (3, 2, 2)][int(self._random.integers(6))]
        zero = str(self._random.choice(["zero", "oh"]))
        groups = ("".join(str(d) for d in self._random.integers(0, 10, size)) for size in sizes)
        return ", ".join(digits(group, zero=zero) for group in groups)

    def nth(self) -> str:
        return ordinal(
            int(self._random.integers(1, 32)) if self._random.random() < 0.8 else int(self._random.integers(1, 200))
        )

    def letters(self) -> str:
        """Initials, as of an abbreviation."""
        return " ".join(
            self._random.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), int(self._random.integers(2, 5))).tolist()
        )
