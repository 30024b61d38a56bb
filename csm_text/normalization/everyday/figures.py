"""Figures that are names: codes, versions, models, identifiers, formulae; dates beside them."""

from __future__ import annotations

import re
from collections.abc import Callable

from csm_text.normalization import addresses, dates, numbers
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

_ELEMENTS = "H|C|N|O|S|P|K|F|I|Na|Cl|Ca|Fe|Mg|Al|Si|Cu|Zn|Br|Li|Ag|Pb|Hg|Mn|Cr|Ni|Ti"
_FORMULA = re.compile(rf"(?:(?:{_ELEMENTS})\d{{0,2}}){{2,9}}|(?:{_ELEMENTS})\d{{1,2}}")
_MODEL = re.compile(r"([A-Z]{1,2})([1-9]\d0)(s|[a-z]{0,3}|[A-Z]?)")
_CODE_WORDS = (  # before digits that are said one by one
    "code ",
    "code is ",
    "code: ",
    "PIN ",
    "PIN is ",
    "OTP ",
    "OTP is ",
    "passcode ",
    "account ",
    "account number ",
    "account number is ",
    "card number ",
    "reference number ",
    "tracking number ",
    "confirmation number ",
    "routing number ",
    "zip ",
    "ZIP ",
)
SPELLED_NUMBER = (
    r"(?<![\w.,-])(?P<groups>\d{3}-\d{2}-\d{4}|\d{4}(?:[ -]\d{4}){3}"
    r"|(?:\d{1,7}-){4}\d{1,7}|\d{2,4}-\d{6,9}(?:-\d{5,9})?"
    r"|\d{2}-\d{2}-\d{2}(?=\.|$|\s[a-z]))"
    r"(?![\w-]|,\d)"
)
CODE = (
    rf"(?:{'|'.join(f'(?<={words})' for words in _CODE_WORDS)}"
    r"|(?:(?<=ending in )|(?<=ends in ))(?!(?:19|20)\d\d(?!\d)))"
    r"(?P<codedigits>\d{4,8})(?![\d,%]|\.\d|-\d)"
)
HEX = (
    r"(?<![\w#-])#?(?P<hex>[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}|(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})(?![\w-])"
    r"|#(?P<color>(?=[A-F]*\d)(?=\d*[A-F])[0-9A-F]{6})(?![\w-])"
)
HEX_NUMBER = r"(?<!\w)0x(?P<hexnumber>[0-9A-Fa-f]{2,16})(?!\w)"
SHORT_CODE = r"(?<=\sto )(?P<shortcode>\d{5,6})(?![\w%]|[.,]\d)"
SERIAL = r"(?<=[A-Z]-)(?P<serial>\d{5,9})(?!\w|[.,-]\d)"
EXTENSION = r"(?=[xX])(?<=\d{4}\s)[xX](?P<phoneextension>)(?=\d{1,5}(?!\w))"
NUMBER_TAG = r"(?<![A-Za-z0-9#&])#(?P<numbertag>\d{1,4})(?=[A-Z][a-z])"
ORDER = r"(?<![A-Za-z0-9#&])#(?P<ordernumber>)(?=[A-Z]{1,5}-?\d)"
FISCAL = r"(?<![A-Za-z0-9])(?P<fiscal>[FC]Y)(?P<fiscalyear>(?:19|20)\d\d)(?![A-Za-z0-9])"
MODEL = (
    r"(?<![A-Za-z0-9])(?P<model>[A-Z]{2,4}|rtx|gtx)\s(?P<modelnumber>[2-9]\d[1-9]\d)(?P<modelmany>s(?![\w']))?"
    r"(?![\w,%°]|\.\d|\s(?:people|users|units))"
)
STANDARD = r"(?<![\w.,$€£])802\.(?P<standard>1|3|11|15|16)(?P<amendment>[A-Za-z]{0,2})(?![\w%]|[.,]\d)"
AIRCRAFT = (
    r"(?<![\w.,$€£+-])7(?P<aircraft>[0-8])7(?:-(?P<aircraftkind>\d{1,3})(?![\d-])|(?P<aircraftmany>s)(?!\w)|(?=\sMAX\b)"
    r"|(?<=Boeing \d\d\d)(?!\d|[.,]\d))"
)
POINT_MODEL = (
    r"(?<![A-Za-z0-9.@/-])(?P<pointletters>[A-Za-z]{1,20})(?P<pointwhole>\d{1,3})\.(?P<pointrest>\d{1,3})(?![\w@]|\.\w)"
)
LETTER_POINT = r"(?<![A-Za-z0-9'.-])(?P<letterpoint>[A-MOQ-Z])(?P<letterrest>(?:\.\d{1,3}){1,4})(?![\w-]|\.\w)"
SERIES = r"(?<=[A-Z]-)(?<![A-Za-z][A-Z]-)(?P<series>[1-9]\d0|\d{2,3}(?=s))(?P<seriesmany>s?)(?![\w-]|[.,]\d)"
# A number of three digits with a zero between, as doors and errors have it: "room 204" is "two oh four".
_DOORS = (
    "room |Room |rm |Rm |suite |Suite |Ste |apartment |Apartment |apt |Apt |flight |Flight |Route |route |Highway |Hwy "
    "|gate |Gate |rror |RROR |HTTP |status |Status |code |Code |error: |returned |returns "
)
_oh = r"(?![\w%]|[.,:-]\d)"
DOOR = (
    rf"(?:{'|'.join(f'(?<={words})' for words in _DOORS.split('|'))})"
    rf"(?P<door>[1-9])0(?P<doorlast>[1-9])(?P<doorletter>[A-Z]?){_oh}"
)
STATUS = (
    r"(?:(?<=urns a )|(?<=turn a )|(?<=got a )|(?<=get a )|(?<=with a )"
    r"|(?<![\w.,$])(?=\S{3}\s(?:page|error|response|status|redirect|Not\sFound|Bad)\b))"
    rf"(?P<status>[345])0(?P<statuslast>[1-9]){_oh}"
)
AREA_CODE = r"(?:(?<=area code )|(?<=Area code )|(?<=chmod ))(?P<areacode>\d{3})(?!\d)"
PHONE = (
    addresses.PHONE.replace(r"(?![\d.,:])", r"(?!\d|[.,:]\d)")
    .replace(r"\(\d{3}\)[ -]?\d{3}[ .-]\d{4}", r"\(\d{3}\)[ -]?\d{3}[ .-]?\d{4}")
    .replace(r"(?P<phone>\+", r"(?P<phone>\+(?=(?:[ .()-]{0,2}\d){7,15}(?![\d%]))")
    .replace(
        r"0\d{1,4}[ /-]\d{3,8}(?:[ -]\d{2,6}){0,2}", r"(?:0\d{1,4}[ /-]|\(0\d{1,4}\)\s?)\d{3,8}(?:[ -]\d{2,6}){0,2}"
    )
)
SHORT_DATES = (
    dates.SHORT_DATE + r"(?:\s?[-–]\s?(?P<lastmonth>0?[1-9]|1[0-2])/(?P<lastday>0?[1-9]|[12]\d|3[01])(?![\w/]))?"
)
TIME = dates.TIME.replace(r"(?<![\w:.])", r"(?:(?<![\w:.])|(?<=\dT))", 1)


def _groups(found: Groups) -> str:
    return ", ".join(numbers.by_digit(group) for group in re.findall(r"\d+", found["groups"] or ""))


def _hex(reading: Reading, found: Groups) -> None:
    if found["color"]:
        reading.say("hash")
    for group in re.findall(r"\w+", found["hex"] or found["color"] or ""):
        for sign in group:
            reading.say(numbers.cardinal(sign) if sign.isdigit() else sign.upper())
        reading.mark(",")


def _hex_number(found: Groups) -> str:
    digits = (found["hexnumber"] or "").upper()
    return " ".join(["zero X", *(numbers.cardinal(sign) if sign.isdigit() else sign for sign in digits)])


def _short_code(reading: Reading, found: Groups) -> None:
    """ "Text HELP to 72345"."""
    digits = found["shortcode"] or "0"
    is_code = re.search(r"\b(?:[Tt]ext|SMS)\s(?:\S+\s){1,3}to $", reading.before(60))
    reading.say(numbers.by_digit(digits) if is_code else numbers.cardinal(digits))


def _extension(reading: Reading, found: Groups) -> None:
    if reading.last_rule == "phone":
        reading.say("extension")
    else:
        reading.spell("X")


def _model(reading: Reading, found: Groups) -> None:
    reading.word(found["model"] or "")
    digits = found["modelnumber"] or "0000"
    words = f"{numbers.cardinal(digits[:2])} {numbers.two_digits(digits[2:])}"
    reading.say(numbers.plural(words) if found["modelmany"] else words)


def _standard(reading: Reading, found: Groups) -> None:
    """ "802.11ac" of wireless networks."""
    reading.say(f"eight oh two dot {numbers.cardinal(found['standard'] or '0')}")
    if found["amendment"]:
        reading.spell(found["amendment"])


def _aircraft(found: Groups) -> str:
    """ "737-800" is "seven thirty seven eight hundred"."""
    words = f"seven {numbers.two_digits((found['aircraft'] or '0') + '7')}"
    if found["aircraftmany"]:
        return numbers.plural(words)
    return f"{words} {numbers.cardinal(found['aircraftkind'])}" if found["aircraftkind"] else words


def _point_model(reading: Reading, found: Groups) -> None:
    """ "PM2.5", "Qwen2.5"."""
    reading.letters(found["pointletters"] or "")
    whole, rest = found["pointwhole"] or "0", found["pointrest"] or "0"
    reading.say(
        f"{numbers.cardinal(whole)} point {numbers.two_digits(rest) if len(rest) == 2 else numbers.cardinal(rest)}"
    )


def _letter_point(reading: Reading, found: Groups) -> None:
    reading.spell(found["letterpoint"] or "")
    for number in (found["letterrest"] or ".0")[1:].split("."):
        reading.say(f"point {numbers.cardinal(number)}")


def _series(found: Groups) -> str:
    """ "F-150s" are "F one fifties"."""
    words = _in_pairs(found["series"] or "0")
    return numbers.plural(words) if found["seriesmany"] else words


def _oh_between(first: str, last: str) -> Callable[[Groups], str]:
    return lambda found: f"{numbers.cardinal(found[first] or '0')} oh {numbers.cardinal(found[last] or '0')}"


def _door(found: Groups) -> str:
    return f"{_oh_between('door', 'doorlast')(found)} {found['doorletter'] or ''}"


def _dotted_date(reading: Reading, found: Groups) -> None:
    """ "24.12.24" is a date, "2.7.18" a version."""
    first, second, year = found["sfirst"] or "", found["ssecond"] or "", found["syear"] or ""
    short = len(year) == 2 and min(len(first), len(second)) == 1
    words = None if found["sep"] == "." and short else dates.slash_date(found)
    if words is None:
        between = " point " if found["sep"] == "." else " slash "
        words = between.join(numbers.cardinal(part or "0") for part in (first, second, year))
    reading.say(words)
    _pause(reading)


def _pause(reading: Reading) -> None:
    """Between a date and a time of day."""
    if re.match(r"\s?\d{1,2}:\d", reading.after(6)):
        reading.mark(",")


def _date(read: Callable[[Groups], str]) -> Reader:
    def reader(reading: Reading, found: Groups) -> None:
        reading.say(read(found))
        _pause(reading)

    return reader


def _short_dates(found: Groups) -> str:
    """ "on 3/4", and both of "from 12/24-12/26"."""
    words = dates.short_date(found)
    last = {"imonth": found["lastmonth"], "iday": found["lastday"], "iyear": None}
    return f"{words} to {dates.iso_date(last)}" if found["lastday"] else words


def _day_month(reading: Reading, found: Groups) -> None:
    words = dates.day_month(found)
    without = re.search(r"(?:Happy|happy|every|this|next|last)\s$", reading.before(6))
    reading.say(words.removeprefix("the ") if without else words)
    _pause(reading)


def _mixed(reading: Reading, found: Groups) -> None:
    """Letters and figures; the letters of a formula are spelled: "H2SO4"."""
    mixed = found["mixed"] or ""
    formula = _FORMULA.fullmatch(mixed) is not None
    model = _MODEL.fullmatch(mixed)
    if model and not formula:
        _short_model(reading, *model.groups())
        return
    for part in re.findall(r"[A-Za-z]+|\d+", mixed):
        if part[0].isdigit():
            reading.say(numbers.cardinal(part) if len(part) <= 2 else numbers.by_digit(part))
        elif formula:
            reading.spell(part)
        else:
            reading.letters(part)


def _in_pairs(digits: str) -> str:
    """Up to three digits as in a name: "one fifty", "one hundred"."""
    if len(digits) < 3 or digits.endswith("00"):
        return numbers.cardinal(digits)
    return f"{numbers.cardinal(digits[0])} {numbers.two_digits(digits[1:])}"


def _short_model(reading: Reading, letters: str, digits: str, rest: str) -> None:
    """ "H100s" are "H one hundreds", an "A320" is an "A three twenty"; "BA249" is a flight."""
    reading.letters(letters)
    words = _in_pairs(digits)
    reading.say(numbers.plural(words) if rest == "s" else words)
    if rest not in ("", "s"):
        reading.letters(rest)


def _fiscal(found: Groups) -> str:
    return f"{' '.join(found['fiscal'] or '')} {numbers.year(found['fiscalyear'] or '')}"


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("hex", HEX, _hex),
    ("standard", STANDARD, _standard),
    ("aircraft", AIRCRAFT, said(_aircraft)),
    ("point_model", POINT_MODEL, _point_model),
    ("letter_point", LETTER_POINT, _letter_point),
    ("series", SERIES, said(_series)),
    ("door", DOOR, said(_door)),
    ("status", STATUS, said(_oh_between("status", "statuslast"))),
    ("area_code", AREA_CODE, said(lambda found: numbers.by_digit(found["areacode"] or ""))),
    ("groups", SPELLED_NUMBER, said(_groups)),
    ("code", CODE, said(lambda found: numbers.by_digit(found["codedigits"] or ""))),
    ("order_number", ORDER, said(lambda found: "number")),
    ("number_tag", NUMBER_TAG, said(lambda found: f"hashtag {numbers.cardinal(found['numbertag'] or '0')}")),
    ("fiscal", FISCAL, said(_fiscal)),
    ("model", MODEL, _model),
    ("hex_number", HEX_NUMBER, said(_hex_number)),
    ("serial", SERIAL, said(lambda found: numbers.by_digit(found["serial"] or ""))),
    ("short_code", SHORT_CODE, _short_code),
    ("phone_extension", EXTENSION, _extension),
)
REPLACED: dict[str, tuple[str, Reader]] = {
    "slash_date": (dates.SLASH_DATE, _dotted_date),
    "iso_date": (dates.ISO_DATE, _date(dates.iso_date)),
    "month_day": (dates.MONTH_DAY, _date(dates.month_day)),
    "day_month": (dates.DAY_MONTH, _day_month),
    "mixed": (
        r"(?<![A-Za-z0-9])(?P<mixed>[A-Za-z]{1,40}\d[A-Za-z0-9]{0,40}|\d{1,40}[A-Za-z][A-Za-z0-9]{0,40})",
        _mixed,
    ),
    "short_date": (SHORT_DATES, said(_short_dates)),
    "phone": (PHONE, said(addresses.phone)),
    "time": (TIME, said(dates.time)),
}
