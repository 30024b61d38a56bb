"""Versions and models: "v1.4.0-rc.2", "Python 3.12", "2024.10.1", "737-800", "H100s", "802.11ac", "H2SO4"."""

from __future__ import annotations

import re

from csm_text.normalization import addresses, dates, numbers
from csm_text.normalization.everyday.shortened import SPOKEN
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

_PRODUCTS = (  # the digits after their point are one number: "three point twelve"
    "Python|Django|Flask|Pandas|NumPy|Node|Deno|Bun|Go|Golang|Rust|PHP|Ruby|Rails|Java|Kotlin|Swift|Scala|Julia|Perl|Elixir"
    "|PyTorch|TensorFlow|Keras|Kubernetes|Postgres|PostgreSQL|MySQL|Redis|Ubuntu|Debian|Fedora|Alpine|Kernel|Android|macOS"
    "|iOS|iPadOS|watchOS|CUDA|Blender|Unity|Minecraft|Angular|Gradle|Helm|PyCharm|IntelliJ|Version|Release|Patch"
    "|python|django|node|php|java|ruby|ubuntu|pytorch|kubernetes|postgres|cuda|version|release"
)
_ELEMENTS = "H|C|N|O|S|P|K|F|I|Na|Cl|Ca|Fe|Mg|Al|Si|Cu|Zn|Br|Li|Ag|Pb|Hg|Mn|Cr|Ni|Ti"
_FORMULA = re.compile(rf"(?:(?:{_ELEMENTS})\d{{0,2}}){{2,9}}|(?:{_ELEMENTS})\d{{1,2}}")
_MODEL = re.compile(r"([A-Z]{1,2})([1-9]\d0|\d{2}(?=s))(s|[a-z]{0,3}|[A-Z]?)")
NAMED = (
    rf"(?<![A-Za-z0-9'])(?P<namedrelease>{_PRODUCTS})\s(?P<namedmajor>\d{{1,4}})\.(?P<namedminor>\d\d?)"
    r"(?![\w%-]|[.,]\d|\s?[x×/]\s?\d|\s(?:miles?|mi|km|kg|hours|times|percent|seconds|million|billion)\b)"
)
AGAIN = (
    r"(?<![\w.,$€£-])(?P<againmajor>\d{1,2})\.(?P<againminor>[1-9]\d)"
    r"(?=\s?[,;:!?)+]|\.(?!\d)|\s*$|\s(?:and|or|to|is|was|are)\b)"
)
BEFORE_RELEASE = (
    r"(?<![\w.,])(?P<beforeprefix>[vV]?)(?P<before>\d{1,4}(?:\.\d{1,6}){1,4})[-.]?"
    r"(?P<kind>alpha|beta|[rR][cC]|dev|pre|preview|post|canary|nightly|snapshot|SNAPSHOT)(?:[-.]?(?P<count>\d{1,8}))?(?![\w])"
)
CALENDAR = (
    r"(?<![\w.,-])(?P<calendaryear>20[0-4]\d)\.(?P<calendarmonth>\d{1,2})\.(?P<calendarmore>\d{1,4})(?![\w-]|[.,]\d)"
)
MODEL = (
    r"(?<![A-Za-z0-9])(?P<model>[A-Z]{2,4}|rtx|gtx)\s(?P<modelnumber>[2-9]\d[1-9]\d|(?<=TX\s)1\d[1-9]\d)(?P<modelmany>s(?![\w']))?"
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
RELEASE = r"(?<![A-Za-z0-9])(?<!ersion )[vV](?P<release>\d{1,4}\.\d{1,4})(?![\w]|\.\d)"
DOTTED = r"(?<![\w.,])(?P<dotprefix>[vV]?)(?P<dotted>\d{1,3}(?:\.\d{1,6}){2,4})(?![\w])(?!\.\d)"

_named_before = re.compile(rf"(?<![A-Za-z])(?:{_PRODUCTS})\s\d{{1,4}}\.\d")


def _said_version(reading: Reading) -> bool:
    """Whether "version" is already before the match: "Version v2.3.1"."""
    return re.search(r"[Vv]ersion\s$", reading.before(8)) is not None


def _named(reading: Reading, found: Groups) -> None:
    """ "Python 3.12" is "three point twelve", "Ubuntu 22.04" "twenty two point oh four"."""
    name = found["namedrelease"] or ""
    reading.say(SPOKEN[name]) if name in SPOKEN else reading.word(name)
    major, minor = found["namedmajor"] or "0", found["namedminor"] or "0"
    reading.say(_of_two(major, minor))


def _another(reading: Reading, found: Groups) -> None:
    """The second of "Python 3.11 and 3.10"."""
    major, minor = found["againmajor"] or "0", found["againminor"] or "0"
    named = _named_before.search(reading.before(60))
    reading.say(_of_two(major, minor) if named else numbers.decimal(major, minor))


def _of_two(major: str, minor: str) -> str:
    words = numbers.year(major) if numbers.is_year(major) else numbers.cardinal(major)
    if len(minor) > 2:
        return f"{words} point {numbers.by_digit(minor)}"
    return f"{words} point {numbers.two_digits(minor) if len(minor) == 2 else numbers.cardinal(minor)}"


def _release(found: Groups) -> str:
    major, _, minor = (found["release"] or "0.0").partition(".")
    return f"version {_of_two(major, minor)}"


def _before_release(reading: Reading, found: Groups) -> None:
    """ "1.4.0-rc.2" is "one point four point zero R C two"."""
    if found["beforeprefix"] and not _said_version(reading):
        reading.say("version")
    reading.say(" point ".join(map(numbers.cardinal, (found["before"] or "0").split("."))))
    kind = (found["kind"] or "").lower()
    reading.say("R C" if kind == "rc" else kind)
    if found["count"]:
        reading.say(numbers.cardinal(found["count"]))


def _calendar(found: Groups) -> str:
    """A date if month and day have two digits and can be ones, otherwise a version."""
    year, month, more = (found[f"calendar{part}"] or "0" for part in ("year", "month", "more"))
    if len(month) == len(more) == 2 and 1 <= int(month) <= 12 and 1 <= int(more) <= 31:
        return dates.iso_date({"iyear": year, "imonth": month, "iday": more})
    return f"{numbers.year(year)} point {numbers.cardinal(month)} point {numbers.cardinal(more)}"


def _dotted(reading: Reading, found: Groups) -> None:
    prefix = None if _said_version(reading) else found["dotprefix"]
    reading.say(addresses.dotted({"dotted": found["dotted"], "dotprefix": prefix}))


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


def _mixed(reading: Reading, found: Groups) -> None:
    """Letters and figures; the letters of a formula are spelled: "H2SO4"."""
    mixed = found["mixed"] or ""
    formula = _FORMULA.fullmatch(mixed) is not None
    model = _MODEL.fullmatch(mixed)
    if model and not formula:
        _short_model(reading, *model.groups())
        return
    parts = re.findall(r"[A-Za-z]+|\d+", mixed)
    many = len(parts) > 2 and parts[-1] == "s" and parts[-3].isupper() and len(parts[-2]) < 3  # "XM4s"
    for index, part in enumerate(parts[:-1] if many else parts):
        if many and index == len(parts) - 2:
            reading.say(numbers.plural(numbers.cardinal(part)))
        elif part[0].isdigit():
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


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("named_release", NAMED, _named),
    ("another_release", AGAIN, _another),
    ("before_release", BEFORE_RELEASE, _before_release),
    ("calendar", CALENDAR, said(_calendar)),
    ("release", RELEASE, said(_release)),
    ("standard", STANDARD, _standard),
    ("aircraft", AIRCRAFT, said(_aircraft)),
    ("point_model", POINT_MODEL, _point_model),
    ("letter_point", LETTER_POINT, _letter_point),
    ("series", SERIES, said(_series)),
    ("model", MODEL, _model),
)
REPLACED: dict[str, tuple[str, Reader]] = {
    "dotted": (DOTTED, _dotted),
    "mixed": (
        r"(?<![A-Za-z0-9])(?P<mixed>[A-Za-z]{1,40}\d[A-Za-z0-9]{0,40}|\d{1,40}[A-Za-z][A-Za-z0-9]{0,40})",
        _mixed,
    ),
}
