"""Versions: "v1.4.0-rc.2", "Python 3.12", "Ubuntu 22.04", "2024.10.1"."""

from __future__ import annotations

import re

from csm_text.normalization import addresses, dates, numbers
from csm_text.normalization.everyday.shortened import SPOKEN
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

_PRODUCTS = (  # of which what is behind the point is a number: "three point twelve"
    "Python|Django|Flask|Pandas|NumPy|Node|Deno|Bun|Go|Golang|Rust|PHP|Ruby|Rails|Java|Kotlin|Swift|Scala|Julia|Perl|Elixir"
    "|PyTorch|TensorFlow|Keras|Kubernetes|Postgres|PostgreSQL|MySQL|Redis|Ubuntu|Debian|Fedora|Alpine|Kernel|Android|macOS"
    "|iOS|iPadOS|watchOS|CUDA|Blender|Unity|Minecraft|Angular|Gradle|Helm|PyCharm|IntelliJ|Version|Release|Patch"
    "|python|django|node|php|java|ruby|ubuntu|pytorch|kubernetes|postgres|cuda|version|release"
)
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
RELEASE = r"(?<![A-Za-z0-9])(?<!ersion )[vV](?P<release>\d{1,4}\.\d{1,4})(?![\w]|\.\d)"
DOTTED = r"(?<![\w.,])(?P<dotprefix>[vV]?)(?P<dotted>\d{1,3}(?:\.\d{1,6}){2,4})(?![\w])(?!\.\d)"

_named_before = re.compile(rf"(?<![A-Za-z])(?:{_PRODUCTS})\s\d{{1,4}}\.\d")


def _again(reading: Reading) -> bool:
    """Whether "version" has been said: "Version v2.3.1"."""
    return re.search(r"[Vv]ersion\s$", reading.before(8)) is not None


def _named(reading: Reading, found: Groups) -> None:
    """The digits behind the point as one number, "oh four" with a zero."""
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
    if found["beforeprefix"] and not _again(reading):
        reading.say("version")
    reading.say(" point ".join(map(numbers.cardinal, (found["before"] or "0").split("."))))
    kind = (found["kind"] or "").lower()
    reading.say("R C" if kind == "rc" else kind)
    if found["count"]:
        reading.say(numbers.cardinal(found["count"]))


def _calendar(found: Groups) -> str:
    """A date where it can be one with two digits for each part, else a version."""
    year, month, more = (found[f"calendar{part}"] or "0" for part in ("year", "month", "more"))
    if len(month) == len(more) == 2 and 1 <= int(month) <= 12 and 1 <= int(more) <= 31:
        return dates.iso_date({"iyear": year, "imonth": month, "iday": more})
    return f"{numbers.year(year)} point {numbers.cardinal(month)} point {numbers.cardinal(more)}"


def _dotted(reading: Reading, found: Groups) -> None:
    prefix = None if _again(reading) else found["dotprefix"]
    reading.say(addresses.dotted({"dotted": found["dotted"], "dotprefix": prefix}))


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("named_release", NAMED, _named),
    ("another_release", AGAIN, _another),
    ("before_release", BEFORE_RELEASE, _before_release),
    ("calendar", CALENDAR, said(_calendar)),
    ("release", RELEASE, said(_release)),
)
REPLACED: dict[str, tuple[str, Reader]] = {"dotted": (DOTTED, _dotted)}
