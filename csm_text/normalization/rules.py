"""The normalizer's rules in order of precedence: a name, a pattern, and the function that reads a match.

The last rules match what the others leave: words, marks, signs. Only white space matches none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from csm_text.normalization import abbreviations, addresses, amounts, dates, numbers
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.symbols import STRENGTH

Reader = Callable[[Reading, Groups], None]

_N = amounts.NUMBER
_SYMBOLS = {
    "&": "and",
    "%": "percent",
    "+": "plus",
    "=": "equals",
    "@": "at",
    "°": "degrees",
    "#": "hash",
    "<": "less than",
    ">": "greater than",
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "₹": "rupee",
    "×": "times",
    "\\": "backslash",
    "¢": "cents",
}
_POWERS = {"2": "squared", "3": "cubed"}


def said(words: Callable[[Groups], str]) -> Reader:
    """A reader that says what the function makes of the match."""
    return lambda reading, found: reading.say(words(found))


def _marked(mark: str) -> Reader:
    return lambda reading, found: reading.mark(mark)


def _left_out(reading: Reading, found: Groups) -> None:
    """Reads the match as nothing."""


def as_words(name: str) -> Reader:
    """A reader of the group of that name as an address, without its scheme."""

    def read(reading: Reading, found: Groups) -> None:
        address, rest = addresses.split_end(found[name] or "")
        say_address(reading, addresses.without_scheme(address), rest)

    return read


def say_address(reading: Reading, address: str, rest: str) -> None:
    """Says an address part by part. rest: what follows it and belongs to the sentence, of which marks are kept."""
    for part in addresses.spelled(address):
        reading.written(part)
    for mark in rest:
        if mark in STRENGTH:
            reading.mark(mark)


def _phones(reading: Reading, found: Groups) -> None:
    reading.out.append(found["phones"] or "")


def _handle(reading: Reading, found: Groups) -> None:
    reading.say("at")
    as_words("handle")(reading, found)


def _tag(reading: Reading, found: Groups) -> None:
    reading.say("hashtag")
    as_words("tag")(reading, found)


def _slash_date(reading: Reading, found: Groups) -> None:
    words = dates.slash_date(found)
    if words is None:
        parts = (found["sfirst"], found["ssecond"], found["syear"])
        words = " slash ".join(numbers.cardinal(part or "0") for part in parts)
    reading.say(words)


def _mixed(reading: Reading, found: Groups) -> None:
    """Letters and figures: one or two digits as a number, three or more digits one by one."""
    for part in re.findall(r"[A-Za-z]+|\d+", found["mixed"] or ""):
        if part[0].isdigit():
            reading.say(numbers.cardinal(part) if len(part) <= 2 else numbers.by_digit(part))
        else:
            reading.letters(part)


def _times(reading: Reading, found: Groups) -> None:
    """ "3 x 4" is a product, "1920x1080" is a size."""
    reading.say(numbers.cardinal(found["times1"] or "0"))
    reading.say("times" if (found["cross"] or "").startswith(" ") else "by")


def _range(reading: Reading, found: Groups) -> None:
    """ "10-20" is a range; with spaces, in a text that has an equals sign, it is a difference."""
    minus = " - " in (found["hyphen"] or "") and "=" in reading.text
    first, last = numbers.cardinal(found["from"] or "0"), numbers.cardinal(found["to"] or "0")
    reading.say(f"{first} {'minus' if minus else 'to'} {last}")


def _number(found: Groups) -> str:
    """Years are read in pairs; long numbers without commas, such as account numbers, digit by digit."""
    digits = found["number"] or "0"
    long = len(digits) > 7 and "," not in digits and not digits.endswith("000")
    if long or digits == "911":
        return numbers.by_digit(digits)
    return numbers.year(digits) if numbers.is_year(digits) else numbers.cardinal(digits)


def _power(found: Groups) -> str:
    exponent = found["power"] or ""
    return _POWERS.get(exponent, f"to the power of {numbers.cardinal(exponent)}")


def _initials(reading: Reading, found: Groups) -> None:
    """ "U.S."; its last full stop also ends the sentence at the end of the text."""
    initials = found["initials"] or ""
    reading.spell(initials.replace(".", ""), "'s" if found["possessive"] is not None else "")
    end = reading.start + len(initials)
    if initials.endswith(".") and not reading.text[end : end + 20].strip():
        reading.mark(".")


def _pair(reading: Reading, found: Groups) -> None:
    first, _, last = (found["pair"] or "").partition("&")
    reading.spell(first)
    reading.say("and")
    reading.spell(last)


def _abbreviation(reading: Reading, found: Groups) -> None:
    words = abbreviations.abbreviation(found, reading.before(60))
    if words is None:
        reading.word(found["abbreviation"] or "")
        reading.mark(".")
    else:
        reading.say(words)


def _numeral(word: str, numeral: str, said: Callable[[str], str]) -> Reader:
    """A reader of a Roman numeral. word, numeral: groups; no word when "". said: the words of the value's digits."""

    def read(reading: Reading, found: Groups) -> None:
        value = numbers.roman(found[numeral] or "")
        if word:
            reading.word(found[word] or "")
        if value:
            reading.say(said(str(value)))
        else:
            reading.word(found[numeral] or "")

    return read


def _possessed(reading: Reading, found: Groups) -> None:
    if reading.out and reading.out[-1].isalpha():
        reading.out[-1] += "'s"


def _bracket(reading: Reading, found: Groups) -> None:
    """A pause, except inside a word: "film(s)"."""
    if (found["bracket"] or "") in "([{":
        pause = not reading.before(1).isalnum()
        reading.open_brackets.append(pause)
    else:
        pause = reading.open_brackets.pop() if reading.open_brackets else True
    if pause:
        reading.mark(",")


def _symbol(reading: Reading, found: Groups) -> None:
    symbol = found["symbol"] or ""
    before, after = reading.before(1), reading.after(1)
    if symbol == "/" and before.isalnum() and after.isalnum():
        if (reading.before(3) + symbol + reading.after(2)).lower() != "and/or":
            reading.say("slash")
    elif symbol == "~" and after.isdigit():
        reading.say("about")
    elif symbol in "<>" and not (before.isspace() and after.isspace() or after.isdigit()):
        pass
    elif symbol in _SYMBOLS:
        reading.say(_SYMBOLS[symbol])


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("phones", r"(?P<phones>[\U000f0000-\U000ffffd](?:'s(?![A-Za-z]))?)", _phones),
    ("mail", addresses.MAIL, as_words("mail")),
    ("url", addresses.URL, as_words("url")),
    ("domain", addresses.DOMAIN, as_words("domain")),
    ("iso_date", dates.ISO_DATE, said(dates.iso_date)),
    ("slash_date", dates.SLASH_DATE, _slash_date),
    ("short_date", dates.SHORT_DATE, said(dates.short_date)),
    ("time", dates.TIME, said(dates.time)),
    ("hour", dates.HOUR, said(dates.hour)),
    ("spaced", amounts.SPACED, said(lambda found: numbers.cardinal((found["spaced"] or "0").replace(" ", "")))),
    ("phone", addresses.PHONE, said(addresses.phone)),
    ("dotted", addresses.DOTTED, said(addresses.dotted)),
    ("money", amounts.MONEY, said(amounts.money)),
    ("money_after", amounts.MONEY_AFTER, said(amounts.money)),
    ("cents", amounts.CENTS, said(amounts.cents)),
    ("temperature", amounts.TEMPERATURE, said(amounts.temperature)),
    ("percent", amounts.PERCENT, said(amounts.percent)),
    ("day_month", dates.DAY_MONTH, said(dates.day_month)),
    ("month_day", dates.MONTH_DAY, said(dates.month_day)),
    ("month_year", dates.MONTH_YEAR, said(dates.month_year)),
    ("short_month", dates.SHORT_MONTH, said(dates.short_month)),
    ("feet", amounts.FEET, said(amounts.feet)),
    ("multiple", amounts.MULTIPLE, said(amounts.multiple)),
    ("scaled", amounts.SCALED, said(amounts.scaled)),
    ("decade", dates.DECADE, said(dates.decade)),
    ("measure", amounts.MEASURE, said(amounts.measure)),
    ("fraction", amounts.FRACTION, said(amounts.fraction)),
    ("year_range", dates.YEAR_RANGE, said(dates.year_range)),
    ("era_year", dates.ERA_YEAR, said(dates.era_year)),
    (
        "ordinal",
        rf"(?<![\w.,])(?P<ordinal>{_N})(?i:st|nd|rd|th)(?![A-Za-z0-9])",
        said(lambda found: numbers.ordinal(found["ordinal"] or "0")),
    ),
    ("range", rf"(?<![\w.,-])(?P<from>{_N})(?P<hyphen>\s?[-–]\s?)(?P<to>{_N})(?![\w-]|[.,]\d)", _range),
    (
        "ratio",
        r"(?<![\w.,:])(?P<ratio1>\d{1,6}):(?P<ratio2>\d{1,6})(?![\w:])",
        said(lambda found: " to ".join(numbers.cardinal(found[name] or "0") for name in ("ratio1", "ratio2"))),
    ),
    ("times", rf"(?<![\w.,])(?P<times1>{_N})(?P<cross>\s?[x×*]\s?)(?={_N}(?![A-Za-z]))", _times),
    (
        "sign",
        r"(?:(?<=[\s(\[])|^)(?P<sign>[-+])(?=[\d.])",
        said(lambda found: "minus" if found["sign"] == "-" else "plus"),
    ),
    (
        "decimal",
        rf"(?<![A-Za-z0-9])(?P<whole>{_N})?\.(?P<decimals>\d{{1,40}})(?!\d|\.\d)",
        said(lambda found: numbers.decimal(found["whole"] or "", found["decimals"] or "0")),
    ),
    ("number", rf"(?<![A-Za-z0-9])(?P<number>{_N})(?![A-Za-z0-9])", said(_number)),
    ("emoticon", abbreviations.EMOTICON, _left_out),
    ("doctor", abbreviations.DOCTOR, lambda reading, found: reading.spell("PHD")),
    ("latin", abbreviations.LATIN_RULE, said(abbreviations.latin)),
    ("pair", abbreviations.PAIR, _pair),
    ("initials", abbreviations.INITIALS, _initials),
    ("abbreviation", abbreviations.ABBREVIATION, _abbreviation),
    ("initial", abbreviations.INITIAL, lambda reading, found: reading.spell(found["initial"] or "")),
    ("numeral", abbreviations.NUMERAL, _numeral("numbered", "numeral", numbers.cardinal)),
    ("king", abbreviations.KING, _numeral("king", "kingth", lambda value: f"the {numbers.ordinal(value)}")),
    ("roman", abbreviations.ROMAN, _numeral("", "roman", numbers.cardinal)),
    (
        "language",
        r"(?<![A-Za-z0-9])(?P<language>[CF])(?P<suffix>\+\+|\#)(?![A-Za-z0-9])",
        said(lambda found: f"{found['language']} {'plus plus' if found['suffix'] == '++' else 'sharp'}"),
    ),
    ("handle", addresses.HANDLE, _handle),
    (
        "tag_number",
        addresses.TAG_NUMBER,
        said(lambda found: f"number {numbers.cardinal(found['tagnumber'] or '0')}"),
    ),
    ("tag", addresses.TAG, _tag),
    (
        "mixed",
        r"(?<![A-Za-z0-9])(?P<mixed>[A-Za-z]{1,40}\d[A-Za-z0-9]{0,40}|\d{1,40}[A-Za-z][A-Za-z0-9]{0,40})",
        _mixed,
    ),
    (
        "word",
        r"(?P<word>[A-Za-z]{1,100}(?:'[A-Za-z]{1,100}){0,4})",
        lambda reading, found: reading.word(found["word"] or ""),
    ),
    ("digits", r"(?P<digits>\d{1,40})", said(lambda found: numbers.cardinal(found["digits"] or "0"))),
    ("possessed", r"(?<=\d)'s(?![A-Za-z])", _possessed),
    ("power", r"(?<=[A-Za-z0-9)])\^(?P<power>\d{1,3})(?!\d)", said(_power)),
    ("heading", r"(?:^|(?<=\n))#{1,6}\s", _marked(".")),
    ("paragraph", r"\n[^\S\n]{0,20}\n\s{0,20}", _marked(".")),
    ("dots", r"\.{2,10}", _marked("...")),
    ("dash", r"(?:(?<=\s)-{1,3}(?=\s)|--|[–—])", _marked("-")),
    ("mark", r"(?P<mark>[.,?!;:])", lambda reading, found: reading.mark(found["mark"] or "")),
    ("bracket", r"(?P<bracket>[()\[\]{}])", _bracket),
    ("markup", r"<[A-Za-z/][^<>]{0,100}>", _left_out),
    ("symbol", r"(?P<symbol>[^\sA-Za-z0-9])", _symbol),
)
