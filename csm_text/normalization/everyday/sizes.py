"""Sizes and measures: "12' x 15'", `8.5" x 11"`, "60-70°F", "1h 30m", "7 days/week", and the units of units.py."""

from __future__ import annotations

import re

from csm_text.normalization import amounts, dates, numbers
from csm_text.normalization.derived import derived
from csm_text.normalization.everyday.units import ALONE, ANY_UNIT, PER, UNITS
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

_SCALES = {"C": "Celsius", "F": "Fahrenheit"}
_N = amounts.NUMBER
_per = "|".join(re.escape(unit) for unit in sorted(PER, key=len, reverse=True))
_AMOUNT = r"[$€£]?\d"
_no_more = "(?![A-Za-z0-9'/^-])"
_no_street = (
    r"(?!\d{1,6}\s[NSEW]\.?\s(?:\d{1,3}(?:st|nd|rd|th)|[A-Z][a-z]{1,15}\s(?:St|Ave|Rd|Blvd|Dr|Ln|Way))(?![a-z]))"
)
_free = "(?<![A-Za-z0-9.])"
_side = r"(?:\d{1,6}(?:\.\d{1,4})?(?:[ -]\d/\d{1,2})?|\d/\d{1,2})"
_side_unit = r"(?:'(?:\s?\d{1,2}\")?|\"|\s?(?:feet|ft|inches|inch|in|meters|yd|cm|mm|km|px|m)\.?(?![A-Za-z]))"
_SIDE = re.compile(rf"(?P<whole>{_side})(?P<unit>{_side_unit})?")
_SIZED = re.compile(
    rf"{_side}(?:{_side_unit}|\s?[x×X]\s?\d|[\s-](?:inch|inches|feet|foot|meters?|pixels?|pan|sheets?|photos?|print)\b)"
)
_AMOUNT_RULES = frozenset("measure temperature percent money hundreds inches degrees part_of_unit".split())
# Before these nouns a measure or an amount has no plural: "two $5 bills", "a 14.5 oz can", "a 45° angle".
_NOUNS = (
    "bill|note|banknote|coin|stamp|ticket|voucher|gift|fine|fee|fare|deposit|budget|prize|reward|contract|deal|discount|grant"
    "|investment|donation|loan|lawsuit|settlement|bonus|limit|minimum|jar|bottle|jug|package|bag|box|carton|container|tin"
    "|bar|tub|pack|packet|tablet|capsule|pill|dose|angle|rotation|view|weather|heat|battery|bulb|charger|outlet|SSD"
    "|delay|hike|cut|font|lead|range|shot"
    "|shooter|service|hotline|window|shift|trial|warranty|workout|nap|gust|wind|zone"
    "|sprint|relay|race|dash|commute|radius|cans|can(?= of| [a-z]+s[ ,.]|[,.;)])"
)
_NOUN = re.compile(rf"\)?[\s-](?:gift )?(?:{_NOUNS})s?(?![A-Za-z])")

# Words that may follow inches and are no noun: `27" wide` is "inches", `27" monitor` is "inch".
_NO_NOUN = "wide|long|tall|deep|thick|high|across|in|of|by|and|or|to|from|is|are|was|for|on|at|with|but|x|today|tonight"

SIZE = (
    rf"(?:(?<![\w.,/$])|(?<=\dx))(?!0x|[\d.]{{1,9}}\s?[x×]\s?10\^)(?P<size>{_side}{_side_unit}?)(?P<sizecross>\s?[x×]\s?|\sX\s)"
    rf"(?={_side}{_side_unit}?(?![A-Za-wyz\d]))"
)
INCHES = rf"(?:(?<=[\s(])|^|(?<=[\d\"]x)|(?<=\d[-–]))(?P<inches_of>{_side})\"(?![\w\"])"
INCH_RANGE = r"(?<![\w.,/$-])(?P<inchlow>\d{1,3})[-–](?=\d{1,3}\"(?!\w))"
INCH_PART = r"(?<![\w.,/])(?P<inchpart>(?:\d{1,3}[ -])?\d/\d{1,2})\s?in(?:\.(?=\s[a-z]|[,;:]))?(?![\w'])"
INCHES_BESIDE = (
    rf"(?<![\w.,])(?<!\d/)(?:(?:(?<=by\s)|(?<=x\s))(?=\S{{1,12}}\s?in\.?\s*(?:[,;:)]|$))|(?=\S{{1,12}}\sin\s(?:by\s\d|x\s\d|(?:wide|tall|long|deep|thick|high)\b)))"
    rf"(?P<beside>{_side})\s?in\b\.?"
)
HEIGHT = (
    r"(?<![\w.,])(?P<tallfeet>\d{1,2})\s?(?:ft|feet)\.?,?\s?(?P<tallinches>\d{1,2}(?:\.\d)?)\s?(?:in(?:ches)?\b|\")"
    r"(?:\.(?=\s[a-z]|[,;:]))?"
)
FEET = (
    r"(?:(?<![A-Za-z0-9.'+])|(?<=['\d]x))(?P<feet>\d{1,3}(?:,\d{3})?)'"
    r"(?:\s?(?P<inches>\d{1,2})(?:\"|'')|(?<=[3-8]')(?P<bareinches>1[01]|\d)(?!['\d]))?(?![A-Za-z0-9])"
)
MEASURE = derived(
    amounts.MEASURE,
    (amounts.UNITS, ANY_UNIT),
    (_free, rf"(?:{_free}(?<![^A-Za-z][A-Z]-)(?<!^[A-Z]-){_no_street}|(?<=\dx))"),
    ("/(?!(?:", rf"/(?!{_AMOUNT}|(?:"),  # "500g/1lb"
    (amounts.ANY_PER, _per),
)
TEMPERATURE = derived(amounts.TEMPERATURE, (r"\s?°\s?", r"\s?°(?:\s?(?=[CFK](?![A-Za-z])))?"))
EITHER = rf"(?:(?<=[A-Za-z°%.\"'])/(?={_AMOUNT}|gas\s\d)|(?<=\d)/(?=[$€£]))(?P<eitheramount>)"
PER_HUNDRED = r"(?<=[A-Za-z])/(?P<perhundred>)(?=100\s?(?:km|g|ml|mL|m|miles|people)\b)"
AREA = r"(?=[kcmf])(?:(?<=\s)|(?<=\()|^)(?P<area>km|cm|mm|ft)\^(?P<areapower>[23])(?!\d)"
EVEN = r"(?<![\w.,$€£-])(?P<even>[2-9]0)[-–](?P=even)(?![\w%°/-]|[.,]\d|\s?[ap]\.?m)"
DEGREE_RANGE = rf"(?<![\w.,-])(?P<degreelow>-?{_N})(?:\.(?P<degreepart>\d))?\s?[-–]\s?(?=-?{_N}(?:\.\d)?\s?°)"
DEGREE_SCALE = r"(?<=degrees\s)(?P<degreescale>[CF])(?![\w'])"
DEGREES = (
    r"(?<![\w.,$])(?P<degreewhole>\d{1,3})"
    r"(?:\.(?P<degreetenth>\d)\s?|(?:(?<=to \d\d\d)|(?<=at \d\d\d)|(?<=is \d\d))\s"
    r"|(?:(?<=igh \d\d)|(?<=ow \d\d)|(?<=near \d\d)|(?<=round \d\d)|(?<=ighs of \d\d)|(?<=ows of \d\d)))"
    r"(?P<degreesof>[CF])"
    r"(?=\s*[.,;:!?)]|\s*$|\s(?:and|to|in|on|at|or|of|for|today)\b)"
)
TIMES_RANGE = rf"(?<![\w.,-])(?P<timeslow>{_N})\s?[-–]\s?(?={_N}x(?![A-Za-z0-9]))"
COUNTED = rf"(?<=\d\s)(?P<counted>[A-Za-z]{{2,20}})/(?P<countedper>{_per})(?![A-Za-z])"
TIMES_PER = rf"(?:(?<=\dx)|(?<=[\d%])|(?<=\d[kKM]))/(?P<timesper>{_per})(?![A-Za-z])(?:\.(?=\s[a-z]))?"
UNIT_ALONE = rf"(?:(?<=\s)|(?<=\()|^)(?P<per>per\s)?(?P<alone>{'|'.join(ALONE)})(?![A-Za-z0-9'/-])"
AGE = r"(?<=\d)\s?y(?:/o|\.o\.)(?![A-Za-z])"
SPOONS = (
    rf"(?<![\w.,$€£/-])(?P<spooned>{_side})\s?(?P<spoon>[ctT])"
    r"(?=\s(?!(?:shirt|cell|truck|crane|test)s?\b)[a-z]{3,15}\b)"
)
TIMES_MONEY = r"(?<=\d\s)[x×](?P<timesmoney>)(?=\s[$€£]\d)"
PER_UNIT = rf"(?<![A-Za-z0-9'])per\s(?P<perunit>(?:{ANY_UNIT})(?<![^A-Za-z][A-Za-z])(?<!\.)){_no_more}"
BITS = r"(?<![\w.,])(?P<bits>\d{1,3}(?:,\d{3}){1,3}|\d{4,9})\s?bps(?![A-Za-z0-9])"
SCALED_UNIT = rf"(?:(?<=illion\s)|(?<=ousand\s))(?P<scaledunit>(?:{ANY_UNIT})(?<![^A-Za-z][A-Za-z])(?<!\.)){_no_more}"
MILLIONS = r"(?<![\w.,$-])(?!3M)(?P<millions>\d{1,4})M(?=\s(?:people|[a-z]{3,15}s)\b)"
SECONDS = (
    r"(?<![\w.,])(?P<secondsof>[1-9]0)s(?:(?<=for \d0s)|(?<=every \d0s)|(?<=after \d0s)|(?<=within \d0s)|(?<== \d0s)"
    r"|(?=\s(?:timeout|delay|interval|limit|pause|wait)\b))(?![\w'])"
)
CROWD = r"(?:(?<=[^A-Za-z][A-Z]-)|(?<=under-)|(?<=over-)|(?<=under )|(?<=over ))(?P<crowd>\d\d)s(?![A-Za-z0-9])"
DURATION = (
    r"(?<![\w.,:])(?:(?P<days>\d{1,3})d\s?)?(?P<hours>\d{1,3})h\s?(?P<minutes>[0-5]?\d)m(?:in)?"
    r"(?:\s?(?P<seconds>[0-5]?\d)s)?(?![A-Za-z0-9])"
)
SHORT_DURATION = (
    r"(?<![\w.,:])(?:(?P<shortdays>\d{1,3})d\s?(?P<shorthours>\d{1,2})h"
    r"|(?P<shortminutes>\d{1,3})m\s?(?P<shortseconds>[0-5]?\d)s)(?![A-Za-z0-9])"
)
HALF_OF_DAY = (
    r"(?<![\w:.])(?P<pointhour>1[0-2]|0?[1-9])\.(?P<pointminute>[0-5]\d)\s?(?P<pointhalf>[aApP])\.?\s?[mM](?![A-Za-z])"
)
TENTHS = r"(?<=:\d\d)\.(?P<tenths>\d{1,9})(?!\w|\.\d)"


def singular(reading: Reading) -> bool:
    """Whether the measure at hand precedes a noun and so has no plural: any noun after an article, "a 5 kg bag", or one
    of _NOUNS, "two $5 bills"."""
    article = re.search(r"(?:^|\W)[Aa]n?\s$", reading.before(4)) and re.match(r"[\s-][A-Za-z]", reading.after(2))
    return bool(
        article or _NOUN.match(reading.after(20)) or re.match(r"-(?!(?:an?|per|to|or|and)-)[a-z]{2}", reading.after(5))
    )


def _spoken(number: str) -> str:
    """A whole number, a decimal, a fraction, or a number and a fraction."""
    if "/" in number:
        whole, _, part = number.replace("-", " ").rpartition(" ")
        over, _, under = part.partition("/")
        before = f"{_spoken(whole)} " if "." in whole else ""  # "9.8 3/4": two numbers
        return before + amounts.fraction({"fwhole": None if before else whole or None, "fover": over, "funder": under})
    whole, _, part = number.partition(".")
    return numbers.decimal(whole, part)


def _side_words(side: str) -> str:
    """One side of a size: "12'" is "twelve feet"."""
    parts = _SIDE.fullmatch(side)
    if parts is None:
        return ""
    sign, words = (parts["unit"] or "").strip().rstrip("."), _spoken(parts["whole"])
    if sign.startswith("'"):
        inches = re.search(r"\d+", sign)
        return f"{words} foot {numbers.cardinal(inches[0])}" if inches else f"{words} feet"
    if sign in ('"', "in"):
        return f"{words} inches"
    return f"{words} {UNITS[sign][1] if sign in UNITS else sign}"


def _size(reading: Reading, found: Groups) -> None:
    """ "by" between the sides of a thing, "times" in a product."""
    size, cross = found["size"] or "", found["sizecross"] or ""
    measured = not size[-1].isdigit() or reading.last_rule == "size" or cross.strip() == cross or "/" in size
    reading.say(_side_words(size))
    reading.say("by" if measured or _SIZED.match(reading.after(40)) else "times")


def _inches(reading: Reading, found: Groups) -> None:
    """Inches, unless the sign closes a quotation."""
    number = found["inches_of"] or "0"
    reading.say(_spoken(number))
    before, after = reading.before(200), reading.after(100)
    opened = before.rfind('"')
    opening = opened == 0 or (opened > 0 and not (before[opened - 1].isalnum() or before[opened - 1] in ".,!?)'"))
    if opening and not re.match(r'[^"]*[^\s"]"', after):
        return
    noun = re.match(rf"[\s-](?!(?:{_NO_NOUN})\b)[A-Za-z]", after)
    reading.say("inch" if noun or number == "1" or number[1:2] == "/" else "inches")


def _feet(found: Groups) -> str:
    return amounts.feet({"feet": found["feet"], "inches": found["inches"] or found["bareinches"]})


def _height(found: Groups) -> str:
    feet = found["tallfeet"] or "0"
    return f"{numbers.cardinal(feet)} {'foot' if feet == '1' else 'feet'} {_spoken(found['tallinches'] or '0')} inches"


def _measure(reading: Reading, found: Groups) -> None:
    reading.say(amounts.measure(found, UNITS, PER, attributive=singular(reading)))


def _temperature(reading: Reading, found: Groups) -> None:
    words = amounts.temperature(found)
    reading.say(words.replace("degrees", "degree") if singular(reading) else words)


def _area(found: Groups) -> str:
    return f"{'square' if found['areapower'] == '2' else 'cubic'} {UNITS[found['area'] or ''][1]}"


def _either(reading: Reading, found: Groups) -> None:
    """A pause between two amounts of the same thing, "375°F/190°C"; otherwise "slash"."""
    if reading.last_rule in _AMOUNT_RULES:
        reading.mark(",")
    elif reading.before(1).isalnum():
        reading.say("slash")


def _counted(reading: Reading, found: Groups) -> None:
    reading.word(found["counted"] or "")
    reading.say(f"per {PER[found['countedper'] or '']}")


def _lasting(**parts: str | None) -> str:
    """A duration: "one hour thirty minutes"."""
    counts = [(int(part), unit) for unit, part in parts.items() if part]
    return " ".join(f"{numbers.cardinal(str(n))} {unit if n == 1 else unit + 's'}" for n, unit in counts)


def _duration(found: Groups) -> str:
    return _lasting(day=found["days"], hour=found["hours"], minute=found["minutes"], second=found["seconds"])


def _short_duration(found: Groups) -> str:
    minutes, seconds = found["shortminutes"], found["shortseconds"]
    return _lasting(day=found["shortdays"], hour=found["shorthours"], minute=minutes, second=seconds)


def _half_of_day(found: Groups) -> str:
    hour, minute = found["pointhour"], found["pointminute"]
    return dates.time({"hour": hour, "minute": minute, "second": None, "half1": found["pointhalf"]})


def _alone(found: Groups) -> str:
    one, many = UNITS[found["alone"] or ""]
    return f"per {one}" if found["per"] else many


def _fraction(found: Groups) -> str:
    """Two shares of a hundred are read side by side: "80/20" is "eighty twenty"."""
    over, under = found["fover"] or "0", found["funder"] or "0"
    if found["fwhole"] is None and int(over) + int(under) == 100:
        return f"{numbers.cardinal(over)} {numbers.cardinal(under)}"
    return amounts.fraction(found)


def _degree_range(found: Groups) -> str:
    low, part = found["degreelow"] or "0", found["degreepart"]
    return f"{'minus ' if low.startswith('-') else ''}{numbers.decimal(low.lstrip('-'), part)} to"


def _degrees(found: Groups) -> str:
    number = numbers.decimal(found["degreewhole"] or "0", found["degreetenth"])
    return f"{number} degrees {_SCALES[found['degreesof'] or '']}"


def _spoons(found: Groups) -> str:
    """ "2 c flour", "1/2 t salt": cups, teaspoons, and tablespoons by a capital."""
    count, unit = found["spooned"] or "0", {"c": "cup", "t": "teaspoon", "T": "tablespoon"}[found["spoon"] or "c"]
    return f"{_spoken(count)} {unit if count == '1' or count[1:2] == '/' else unit + 's'}"


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("half_of_day", HALF_OF_DAY, said(_half_of_day)),
    ("size", SIZE, _size),
    ("inches", INCHES, _inches),
    ("inch_range", INCH_RANGE, said(lambda found: f"{_spoken(found['inchlow'] or '0')} to")),
    ("inch_part", INCH_PART, said(lambda found: f"{_spoken(found['inchpart'] or '0')} inch")),
    ("inches_beside", INCHES_BESIDE, said(lambda found: f"{_spoken(found['beside'] or '0')} inches")),
    ("height", HEIGHT, said(_height)),
    ("degree_range", DEGREE_RANGE, said(_degree_range)),
    ("degree_scale", DEGREE_SCALE, said(lambda found: _SCALES[found["degreescale"] or ""])),
    ("degrees", DEGREES, said(_degrees)),
    ("times_range", TIMES_RANGE, said(lambda found: f"{numbers.cardinal(found['timeslow'] or '0')} to")),
    ("counted", COUNTED, _counted),
    ("times_per", TIMES_PER, said(lambda found: f"per {PER[found['timesper'] or '']}")),
    ("area", AREA, said(_area)),
    ("unit_alone", UNIT_ALONE, said(_alone)),
    ("spoons", SPOONS, said(_spoons)),
    ("times_money", TIMES_MONEY, said(lambda found: "times")),
    ("per_unit", PER_UNIT, said(lambda found: f"per {UNITS[found['perunit'] or ''][0]}")),
    ("bits", BITS, said(lambda found: f"{numbers.cardinal(found['bits'] or '0')} bits per second")),
    ("age", AGE, said(lambda found: "year old")),
    ("scaled_unit", SCALED_UNIT, said(lambda found: UNITS[found["scaledunit"] or ""][1])),
    ("millions", MILLIONS, said(lambda found: f"{numbers.cardinal(found['millions'] or '0')} million")),
    ("seconds", SECONDS, said(lambda found: f"{numbers.cardinal(found['secondsof'] or '0')} seconds")),
    ("crowd", CROWD, said(lambda found: numbers.plural(numbers.cardinal(found["crowd"] or "0")))),
    ("duration", DURATION, said(_duration)),
    ("short_duration", SHORT_DURATION, said(_short_duration)),
    ("per_hundred", PER_HUNDRED, said(lambda found: "per")),
    ("either_amount", EITHER, _either),
    ("even", EVEN, said(lambda found: " ".join([numbers.cardinal(found["even"] or "0")] * 2))),
    ("tenths", TENTHS, said(lambda found: f"point {numbers.by_digit(found['tenths'] or '0')}")),
)
REPLACED: dict[str, tuple[str, Reader]] = {
    "multiple": (amounts.MULTIPLE, said(lambda found: amounts.multiple(found).replace("one times", "one time"))),
    "feet": (FEET, said(_feet)),
    "measure": (MEASURE, _measure),
    "temperature": (TEMPERATURE, _temperature),
    "fraction": (amounts.FRACTION, said(_fraction)),
}
