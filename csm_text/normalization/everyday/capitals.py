"""Capitals: which are words ("MAX", "ALL"), letters ("A-", "A-Z") and Roman numerals ("Super Bowl LVIII")."""

from __future__ import annotations

from csm_text.normalization import abbreviations, numbers
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

# Words of three letters that version 1 spells in capitals. Those that are as often an abbreviation are not here.
_WORDS = (
    "ADD AGE AGO ALL ASK ATE BAG BED BET BIT BOX BOY BUG BUS CAP COW CRY CUT DIE DIG DRY DUE EAR EAT EGG EYE FAN "
    "FAT FIT FIX FLY FRY FUR GAP GAS GUM GUN GUY HIT ICE ILL INK JAM JAR JAW JOB JOY KEY KID LAW LAY LEG LID LIE "
    "LIP LOG MAX MIN MIX MUD NET NUT ODD OIL OWE PAY PEN PET PIE PIG POT RAW RIB ROW RUB SAW SEX SKY SLY SON SPY "
    "SUM TAX TEA TIE TIN TIP TOE TOY VAN VET WAR WET WIN ZOO ITS BIN BAN BAT ACE AIM ASH AXE BEE BEG BIB BOW BUD "
    "COP COT CUB CUP DEN DIM DIP DOT DUG ELF ELK EVE FEE FIG FOG FOX HAM HAT HEN HOP HUG HUT JET JOG KIT LAB LAP "
    "MAP MAT MUG NAP OAK OAT PAN PAT PAW PEA PEG PIT RAG RAT RAY RUG SAD SEW SHY SIP SKI SOB SOY SUE TAB TAG TAN "
    "TAP TEN TOW TUB TUG VOW WAX WEB WIG YAK"
)
_LETTERS = "AI|UK|EU|UAE|TV|NYC|CEO|CFO|CTO|FAQ|GPS|DNA|ATM|API|DIY|FBI|CIA|USA|USB|CPU|GPU|PDF|URL|SQL"
_AFTER_NUMERAL = (
    "chapter|part|act|scene|section|volume|book|title|article|appendix|bowl|wrestlemania|psalm|sonnet|table|figure|page|phase"
    "|canto"
)

WORD = rf"(?<![A-Za-z0-9'&/.])(?P<capitalword>{'|'.join(_WORDS.split())})(?![A-Za-z0-9'&]|/[A-Z]|\.[A-Z])"
LETTERS = rf"(?<![A-Za-z0-9'&/.])(?P<shouted>{_LETTERS})(?![A-Za-z0-9'&/])"
THE_WHO = r"(?<=\b[Tt]he )WHO(?P<thewho>'s)?(?![A-Za-z0-9'])"
LETTER_A = r"(?<![A-Za-z0-9'.])A(?P<lettera>)(?=[-/&–][A-Za-z])"
ARTICLE = r"(?<![A-Za-z0-9'.])[Aa](?P<article>)(?=\s\.[A-Za-z0-9])"
GRADE = r"(?<![A-Za-z0-9'.-])(?P<grade>[A-DF]|AB|O)(?P<gradesign>[-+])(?=[\s.,;:!?)]|$)(?!\s(?:and|or)\s\S+-)"
LETTER_RANGE = r"(?<![A-Za-z0-9'.-])(?P<letterfrom>[A-Z])\s?[-–]\s?Z(?![A-Za-z0-9'.-])"
LONG_NUMERAL = (
    rf"\b(?P<longword>(?i:{_AFTER_NUMERAL}))\s(?P<longnumeral>[XL]{{0,4}}L[XVI]{{0,7}}|C[XVIL]{{0,8}}|[XVI]{{5,9}}"
    r"|[ivx]{2,7}|[vx])(?![A-Za-z0-9'])"
)
PAIR = r"(?<![A-Za-z0-9&])(?P<pair>[A-Z]{1,3}&[A-Z]{1,3})(?P<pairmany>'?s)?(?![A-Za-z&])"
REIGN = rf"\b(?P<reign>{abbreviations.KINGS})\s(?P<reignth>[IVX]{{2,6}})'s(?![A-Za-z])"
CENTURY = r"(?<![A-Za-z0-9'])(?P<centuryth>[IVX]{2,5})\s(?=[Cc]entur)"


def _letters(reading: Reading, found: Groups) -> None:
    reading.spell(found["shouted"] or "")


def _grade(reading: Reading, found: Groups) -> None:
    """ "A+" and "B-" of a school; "O-" of blood."""
    grade, sign = found["grade"] or "", found["gradesign"]
    reading.spell(grade)
    reading.say("plus" if sign == "+" else "negative" if grade in ("O", "AB") else "minus")


def _long_numeral(reading: Reading, found: Groups) -> None:
    reading.word(found["longword"] or "")
    numeral = found["longnumeral"] or ""
    value = numbers.roman(numeral)
    if value is None:
        reading.word(numeral)
    else:
        reading.say(numbers.cardinal(str(value)))


def _ordinal(numeral: str | None) -> str:
    return numbers.ordinal(str(numbers.roman(numeral or "I") or 1))


def _reign(reading: Reading, found: Groups) -> None:
    reading.word(found["reign"] or "")
    reading.say(f"the {_ordinal(found['reignth'])}'s")


def _letter_range(reading: Reading, found: Groups) -> None:
    reading.spell(found["letterfrom"] or "")
    reading.say("to Z")


def _pair(reading: Reading, found: Groups) -> None:
    """ "Q&A", "M&Ms", and "S&P" of "S&P500"."""
    first, _, last = (found["pair"] or "").partition("&")
    reading.spell(first)
    reading.say("and")
    reading.spell(last, "'s" if found["pairmany"] else "")


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("capital_word", WORD, lambda reading, found: reading.out.append((found["capitalword"] or "").lower())),
    ("shouted", LETTERS, _letters),
    ("the_who", THE_WHO, lambda reading, found: reading.spell("WHO", found["thewho"] or "")),
    ("letter_range", LETTER_RANGE, _letter_range),
    ("grade", GRADE, _grade),
    ("article", ARTICLE, said(lambda found: "a")),
    ("letter_a", LETTER_A, lambda reading, found: reading.spell("A")),
    ("long_numeral", LONG_NUMERAL, _long_numeral),
    ("reign", REIGN, _reign),
    ("century_th", CENTURY, said(lambda found: _ordinal(found["centuryth"]))),
)
REPLACED: dict[str, tuple[str, Reader]] = {"pair": (PAIR, _pair)}
