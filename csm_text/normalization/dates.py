"""Dates, times of day, years and decades: rules of the normalizer.

Each rule is a pattern, and a function that returns the words of a match.
"""

from __future__ import annotations

from csm_text.normalization.found import Groups
from csm_text.normalization.numbers import cardinal, ordinal, plural, two_digits, year

MONTHS = ("January February March April May June July August September October November December").split()
_SHORT = {**{name[:3]: name for name in MONTHS}, "Sept": "September"}
_months = "|".join([*MONTHS, r"(?:Sept|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec)(?:\.(?=[\s,]))?"])
_end = r"(?![A-Za-z0-9])"

# Words after which a number with a slash is a date: "by 3/4" is one, "3/4 cup" is not.
_DATE_WORDS = r"(?:by|on|until|till|before|after|since|from|due)"

ISO_DATE = r"(?<![\w-])(?P<iyear>\d{4})-(?P<imonth>0[1-9]|1[0-2])-(?P<iday>0[1-9]|[12]\d|3[01])(?!\d|-\d)(?:T(?=\d))?"
SLASH_DATE = (
    r"(?<![\w/])(?P<sfirst>\d{1,2})(?P<sep>[/.])(?P<ssecond>\d{1,2})(?P=sep)(?P<syear>\d{4}|\d{2})(?![\w/]|\.\d)"
)
SHORT_DATE = (
    rf"\b(?P<dword>(?i:{_DATE_WORDS}))\s(?P<dmonth>0?[1-9]|1[0-2])/(?P<dday>0?[1-9]|[12]\d|3[01])"
    r"(?![\w/]|\s?(?i:of|cups?)\b)"
)
MONTH_DAY = (
    rf"\b(?P<mname>{_months})\s(?P<mday>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?(?![\w:%/]|\.\d|,\d)"
    r"(?:,?\s(?P<myear>[12]\d{3})(?![\w:%]|\.\d))?"
)
DAY_MONTH = (
    rf"(?<![\w.,])(?:[Tt]he\s)?(?P<eday>[12]\d|3[01]|0?[1-9])(?P<esuffix>st|nd|rd|th)?\s(?:of\s)?(?P<ename>{_months})"
    rf"{_end}(?:,?\s(?P<eyear>[12]\d{{3}})(?![\w:%]|\.\d))?"
)
MONTH_YEAR = rf"\b(?P<nname>{_months}),?\s(?P<nyear>[12]\d{{3}})(?![\w:%]|\.\d)"
SHORT_MONTH = r"\b(?P<oname>Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\.(?=\s)"
TIME = (
    r"(?<![\w:.])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?![\d:])"
    r"(?:\s?(?P<half1>[aApP])\.?\s?[mM](?:\.(?=\s+(?:[a-z0-9]|[A-Z]{2,4}\b)|\s*[,;:?!)\"'-])|(?![A-Za-z0-9])))?"
)
HOUR = (
    r"(?<![\w:.])(?P<hour2>1[0-2]|0?[1-9])\s?(?P<half2>[aApP])"
    r"(?:\.\s?[mM](?:\.(?=\s+(?:[a-z0-9]|[A-Z]{2,4}\b)|\s*[,;:?!)\"'-]))?|[mM](?![A-Za-z0-9]))"
)
DECADE = rf"(?<![\w.,])(?:'(?P<short_decade>\d0)|(?P<decade>[12]\d\d0|[1-9]0))'?s{_end}"
YEAR_RANGE = r"(?<![\w.,-])(?P<yfrom>1[1-9]\d\d|20\d\d)\s?[-–]\s?(?P<yto>1[1-9]\d\d|20\d\d|\d\d)(?![\w-]|[.,]\d)"
ERA_YEAR = r"\b(?P<era>(?i:in|since|of|from|until|by|year))\s(?P<erayear>1[0-9]\d\d)(?![\w:%,]|\.\d)"


def iso_date(found: Groups) -> str:
    return _date(int(found["imonth"] or 1), found["iday"] or "1", found["iyear"]) + " "


def slash_date(found: Groups) -> str | None:
    """With slashes the month is first, unless it cannot be one; with full stops the day is. None when it is no date."""
    first, second, number = found["sfirst"] or "", found["ssecond"] or "", found["syear"] or ""
    month, day = (second, first) if found["sep"] == "." or int(first) > 12 else (first, second)
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    return _date(int(month), day, number if len(number) == 4 else ("20" if int(number) < 50 else "19") + number)


def short_date(found: Groups) -> str:
    return f"{found['dword']} {_date(int(found['dmonth'] or 1), found['dday'] or '1', None)}"


def month_day(found: Groups) -> str:
    return _date(_number_of(found["mname"]), found["mday"] or "1", found["myear"])


def day_month(found: Groups) -> str:
    words = f"the {_ordinal(found['eday'])} of {MONTHS[_number_of(found['ename']) - 1]}"
    return f"{words}, {year(found['eyear'])}" if found["eyear"] else words


def month_year(found: Groups) -> str:
    return f"{MONTHS[_number_of(found['nname']) - 1]} {year(found['nyear'] or '')}"


def short_month(found: Groups) -> str:
    return MONTHS[_number_of(found["oname"]) - 1]


def time(found: Groups) -> str:
    hour, minute, second = int(found["hour"] or 0), found["minute"] or "00", found["second"]
    half = found["half1"]
    words = cardinal(str(hour))
    if second and int(second):
        words += f" {'oh oh' if minute == '00' else two_digits(minute)} and {cardinal(str(int(second)))} seconds"
    elif minute != "00":
        words += f" {two_digits(minute)}"
    elif not half:
        words = f"{words} o'clock" if 1 <= hour <= 12 else f"{words} hundred"
    return f"{words} {half.upper()} M" if half else words


def hour(found: Groups) -> str:
    return f"{cardinal(str(int(found['hour2'] or 0)))} {(found['half2'] or '').upper()} M"


def decade(found: Groups) -> str:
    digits = found["short_decade"] or found["decade"] or "0"
    if len(digits) == 2:
        return plural(cardinal(digits))
    return plural(cardinal(digits)) if digits.endswith("000") else plural(year(digits))


def year_range(found: Groups) -> str:
    first, last = found["yfrom"] or "", found["yto"] or ""
    return f"{year(first)} to {year(last) if len(last) == 4 else two_digits(last)}"


def era_year(found: Groups) -> str:
    digits = found["erayear"] or ""
    return f"{found['era']} {year(digits) if digits >= '1100' else cardinal(digits[:2]) + ' ' + two_digits(digits[2:])}"


def _date(month: int, day: str, number: str | None) -> str:
    words = f"{MONTHS[month - 1]} {_ordinal(day)}"
    return f"{words}, {year(number)}" if number else words


def _ordinal(day: str | None) -> str:
    return ordinal(str(int(day or "1")))


def month(name: str | None) -> str:
    """The whole name of a month."""
    return MONTHS[_number_of(name) - 1]


def _number_of(name: str | None) -> int:
    written = (name or "").rstrip(".")
    full = _SHORT.get(written, written)
    return MONTHS.index(full) + 1
