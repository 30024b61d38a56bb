"""Ranges, ratings and other shorthand: "Mon-Fri", "June 3-5", "1/2 tsp", "$5-10", "DON'T", "the part I like"."""

from __future__ import annotations

import re

from csm_text.normalization import abbreviations, amounts, dates, numbers
from csm_text.normalization.derived import derived
from csm_text.normalization.everyday.shortened import BEGINS
from csm_text.normalization.everyday.units import ANY_UNIT, UNITS
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

DAYS = {
    "Mon": "Monday",
    "Tues": "Tuesday",
    "Tue": "Tuesday",
    "Weds": "Wednesday",
    "Wed": "Wednesday",
    "Thurs": "Thursday",
    "Thur": "Thursday",
    "Thu": "Thursday",
    "Fri": "Friday",
    "Sat": "Saturday",
    "Sun": "Sunday",
}
_WAYS = {"St": "street", "Ave": "avenue", "Rd": "road", "Blvd": "boulevard", "Ln": "lane"}
_BEFORE_FIGURES = {
    "Rt": "route",
    "Rte": "route",
    "Hwy": "highway",
    "Rm": "room",
    "Ste": "suite",
    "Bldg": "building",
    "Pt": "part",
    "Ch": "chapter",
    "Sec": "section",
    "Cat": "category",
}
_MICRO = {"m": "meter", "s": "second", "g": "gram", "l": "liter", "L": "liter"}
_days = "|".join(DAYS)
_months = "|".join([*(name[:3] for name in dates.MONTHS), "Sept"])
_N = amounts.NUMBER
_day = r"(?:[12]\d|3[01]|0?[1-9])"
_START, _END = r"(?<![A-Za-z0-9'])", r"(?![A-Za-z0-9'])"

# "Part I" has a numeral only before a mark, or before a word that does not follow the pronoun "I". Longer numerals and
# "V" and "X" always are numerals.
_FIRST = (
    r"(?:I(?=\s*(?:[.,;:!?)]|$|\n)|'s\b|\s(?:of|to|died|ruled|reigned|became|succeeded|begins?|ends|ended|was\s(?:born"
    r"|crowned|queen|king|executed)|errors?|diabetes|trials?|stud(?:y|ies)|clinical|trauma|felony)\b)|[IVX]{2,6}|[VX])"
)
NUMERAL = derived(abbreviations.NUMERAL, ("[IVX]{1,6}", _FIRST))
KING = derived(abbreviations.KING, ("[IVX]{1,6}", _FIRST))

CONTRACTION = (
    rf"{_START}(?P<contraction>(?:DO|CA|WO|DOES|DID|IS|ARE|WAS|WERE|COULD|WOULD|SHOULD|HAVE|HAS|HAD|AI|MUST|NEED)N'T"
    rf"|(?:IT|THAT|THERE|WHAT|WHO|HERE|WHERE|HOW|LET|HE|SHE)'S|(?:WE|YOU|THEY|WHO)'(?:RE|LL|VE|D)|(?:IT|HE|SHE|THAT)"
    rf"'(?:LL|D)){_END}"
)
POINT_RANGE = (
    r"(?<![\w.,$€£:/+-])(?P<pointlow>\d{1,6}(?:\.\d{1,4})?)[-–]"
    r"(?=\d{1,6}(?:\.\d{1,4})?(?![\w-]|\.\d))(?:(?<=\.\d[-–])|(?<=\.\d\d[-–])|(?=\d{1,6}\.\d))"
)
MEASURE_RANGE = (
    rf"(?<![\w.,-])(?P<lowwhole>{_N})(?:\.(?P<lowpart>\d{{1,20}}))?\s?[-–]\s?"
    rf"(?={_N}(?:\.\d{{1,20}})?\s?(?:{ANY_UNIT})(?![A-Za-z0-9^/]))"
)
DAYS_OF_MONTH = (
    rf"\b(?P<rangemonth>{'|'.join(dates.MONTHS)}|(?:{_months})\.?)\s(?P<dayfrom>{_day})\s?[-–]\s?(?P<dayto>{_day})"
    r"(?:,?\s(?P<rangeyear>[12]\d{3}))?(?![\w:%/-]|[.,]\d)"
)
WEEKDAYS = rf"{_START}(?P<weekfrom>{_days})\s?(?P<weekjoin>[-–&/])\s?(?P<weekto>{_days}){_END}"
WEEKDAY = rf"{_START}(?P<weekday>{_days})(?=,?\s\d)"
MONTHS = rf"{_START}(?P<monthfrom>{_months})\s?[-–]\s?(?P<monthto>{_months}){_END}"
PART_OF_UNIT = (
    r"(?<![\dA-Za-z/.])(?:(?P<unitwhole>\d{1,15})[ -])?(?P<unitover>\d{1,2})/(?P<unitunder>2|3|4|5|6|8|10|16)\s?"
    rf"(?P<partunit>(?:{ANY_UNIT})(?<!\.)|c\.(?=\s[a-z]))(?<![^A-Za-z][A-Za-z])(?:\.(?=\s[a-z]))?{_END}"
)
SHORT_YEAR = r"(?<![A-Za-z0-9])'(?P<shortyear>0\d)(?![\dA-Za-z'])"
STREET = (
    r"(?:\b(?P<street>[A-Z][a-z]{1,20}(?:'s)?)|(?<=\d(?:st|nd|rd|th)))"
    rf"\s(?P<way>{'|'.join(_WAYS)})(?![A-Za-z.']|\s[A-Z][a-z])"
)
MENU = r"(?<=[A-Za-z]{2})\s>\s(?=[A-Z][A-Za-z])"
DRIP = rf"{_START}(?:(?<=an )IV{_END}|IV(?=\s(?:drips?|fluids?|lines?|bags?|antibiotics)\b))"
BEFORE_FIGURE = rf"{_START}(?P<figured>{'|'.join(_BEFORE_FIGURES)})\.\s?(?=\d)"
MONEY_RANGE = (
    rf"(?<![A-Za-z0-9])(?P<mrsign>[$€£¥₹])(?P<mrlow>{_N}(?:\.\d\d)?)\s?[-–]\s?"
    rf"(?:(?P=mrsign)(?={_N}\s?(?:million|billion|thousand)))?(?P<mrhigh>{_N}(?:\.\d\d)?)"
    rf"(?P<mrscale>\s?(?:[KkMB]|bn|thousand|million|billion))?(?![\w-]|[.,]\d|\s?[ap]\.?m)"
)
HUNDREDS = r"(?<![A-Za-z0-9.,])(?P<hundreds>[1-9]\d\d)(?P<hundredsunit>[FCKk])(?![A-Za-z0-9])"
RECORD = (
    r"(?<![\w.,$€£:/-])(?:(?<=went )|(?<=s are )(?<!dds are )(?=[\d-]{3,8}\s*(?:[.,;!?)]|$))|(?=[\d-]{3,8}\s"
    r"(?:record|start|overall|on the (?:season|year|road)|at home|this (?:season|year)|in conference)\b))"
    r"(?P<won>\d{1,2})-(?P<lost>\d{1,2})(?:-(?P<tied>\d{1,2}))?(?![\w-]|[.,]\d)"
)
ODDS = (
    r"(?:(?<=dds are )|(?<=dds of )|(?<=dds at )|(?<=dds: ))(?P<odds>\d{1,3})[/-](?P<oddsto>\d{1,3})(?![\w/-]|[.,]\d)"
)
AVERAGE = r"(?<![\w.,])\.(?P<average>\d{3})(?![\w%]|\.\d)"
UNTIL_NOW = (
    r"(?:(?<=\d)|(?<=\d[ap]m)|(?<=[AP]M)|(?<=[ap]\.m\.))\s?[-–]\s?"
    r"(?=(?:[Pp]resent|now|today|noon|midnight|close|late)\b)"
)
RATING = (
    r"(?<![\w/.,])(?P<rated>\d{1,2}\.\d{1,2}|\d(?=/\d{1,2}\sstars?\b)|(?P<all>5|10|100)(?=/(?P=all)(?!\d)))"
    r"/(?P<ratedof>5|10|100)(?![\d/]|\.\d)"
)
SCORED = (
    r"(?:(?<=cored )|(?<=core: )|(?<=core of )|(?<=got )|(?<=Got ))"
    r"(?P<scored>\d{1,3})/(?P<scoredof>\d{1,3})(?![\d/]|\.\d)"
)
PAGES = (
    r"(?:(?<=[Pp]age )|(?<=[Ss]tep )|(?<=[Pp]art )|(?<=[Ss]lide )|(?<=[Rr]ound )|(?<=[Ss]tage )|(?<=\b[Dd]ay ))"
    r"(?P<pagefrom>\d{1,4})/(?P<pageto>\d{1,4})(?![\d/])"
)
EMERGENCY = (
    r"(?:(?<=[Cc]all )|(?<=[Dd]ial )|(?<=[Tt]ext ))(?P<emergency>999|988|112|111|101|311|411|511|711|811)"
    r"(?![\d,%.-]\d|\d)"
)
STAR_CODE = r"(?:(?<=[Dd]ial )|(?<=[Pp]ress ))\*(?P<starcode>\d{0,4})(?![\w*])"
SEASON = r"(?<![\w/])(?P<season>(?:19|20)\d\d)/(?P<seasonto>\d\d)(?![\w/]|[.,]\d)"
POINT_MEASURE = rf"(?<![\w.])\.(?P<pointpart>\d{{1,20}})\s?(?P<pointunit>(?:{ANY_UNIT})(?<!\.)){_END}"
END_OF_SENTENCE = (
    derived(abbreviations.INITIALS, ("initials", "lastinitials"), ("possessive", "lastpossessive"))
    + rf"(?<=\.)(?=\s(?:{BEGINS})\b)"
)


def prepared(text: str) -> str:
    """The text with micro signs before a unit as words."""
    if "µ" not in text and "μ" not in text:
        return text
    text = re.sub(r"(?<=\d)\s?[µμ]([msglL])(?![A-Za-z])", lambda match: f" micro{_MICRO[match[1]]}s", text)
    return text.replace("µ", "μ")


def _measure_range(found: Groups) -> str:
    return f"{numbers.decimal(found['lowwhole'] or '0', found['lowpart'])} to"


def _point_range(found: Groups) -> str:
    """ "1-1.5 hours", "2.5-3"."""
    whole, _, part = (found["pointlow"] or "0").partition(".")
    return f"{numbers.decimal(whole, part)} to"


def _days_of_month(found: Groups) -> str:
    first, last = (numbers.ordinal(str(int(found[name] or 1))) for name in ("dayfrom", "dayto"))
    if int(found["dayfrom"] or 1) >= int(found["dayto"] or 1):  # a score: "the March 3-1 win"
        first, last = (numbers.cardinal(found[name] or "1") for name in ("dayfrom", "dayto"))
    words = f"{dates.month(found['rangemonth'])} {first} to {last}"
    return f"{words}, {numbers.year(found['rangeyear'])}" if found["rangeyear"] else words


def _weekdays(found: Groups) -> str:
    joined = "to" if (found["weekjoin"] or "") in "-–" else "and"
    return f"{DAYS[found['weekfrom'] or '']} {joined} {DAYS[found['weekto'] or '']}"


def _part_of_unit(found: Groups) -> str:
    """ "1/2 tsp" is "one half teaspoon", "1 1/2 tsp" has a plural."""
    words = amounts.fraction({"fwhole": found["unitwhole"], "fover": found["unitover"], "funder": found["unitunder"]})
    one, many = UNITS[found["partunit"] or ""]
    return f"{words} {many if found['unitwhole'] else one}"


def _money_range(found: Groups) -> str:
    """ "$5-10" is "five to ten dollars". A first amount with cents keeps its dollars."""
    low, high, scale = found["mrlow"] or "0", found["mrhigh"] or "0", (found["mrscale"] or "").strip()
    first = _money(found["mrsign"], low, "") if "." in low else numbers.cardinal(low)
    return f"{first} to {_money(found['mrsign'], high, scale)}"


def _money(sign: str | None, amount: str, scale: str) -> str:
    whole, _, cents = amount.partition(".")
    parts = {"money1": sign, "mwhole1": whole, "mcents1": cents or None, "mscale1": scale or None}
    return amounts.money({**parts, "msign": None, "mper1": None})


def _hundreds(found: Groups) -> str:
    """ "400F" is a temperature, "100k" is "one hundred K"."""
    units = {"F": "degrees Fahrenheit", "C": "degrees Celsius"}
    return f"{numbers.cardinal(found['hundreds'] or '0')} {units.get(found['hundredsunit'] or '', 'K')}"


def _rating(found: Groups) -> str:
    whole, _, part = (found["rated"] or "0").partition(".")
    return f"{numbers.decimal(whole, part)} out of {numbers.cardinal(found['ratedof'] or '0')}"


def _scored(found: Groups) -> str:
    return f"{numbers.cardinal(found['scored'] or '0')} out of {numbers.cardinal(found['scoredof'] or '0')}"


def _pages(found: Groups) -> str:
    return f"{numbers.cardinal(found['pagefrom'] or '0')} of {numbers.cardinal(found['pageto'] or '0')}"


def _season(found: Groups) -> str:
    return f"{numbers.year(found['season'] or '')} {numbers.two_digits(found['seasonto'] or '00')}"


def _point_measure(found: Groups) -> str:
    return f"{numbers.decimal('', found['pointpart'] or '0')} {UNITS[found['pointunit'] or ''][1]}"


def _record(found: Groups) -> str:
    """Games won and lost: "a 9-2 record" is "nine and two"."""
    counts = [numbers.cardinal(found[name] or "0") for name in ("won", "lost", "tied") if found[name]]
    return f"{' '.join(counts[:-1])} and {counts[-1]}"


def _end_of_sentence(reading: Reading, found: Groups) -> None:
    reading.spell((found["lastinitials"] or "").replace(".", ""))
    reading.mark(".")


def _street(reading: Reading, found: Groups) -> None:
    if found["street"]:
        reading.word(found["street"])
    reading.say(_WAYS[found["way"] or ""])


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("contraction", CONTRACTION, lambda reading, found: reading.out.append((found["contraction"] or "").lower())),
    ("days_of_month", DAYS_OF_MONTH, said(_days_of_month)),
    ("record", RECORD, said(_record)),
    (
        "odds",
        ODDS,
        said(lambda found: " to ".join(numbers.cardinal(found[name] or "0") for name in ("odds", "oddsto"))),
    ),
    ("average", AVERAGE, said(lambda found: f"point {numbers.by_digit(found['average'] or '0')}")),
    ("point_range", POINT_RANGE, said(_point_range)),
    ("measure_range", MEASURE_RANGE, said(_measure_range)),
    ("part_of_unit", PART_OF_UNIT, said(_part_of_unit)),
    ("weekdays", WEEKDAYS, said(_weekdays)),
    ("weekday", WEEKDAY, said(lambda found: DAYS[found["weekday"] or ""])),
    ("months", MONTHS, said(lambda found: f"{dates.month(found['monthfrom'])} to {dates.month(found['monthto'])}")),
    ("short_year", SHORT_YEAR, said(lambda found: numbers.two_digits(found["shortyear"] or "00"))),
    ("street", STREET, _street),
    ("menu", MENU, lambda reading, found: reading.mark(",")),
    ("drip", DRIP, lambda reading, found: reading.spell("IV")),
    ("before_figure", BEFORE_FIGURE, said(lambda found: _BEFORE_FIGURES[found["figured"] or ""])),
    ("money_range", MONEY_RANGE, said(_money_range)),
    ("hundreds", HUNDREDS, said(_hundreds)),
    ("until_now", UNTIL_NOW, said(lambda found: "to")),
    ("rating", RATING, said(_rating)),
    ("scored", SCORED, said(_scored)),
    ("pages", PAGES, said(_pages)),
    ("emergency", EMERGENCY, said(lambda found: numbers.by_digit(found["emergency"] or ""))),
    ("star_code", STAR_CODE, said(lambda found: f"star {numbers.by_digit(found['starcode'] or '')}")),
    ("season", SEASON, said(_season)),
    ("point_measure", POINT_MEASURE, said(_point_measure)),
    ("end_of_sentence", END_OF_SENTENCE, _end_of_sentence),
)
PATTERNS = {"numeral": NUMERAL, "king": KING, "possessed": r"(?<=[A-Za-z0-9])'s(?![A-Za-z])"}
