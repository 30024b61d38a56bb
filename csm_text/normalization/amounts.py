"""Money, measures, fractions, temperatures: rules of the normalizer.

Each rule is a pattern, and a function that returns the words of a match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from csm_text.normalization.found import Groups
from csm_text.normalization.numbers import cardinal, decimal, ordinal

NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,6}|\d{1,40})"

_CURRENCIES = {  # sign: one, many, one hundredth, hundredths
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "USD": ("U S dollar", "U S dollars", "cent", "cents"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "GBP": ("pound", "pounds", "penny", "pence"),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "JPY": ("yen", "yen", "", ""),
}
SCALES = {
    "k": "thousand",
    "m": "million",
    "mn": "million",
    "mm": "million",
    "b": "billion",
    "bn": "billion",
    "t": "trillion",
    "tn": "trillion",
    "K": "thousand",
    "M": "million",
    "MM": "million",
    "B": "billion",
    "BN": "billion",
    "T": "trillion",
    **{word: word for word in ("hundred", "thousand", "million", "billion", "trillion")},
}
UNIT_WORDS: dict[str, tuple[str, str]] = {  # sign: one, many
    "km": ("kilometer", "kilometers"),
    "m": ("meter", "meters"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "nm": ("nanometer", "nanometers"),
    "mi": ("mile", "miles"),
    "ft": ("foot", "feet"),
    "yd": ("yard", "yards"),
    "in.": ("inch", "inches"),
    "sq ft": ("square foot", "square feet"),
    "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "l": ("liter", "liters"),
    "L": ("liter", "liters"),
    "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"),
    "cl": ("centiliter", "centiliters"),
    "gal": ("gallon", "gallons"),
    "tbsp": ("tablespoon", "tablespoons"),
    "tsp": ("teaspoon", "teaspoons"),
    "mph": ("mile per hour", "miles per hour"),
    "kph": ("kilometer per hour", "kilometers per hour"),
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "m/s": ("meter per second", "meters per second"),
    "ms": ("millisecond", "milliseconds"),
    "s": ("second", "seconds"),
    "sec": ("second", "seconds"),
    "min": ("minute", "minutes"),
    "h": ("hour", "hours"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "yr": ("year", "years"),
    "yrs": ("year", "years"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "W": ("watt", "watts"),
    "kW": ("kilowatt", "kilowatts"),
    "MW": ("megawatt", "megawatts"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "V": ("volt", "volts"),
    "mAh": ("milliamp hour", "milliamp hours"),
    "dB": ("decibel", "decibels"),
    "KB": ("kilobyte", "kilobytes"),
    "kB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "px": ("pixel", "pixels"),
    "cal": ("calorie", "calories"),
    "kcal": ("kilocalorie", "kilocalories"),
    "ha": ("hectare", "hectares"),
    "rpm": ("revolution per minute", "revolutions per minute"),
}
_POWERS = {"": "", "^2": "square ", "^3": "cubic "}
_PER = {
    "h": "hour",
    "hr": "hour",
    "hour": "hour",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "day": "day",
    "week": "week",
    "wk": "week",
    "mo": "month",
    "month": "month",
    "yr": "year",
    "year": "year",
    "kg": "kilogram",
    "lb": "pound",
    "l": "liter",
    "km": "kilometer",
    "person": "person",
}
_HALVES = {"2": ("half", "halves"), "4": ("quarter", "quarters")}
_AS_FRACTIONS = frozenset("2 3 4 5 6 7 8 9 12 16 32".split())


def any_of(units: Mapping[str, tuple[str, str]]) -> str:
    """A pattern of the units' signs, the longest first."""
    return "|".join(re.escape(sign) for sign in sorted(units, key=len, reverse=True))


_signs = "|".join(re.escape(sign) for sign in _CURRENCIES)
_scales = "|".join(sorted(SCALES, key=len, reverse=True))
UNITS = any_of(UNIT_WORDS)
ANY_PER = "|".join(sorted(_PER, key=len, reverse=True))

MONEY = (
    rf"(?<![A-Za-z0-9])(?:(?P<msign>-)?(?:US|A|C)?(?P<money1>[$€£¥₹])\s?(?P<mwhole1>{NUMBER}|(?=\.\d))(?:\.(?P<mcents1>\d{{1,6}}))?"
    rf"(?:\s?(?P<mscale1>{_scales})(?![A-Za-z]))?(?:/(?P<mper1>{ANY_PER})(?![A-Za-z]))?)"
)
MONEY_AFTER = (
    rf"(?<![A-Za-z0-9.])(?P<mwhole2>{NUMBER})(?:[.,](?P<mcents2>\d{{2}}))?(?:\s?(?P<mscale2>{_scales}))?"
    rf"\s?(?P<money2>{_signs})(?![A-Za-z0-9])"
)
MULTIPLE = rf"(?<![A-Za-z0-9.])(?P<mulwhole>{NUMBER})(?:\.(?P<mulpart>\d{{1,20}}))?x(?![A-Za-z0-9])"
SCALED = rf"(?<![A-Za-z0-9.])(?P<scaledwhole>{NUMBER})\.(?P<scaledpart>\d{{1,6}})(?P<scale>[MBK]|bn)(?![A-Za-z0-9])"
SPACED = r"(?<![\w.,+])(?P<spaced>(?:\d{1,2}|\d{3}(?= 000))(?: \d{3}){2,4})(?! ?[\d-]|[A-Za-z])"
CENTS = r"(?P<cents>\d{1,3})\s?¢"
MEASURE = (
    rf"(?<![A-Za-z0-9.])(?P<usign>-)?(?P<uwhole>{NUMBER})(?:\.(?P<upart>\d{{1,20}}))?(?P<ugap>[\s-]?)(?P<unit>{UNITS})(?:(?<=[a-z])\.(?=\s+[a-z0-9(]|\s*[,;:?!)]))?"
    rf"(?P<upower>(?:\^[23])?)(?![A-Za-z0-9^]|/(?!(?:{ANY_PER})(?![A-Za-z])))(?:/(?P<uper>{ANY_PER})(?![A-Za-z]))?"
)
TEMPERATURE = (
    rf"(?<![A-Za-z0-9.])(?P<tsign>-)?(?P<twhole>{NUMBER})(?:\.(?P<tpart>\d{{1,20}}))?\s?°\s?"
    r"(?P<tscale>[CFK](?![A-Za-z]))?"
)
PERCENT = rf"(?<![A-Za-z0-9.%])(?P<psign>[-+])?(?P<pwhole>{NUMBER})(?:\.(?P<ppart>\d{{1,20}}))?\s?%"
FEET = r"(?<![A-Za-z0-9.])(?P<feet>\d{1,3})'(?:\s?(?P<inches>\d{1,2})(?:\"|''))?(?![A-Za-z0-9])"
FRACTION = r"(?<![\dA-Za-z/.])(?:(?P<fwhole>\d{1,15})[ -])?(?P<fover>\d{1,4})/(?P<funder>\d{1,4})(?![\d/]|\.\d)"


def money(found: Groups) -> str:
    which = "1" if found["money1"] else "2"
    sign, whole = found["money" + which] or "", found["mwhole" + which] or "0"
    cents, scale = found["mcents" + which], found["mscale" + which]
    one, many, hundredth, hundredths = _CURRENCIES[sign]
    words = "minus " if found["msign"] and which == "1" else ""
    if scale:
        words += f"{decimal(whole, cents)} {SCALES[scale]} {many}"
    elif cents is None or not hundredth or len(cents) > 2 or int(cents) == 0:
        amount = decimal(whole, cents if cents and int(cents) else None)
        words += f"{amount} {one if whole == '1' and not cents else many}"
    else:
        count = str(int(cents.ljust(2, "0")))
        small = f"{cardinal(count)} {hundredth if count == '1' else hundredths}"
        large = f"{cardinal(whole)} {one if whole == '1' else many}"
        words += small if int(whole.replace(",", "")) == 0 else f"{large} and {small}"
    per = found["mper1"] if which == "1" else None
    return f"{words} per {_PER[per]}" if per else words


def cents(found: Groups) -> str:
    count = found["cents"] or "0"
    return f"{cardinal(count)} {'cent' if count == '1' else 'cents'}"


def measure(
    found: Groups,
    units: Mapping[str, tuple[str, str]] = UNIT_WORDS,
    per: Mapping[str, str] = _PER,
    *,
    attributive: bool = False,
) -> str:
    """A measure in words: "5 kg", "60 km/h".

    units: the singular and the plural of each sign. per: the words of what may follow a slash. attributive: whether it
    precedes a noun, as in "a 5 kg bag", and has no plural; after a hyphen it always does.
    """
    whole, part = found["uwhole"] or "0", found["upart"]
    one, many = units[found["unit"] or ""]
    attributive = attributive or found["ugap"] == "-"
    words = f"{'minus ' if found['usign'] else ''}{decimal(whole, part)} {_POWERS[found['upower'] or '']}"
    words += one if (whole == "1" and not part) or attributive else many
    return f"{words} per {per[found['uper'] or '']}" if found["uper"] else words


def temperature(found: Groups) -> str:
    whole, part = found["twhole"] or "0", found["tpart"]
    words = f"{'minus ' if found['tsign'] else ''}{decimal(whole, part)} "
    words += "degree" if whole == "1" and not part else "degrees"
    scale = {"C": " Celsius", "F": " Fahrenheit", "K": " Kelvin"}
    return words + (scale[found["tscale"]] if found["tscale"] else "")


def percent(found: Groups) -> str:
    sign = {"-": "minus ", "+": "plus ", None: ""}[found["psign"]]
    return f"{sign}{decimal(found['pwhole'] or '0', found['ppart'])} percent"


def multiple(found: Groups) -> str:
    """ "2x" is "two times"."""
    return f"{decimal(found['mulwhole'] or '0', found['mulpart'])} times"


def scaled(found: Groups) -> str:
    """ "3.5M" is "three point five million"."""
    return f"{decimal(found['scaledwhole'] or '0', found['scaledpart'])} {SCALES[found['scale'] or '']}"


def feet(found: Groups) -> str:
    count, inches = found["feet"] or "0", found["inches"]
    words = f"{cardinal(count)} {'foot' if count == '1' or inches else 'feet'}"
    return f"{words} {cardinal(inches)}" if inches else words


def fraction(found: Groups) -> str:
    whole, over, under = found["fwhole"], found["fover"] or "0", found["funder"] or "0"
    if whole is None and ((over, under) in {("24", "7"), ("9", "11")} or (over == under and len(over) > 1)):
        return f"{cardinal(over)} {cardinal(under)}"
    if under not in _AS_FRACTIONS or int(over) == 0 or over[0] == "0" or int(over) > 99:
        is_score = under in ("10", "100") and int(over) <= int(under)
        words = f"{cardinal(over)} {'out of' if is_score else 'over'} {cardinal(under)}"
    else:
        one, many = _HALVES.get(under, (ordinal(under), ordinal(under) + "s"))
        words = f"{'a' if over == '1' and whole else cardinal(over)} {one if over == '1' else many}"
    return f"{cardinal(whole)} and {words}" if whole else words
