"""Digits that name something: codes, identifiers, rooms, phone numbers; dates and hours."""

from __future__ import annotations

import re
from collections.abc import Callable

from csm_text.normalization import addresses, dates, numbers
from csm_text.normalization.derived import derived
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, as_words, said

_CODE_WORDS = (  # the digits after them are said one by one
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
SHORT_CODE = r"(?<=\sto )(?P<shortcode>\d{4,6})(?![\w%]|[.,]\d)"
SERIAL = r"(?<=[A-Z]-)(?P<serial>\d{5,9})(?!\w|[.,-]\d)"
EXTENSION = r"(?=[xX])(?<=\d{4}\s)[xX](?P<phoneextension>)(?=\d{1,5}(?!\w))"
NUMBER_TAG = r"(?<![A-Za-z0-9#&])#(?P<numbertag>\d{1,4})(?=[A-Z][a-z])"
ORDER = r"(?<![A-Za-z0-9#&])#(?P<ordernumber>)(?=[A-Z]{1,5}-?\d)"
FISCAL = r"(?<![A-Za-z0-9])(?P<fiscal>[FC]Y)(?P<fiscalyear>(?:19|20)\d\d)(?![A-Za-z0-9])"
# Words before a room or an error of three digits with a zero in the middle: "room 204" is "two oh four".
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
_FREE = r"1[38]00[ -]\d{3}[ -]\d{3,4}(?!\d)"  # 1800 123 456
_SHORT_PHONE = (  # 555 0100
    r"(?:(?<=[Cc]all )|(?<=[Tt]ext )|(?<=ax )|(?<=one )|(?<=el: )|(?<=ax: )|(?<=[Nn]o\. )|(?<=Ph: )|(?<=ll: )"
    r"|(?<=one: ))\d{3}[ .]\d{4}(?!\d)"
)
PHONE = derived(
    addresses.PHONE,
    (r"(?![\d.,:])", r"(?!\d|[.,:]\d)"),
    (r"\(\d{3}\)[ -]?\d{3}[ .-]\d{4}", r"\(\d{3}\)[ -]?\d{3}[ .-]?\d{4}"),
    (r"|\d{3}-\d{4}(?![\d-])", rf"|{_FREE}|{_SHORT_PHONE}|\d{{3}}-\d{{4}}(?![\d-])"),
    (r"(?P<phone>\+", r"(?P<phone>\+(?=(?:[ .()-]{0,2}\d){7,15}(?![\d%]))"),
    (r"0\d{1,4}[ /-]\d{3,8}(?:[ -]\d{2,6}){0,2}", r"(?:0\d{1,4}[ /-]|\(0\d{1,4}\)\s?)\d{3,8}(?:[ -]\d{2,6}){0,2}"),
)
HANDLE = r"(?<![A-Za-z0-9@])@(?P<handle>[A-Za-z_]\w{0,63}(?:\.[a-z_]\w{0,40})?)"
SHORT_DATES = (
    dates.SHORT_DATE + r"(?:\s?[-–]\s?(?P<lastmonth>0?[1-9]|1[0-2])/(?P<lastday>0?[1-9]|[12]\d|3[01])(?![\w/]))?"
)
TIME = derived(dates.TIME, (r"(?<![\w:.])", r"(?:(?<![\w:.])|(?<=\dT))"))

_hour, _minute = r"(?:1[0-2]|0?[1-9])", r"(?::[0-5]\d)"
HOUR_RANGE = (
    rf"(?<![\w:.,$£€-])(?P<hourfrom>{_hour})(?P<hourminute>{_minute})?\s?[-–]\s?"
    rf"(?={_hour}{_minute}?\s?[aApP]\.?\s?[mM](?![A-Za-z]))"
)
SHORT_HOURS = (
    rf"(?<![\w:.,$£€-])(?P<shorthour>{_hour})(?P<shortminute>{_minute})?(?P<shorthalf>[ap])\s?[-–]\s?"
    rf"(?P<lasthour>{_hour})(?P<lastminute>{_minute})?(?P<lasthalf>[ap])(?![A-Za-z0-9])"
)
LASTING = (
    r"(?:(?<=\bin )|(?<=ime of )|(?<=ime: )|(?<=ation: )|(?<=ength: )|(?<=\bat ))"
    r"(?P<lastingminutes>2[5-9]|[3-5]\d):(?P<lastingseconds>[0-5]\d)(?![\w:])"
)
BEFORE_TIME = rf"(?<![\w:.,$£€/-])(?P<beforetime>{_hour})\s?[-–]\s?(?={_hour}{_minute}(?![\d:]))"
VERSE = (
    r"(?<![A-Za-z])(?P<book>Gen(?:esis)?|Exod(?:us)?|Ps(?:alms?)?|Prov(?:erbs)?|Isa(?:iah)?|Matt(?:hew)?|Mark|Luke|John|Acts"
    r"|Rom(?:ans)?|Cor(?:inthians)?|Eph(?:esians)?|Phil(?:ippians)?|Heb(?:rews)?|James|Rev(?:elation)?|Surah|Quran)\.?\s"
    r"(?P<chapter>\d{1,3}):(?P<verse>\d{1,3})(?:\s?[-–]\s?(?P<verseto>\d{1,3}))?(?![\w:]|\s?[aApP]\.?[mM])"
)
CLOCK = (
    r"(?<![\w:.])(?P<clockhour>1[0-2]|0?[1-9]):(?P<clockminute>[0-5]\d)(?P<clockhalf>[apAP])"
    r"(?![A-Za-z0-9]|\.?\s?[mM]\b)"
)
MILITARY = r"(?<![\w.,:-])0(?P<armyhour>\d)(?P<armyminute>[0-5]\d)(?:\s?h(?:ou)?rs?|h)(?![A-Za-z])"
FROM_NOON = r"(?:(?<=\b[Nn]oon)|(?<=[Mm]idnight))\s?[-–]\s?(?P<fromnoon>)(?=\d)"
OLD_YEAR = r"(?<![\w.,$€£-])(?P<oldyear>1[01]\d\d)(?=\s(?:CE|AD|BC|BCE)(?![A-Za-z]))"
ERA_YEAR = derived(dates.ERA_YEAR, (r"(?![\w:%,]|\.\d)", r"(?![\w:%]|[.,]\d|\s?[-–]\s?\d)"))


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
    reading.say(numbers.by_digit(digits) if is_code else numbers.year(digits))


def _extension(reading: Reading, found: Groups) -> None:
    if reading.last_rule == "phone":
        reading.say("extension")
    else:
        reading.spell("X")


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
    """Adds a pause between a date and a time of day."""
    if re.match(r"\s?\d{1,2}:\d", reading.after(6)):
        reading.mark(",")


def _date(words: Callable[[Groups], str]) -> Reader:
    """A reader that says the date that the function makes of the match."""

    def read(reading: Reading, found: Groups) -> None:
        reading.say(words(found))
        _pause(reading)

    return read


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


def _hour_range(found: Groups) -> str:
    minute = (found["hourminute"] or "").lstrip(":")
    words = numbers.cardinal(str(int(found["hourfrom"] or 0)))
    return f"{words} {numbers.two_digits(minute)} to" if minute not in ("", "00") else f"{words} to"


def _short_hours(found: Groups) -> str:
    """ "10a-2p" is "ten A M to two P M"."""
    return " to ".join(
        dates.time(
            {
                "hour": found[f"{which}hour"],
                "minute": (found[f"{which}minute"] or ":00")[1:],
                "second": None,
                "half1": found[f"{which}half"],
            }
        )
        for which in ("short", "last")
    )


_BOOKS = {"Gen": "Genesis", "Exod": "Exodus", "Ps": "Psalm", "Prov": "Proverbs", "Isa": "Isaiah", "Matt": "Matthew"}
_BOOKS |= {"Rom": "Romans", "Cor": "Corinthians", "Eph": "Ephesians", "Phil": "Philippians", "Heb": "Hebrews"}
_BOOKS |= {"Rev": "Revelation"}


def _lasting(found: Groups) -> str:
    """ "10 km in 48:30": minutes and seconds."""
    return f"{numbers.cardinal(found['lastingminutes'] or '0')} {numbers.two_digits(found['lastingseconds'] or '00')}"


def _verse(found: Groups) -> str:
    """ "John 3:16-18" is "John three sixteen to eighteen"."""
    book, chapter, verse = found["book"] or "", found["chapter"] or "0", found["verse"] or "0"
    words = f"{_BOOKS.get(book, book)} {numbers.cardinal(chapter)} {numbers.cardinal(verse)}"
    return f"{words} to {numbers.cardinal(found['verseto'])}" if found["verseto"] else words


def _clock(found: Groups) -> str:
    """ "10:15a", which lacks its M."""
    hour, minute, half = (found[f"clock{part}"] for part in ("hour", "minute", "half"))
    return dates.time({"hour": hour, "minute": minute, "second": None, "half1": half})


def _military(found: Groups) -> str:
    minute = found["armyminute"] or "00"
    words = f"oh {numbers.cardinal(found['armyhour'] or '0')}"
    return f"{words} {'hundred' if minute == '00' else numbers.two_digits(minute)} hours"


def _era_year(found: Groups) -> str:
    digits = found["erayear"] or ""
    return f"{found['era']} {numbers.cardinal(digits)}" if digits < "1010" else dates.era_year(found)


def _handle(reading: Reading, found: Groups) -> None:
    reading.say("at")
    as_words("handle")(reading, found)


def _fiscal(found: Groups) -> str:
    return f"{' '.join(found['fiscal'] or '')} {numbers.year(found['fiscalyear'] or '')}"


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("hex", HEX, _hex),
    ("door", DOOR, said(_door)),
    ("status", STATUS, said(_oh_between("status", "statuslast"))),
    ("area_code", AREA_CODE, said(lambda found: numbers.by_digit(found["areacode"] or ""))),
    ("short_hours", SHORT_HOURS, said(_short_hours)),
    ("lasting", LASTING, said(_lasting)),
    ("verse", VERSE, said(_verse)),
    ("before_time", BEFORE_TIME, said(lambda found: f"{numbers.cardinal(found['beforetime'] or '0')} to")),
    ("clock", CLOCK, said(_clock)),
    ("military", MILITARY, said(_military)),
    ("from_noon", FROM_NOON, said(lambda found: "to")),
    ("old_year", OLD_YEAR, said(lambda found: _era_year({"era": "", "erayear": found["oldyear"]}))),
    ("hour_range", HOUR_RANGE, said(_hour_range)),
    ("groups", SPELLED_NUMBER, said(_groups)),
    ("code", CODE, said(lambda found: numbers.by_digit(found["codedigits"] or ""))),
    ("order_number", ORDER, said(lambda found: "number")),
    ("number_tag", NUMBER_TAG, said(lambda found: f"hashtag {numbers.cardinal(found['numbertag'] or '0')}")),
    ("fiscal", FISCAL, said(_fiscal)),
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
    "era_year": (ERA_YEAR, said(_era_year)),
    "short_date": (SHORT_DATES, said(_short_dates)),
    "handle": (HANDLE, _handle),
    "phone": (PHONE, said(addresses.phone)),
    "time": (TIME, said(dates.time)),
}
