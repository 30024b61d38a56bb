"""Abbreviations with a full stop, degrees and titles: "B.Sc.", "et al.", "Roe v. Wade", "c. 1450"."""

from __future__ import annotations

import re

from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

# With a capital after a full stop, these words begin a sentence; inside a sentence they have small letters.
BEGINS = (
    "The|This|That|There|These|Those|He|She|It|They|We|You|But|However|What|If|When|In|On|At|After|Before|And|So|My|Our"
    "|His|Her|Its|An|As|For|Then|Now|Yes|No|Who|How|Why|Where|Some|Many|All|Most|With|Please|Let|Also|Not|Is|Are|Was"
    "|Do|Does|Did|Can|Will"
)
ENDS = rf"(?=\s*$|\s+(?:{BEGINS})(?![A-Za-z]))"

_PARTS = {"Sc": "S C", "LL": "L L", "Ed": "E D", "Psy": "sigh", "Litt": "lit"}  # others are read as they are
_ANYWHERE = {  # their full stop ends no sentence
    "avg": "average",
    "incl": "including",
    "encl": "enclosed",
    "excl": "excluding",
    "esp": "especially",
    "attn": "attention",
    "tel": "telephone",
    "viz": "namely",
    "cf": "compare",
    "temp": "temperature",
    "prev": "previous",
    "max": "maximum",
    "min": "minimum",
    "intl": "international",
    "natl": "national",
    "acct": "account",
    "ref": "reference",
}
_AFTER = {  # their full stop may also end a sentence
    "govt": "government",
    "univ": "university",
    "assn": "association",
    "mgmt": "management",
    "pct": "percent",
    "qty": "quantity",
    "amt": "amount",
    "pkg": "package",
    "pkwy": "parkway",
    "hwy": "highway",
    "esq": "esquire",
    "appt": "appointment",
    "agg": "aggregate",
    "assoc": "association",
    "bd": "board",
    "coord": "coordinator",
    "ctr": "center",
    "dir": "director",
    "dist": "district",
    "div": "division",
    "educ": "education",
    "exec": "executive",
    "flt": "flight",
    "hosp": "hospital",
    "inst": "institute",
    "mfg": "manufacturing",
    "pkgs": "packages",
    "pmt": "payment",
    "qtr": "quarter",
    "svc": "service",
    "svcs": "services",
    "wt": "weight",
    "appts": "appointments",
    "asst": "assistant",
    "dept": "department",
    "mgr": "manager",
    "mtg": "meeting",
    "mtgs": "meetings",
}
_STOPPED = frozenset("assoc bd ctr dir dist div exec hosp inst wt".split())  # other words, or code, without a full stop
# Abbreviations that chat.py reads without a full stop too.
UNSTOPPED = {short: word for short, word in _AFTER.items() if short not in _STOPPED} | {
    short: _ANYWHERE[short] for short in ("incl", "excl", "esp", "prev", "intl", "natl", "acct")
}
_BEFORE_FIGURES = {
    "art": "article",
    "fl": "floor",
    "eq": "equation",
    "ep": "episode",
    "pg": "page",
    "pgs": "pages",
    "rev": "revision",
    "jct": "junction",
    "lvl": "level",
    "blk": "block",
    "ex": "example",
    "ver": "version",
    "para": "paragraph",
    "vol": "volume",
    "ch": "chapter",
    "pt": "part",
    "sec": "section",
    "fig": "figure",
}
_UNSTOPPED = {"Rte": "route", "Hwy": "highway", "Rm": "room", "Ste": "suite", "Bldg": "building", "Apt": "apartment"}
_TITLES = {
    "Maj": "major",
    "Cpl": "corporal",
    "Pvt": "private",
    "Adm": "admiral",
    "Cmdr": "commander",
    "Messrs": "messers",
    "Insp": "inspector",
    "Det": "detective",
    "Supt": "superintendent",
    "Fr": "father",
    "Sec": "secretary",
    "Amb": "ambassador",
    "Pt": "point",
}
_KINDS = "[Vv]itamins?|[Pp]lans?|[Tt]ypes?|[Oo]ptions?|[Gg]rades?|[Cc]lass|[Gg]roups?|[Tt]eams?|[Pp]arts?|[Ss]ections?"
_KINDS += "|[Aa]ppendix|[Ee]xhibit|[Ss]eries|[Hh]epatitis|[Ll]etters?|[Aa]nswers?"
_KIND = re.compile(rf"(?:^|[^A-Za-z])(?:{_KINDS})\s$")
_START = r"(?<![A-Za-z0-9'.])"

DEGREE = (
    rf"{_START}(?P<degree>[BMD]\.\s?(?:Sc|Tech|Phil|Eng|Ed|Com|Arch|Mus|Litt)|(?:Ph|Ed|LL|Pharm|Psy)\.\s?[DBM]|Ph\s?D)"
    r"(?P<degreeend>\.?)(?![A-Za-z0-9]|\.[A-Za-z])"
)
DEGREE_LETTERS = rf"{_START}(?P<degreeletters>[BMD]Sc|PhD)(?P<degreemany>s|'s)?(?![A-Za-z0-9'])"
INITIAL_NAME = r"(?<![A-Za-z0-9'.])(?P<initial>[A-HJ-Z])\.(?=\s[A-Z])"
SPECIES = r"(?<![A-Za-z0-9'.])(?P<species>[A-HJ-Z])\.(?=\s[a-z]{3})"
ANYWHERE = rf"{_START}(?P<anywhere>(?i:{'|'.join(_ANYWHERE)}))\.(?=\s[a-z0-9(]|\s?[,:;]|\s[A-Z]{{2}})"
ANYWHERE += rf"|{_START}(?P<beforename>(?i:cf|incl|excl|esp|viz))\.(?=\s[A-Z])"
AFTER = rf"{_START}(?P<shortened>(?i:{'|'.join(_AFTER)}))\.(?![A-Za-z])"
FIGURED = (
    rf"{_START}(?P<numeraled>(?i:{'|'.join(_BEFORE_FIGURES)}))\.\s?(?=\(?\d|(?:[VX]|[IVX]{{2,5}})(?![A-Za-z'])|I(?=[.,;:)]|$))|"
    r"(?<=\d\s)(?P<dimension>lg|med|sm)\.(?=\s[a-z])|"
    rf"{_START}(?P<unstopped>{'|'.join(_UNSTOPPED)})(?:\s(?=\d)|\.?\s(?=#\d))|(?<=\d(?:st|nd|rd|th)\s)(?P<floor>[Ff]l)\.?(?![A-Za-z])"
)
TITLE = rf"{_START}(?P<unnamed>{'|'.join(_TITLES)})\.\s?(?=[A-Z])|{_START}(?P<prof>Prof)\s(?=[A-Z][a-z])"
ET_AL = r"\bet\sal\.(?P<etal>)"
VERSUS = r"(?<=[A-Za-z.)]\s)v\.\s(?=[A-Z])(?P<against>)|(?<![A-Za-z0-9'.])[Vv]s(?![A-Za-z0-9'.])(?P<versus>)"
RANK = rf"(?<![A-Za-z])(?P<rank>[JS]r)\.\s(?!(?:{BEGINS})\b)(?=[A-Z][a-z])"
CIRCA = r"(?<![A-Za-z0-9'.])c\.\s?(?=[1-9]\d{2,3}(?!\d))"
CENTURY = r"(?<=\d(?:st|nd|rd|th)\s)c\.(?P<centuryend>(?=\s*$))?"
SUFFIX = r"(?<![A-Za-z])(?P<namesuffix>[JS]r)\.'s(?![A-Za-z])"
NUMBER_OF = (
    r"(?<![A-Za-z0-9'])(?:[Nn]o\.|#)(?=\sof\s)"
    r"|(?<=[a-z]\s)no\.(?=\s(?:is|was|are)\s|:)"
    r"|(?:(?<=order )|(?<=Order )|(?<=nvoice )|(?<=ccount )|(?<=icket )|(?<=hone )|(?<=erial )|(?<=odel )|(?<=Part )"
    r"|(?<=part ))[Nn]o\.(?=\sis\s|:|\s[A-Z]{1,4}-?\d)"
)
SPOKEN = {
    "c/o": "care of",
    "401(k)": "four oh one K",
    "401k": "four oh one K",
    "I AM": "i am",
    "pH": "P H",
    "iOS": "I O S",
    "YoY": "year over year",
    "y/y": "year over year",
    "QoQ": "quarter over quarter",
    "MoM": "month over month",
    "TL;DR": "T L D R",
    "tl;dr": "T L D R",
    "aka": "A K A",
    "mRNA": "M R N A",
    "WW1": "world war one",
    "WW2": "world war two",
    "he/she": "he or she",
    "He/she": "he or she",
    "He/She": "he or she",
    "His/her": "his or her",
    "she/he": "she or he",
    "his/her": "his or her",
    "him/her": "him or her",
    "either/or": "either or",
    "24/7/365": "twenty four seven three sixty five",
    "24x7": "twenty four seven",
    "M-F": "monday to friday",
    "M–F": "monday to friday",
}
# The noun "resume" after a possessive or an article; "résumé" is known by its accents.
RESUME_NOUN = (
    r"(?=resume)"
    r"(?:(?<=\bmy )|(?<=\bMy )|(?<=\bour )|(?<=\bhis )|(?<=\bher )|(?<=\btheir )|(?<=\byour )|(?<=\bYour )|(?<=\ba ))"
    r"(?P<resume>resumes?)(?=\s*[.,;:!?)]|\s*$|\s(?:and|or|to|by|for|with|is|as|on|in|at|here)\b)"
)
_ACCENTED = {"résumé": "rezumay", "exposé": "expozay", "rosé": "rozay", "pâté": "pahtay", "lamé": "lahmay"}
_accented = re.compile(rf"(?<![^\W_])({'|'.join(_ACCENTED)})(?=s?(?![^\W_]))", re.IGNORECASE)
SPOKEN_AS = rf"(?<![A-Za-z0-9'/])(?P<spoken>{'|'.join(map(re.escape, SPOKEN))})(?![A-Za-z0-9'/])"


def prepared(text: str) -> str:
    """The text with "résumé" and other words that only accents tell from an English word respelled as they sound."""
    return text if text.isascii() else _accented.sub(lambda match: _ACCENTED[match[1].lower()], text)


def _ends_sentence(reading: Reading) -> bool:
    """Whether the sentence ends after the match."""
    return re.match(ENDS, reading.after(60)) is not None


def _degree(reading: Reading, found: Groups) -> None:
    """ "B.Sc." is spelled, "M.Phil." is a letter and a word."""
    for part in re.findall("[A-Za-z]+", (found["degree"] or "").replace("Ph", "P.H.")):
        reading.say(part if len(part) == 1 else _PARTS.get(part, part))
    if found["degreeend"] and _ends_sentence(reading):
        reading.mark(".")


def _degree_letters(reading: Reading, found: Groups) -> None:
    reading.spell(found["degreeletters"] or "", "'s" if found["degreemany"] else "")


def _initial(reading: Reading, found: Groups) -> None:
    """An initial, "J. Smith", or a letter at the end of a sentence: "Plan B. Then we left"."""
    reading.spell(found["initial"] or "")
    following = re.match(rf"\s(?:{BEGINS})(?![A-Za-z])", reading.after(24))
    if following or _KIND.search(reading.before(12)):
        reading.mark(".")


def _species(reading: Reading, found: Groups) -> None:
    """ "E. coli" is one name."""
    reading.spell(found["species"] or "")
    if _KIND.search(reading.before(12)):
        reading.mark(".")


def _after(reading: Reading, found: Groups) -> None:
    reading.say(_AFTER[(found["shortened"] or "").lower()])
    if _ends_sentence(reading):
        reading.mark(".")


def _anywhere(found: Groups) -> str:
    return _ANYWHERE[(found["anywhere"] or found["beforename"] or "").lower()]


def _figured(found: Groups) -> str:
    if found["floor"]:
        return "floor"
    if found["dimension"]:
        return {"lg": "large", "med": "medium", "sm": "small"}[found["dimension"]]
    return _UNSTOPPED[found["unstopped"]] if found["unstopped"] else _BEFORE_FIGURES[(found["numeraled"] or "").lower()]


def _et_al(reading: Reading, found: Groups) -> None:
    reading.say("et al")
    if _ends_sentence(reading):
        reading.mark(".")


def _century(reading: Reading, found: Groups) -> None:
    reading.say("century")
    if found["centuryend"] is not None:
        reading.mark(".")


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("spoken_as", SPOKEN_AS, said(lambda found: SPOKEN[found["spoken"] or ""])),
    ("degree", DEGREE, _degree),
    ("degree_letters", DEGREE_LETTERS, _degree_letters),
    ("figured", FIGURED, said(_figured)),
    ("anywhere", ANYWHERE, said(_anywhere)),
    ("shortened", AFTER, _after),
    ("untitled", TITLE, said(lambda found: "professor" if found["prof"] else _TITLES[found["unnamed"] or ""])),
    ("et_al", ET_AL, _et_al),
    ("versus", VERSUS, said(lambda found: "versus")),
    ("rank", RANK, said(lambda found: "junior" if found["rank"] == "Jr" else "senior")),
    ("circa", CIRCA, said(lambda found: "circa")),
    ("century", CENTURY, _century),
    ("suffix", SUFFIX, said(lambda found: "junior's" if found["namesuffix"] == "Jr" else "senior's")),
    ("number_of", NUMBER_OF, said(lambda found: "number")),
    ("species", SPECIES, _species),
    (
        "resume",
        RESUME_NOUN,
        lambda reading, found: reading.out.append((found["resume"] or "").replace("resume", "rezumay")),
    ),
)
REPLACED: dict[str, tuple[str, Reader]] = {
    "doctor": (r"(?!)(?P<doctor>)", _degree),
    "initial": (INITIAL_NAME, _initial),
}
