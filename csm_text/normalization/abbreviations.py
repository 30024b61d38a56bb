"""Abbreviations that are read as words, and which words in capitals are spelled letter by letter."""

from __future__ import annotations

import re

from csm_text.normalization.found import Groups

# Abbreviations with a full stop. Those of TITLES precede a name, so their full stop ends no sentence.
TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "ms": "miz",
    "dr": "doctor",
    "prof": "professor",
    "gen": "general",
    "col": "colonel",
    "capt": "captain",
    "lt": "lieutenant",
    "sgt": "sergeant",
    "rev": "reverend",
    "hon": "honorable",
    "gov": "governor",
    "sen": "senator",
    "rep": "representative",
    "pres": "president",
    "mt": "mount",
    "ft": "fort",
}
WORDS = {
    "etc": "et cetera",
    "vs": "versus",
    "inc": "incorporated",
    "ltd": "limited",
    "corp": "corporation",
    "co": "company",
    "ave": "avenue",
    "rd": "road",
    "blvd": "boulevard",
    "ln": "lane",
    "dept": "department",
    "approx": "approximately",
    "jr": "junior",
    "sr": "senior",
    "est": "established",
    "min": "minutes",
    "max": "maximum",
    "vol": "volume",
    "fig": "figure",
    "ed": "edition",
    "pp": "pages",
    "bros": "brothers",
    "misc": "miscellaneous",
    "apt": "apartment",
    "mon": "Monday",
    "tue": "Tuesday",
    "tues": "Tuesday",
    "wed": "Wednesday",
    "thu": "Thursday",
    "thurs": "Thursday",
    "fri": "Friday",
    "sat": "Saturday",
    "sun": "Sunday",
    "no": "number",
    "nos": "numbers",
    "ca": "circa",
    "ext": "extension",
    "p": "page",
}
# Read as abbreviations only where the context allows it: "no. 5", "Fig. 2", "5 min.", "Sat. 3 March".
_BEFORE_FIGURES = frozenset("p no nos ext fig vol pp ed est max ca apt".split())
_WITH_CAPITAL = frozenset("mon tue tues wed thu thurs fri sat sun inc ltd corp co ave rd blvd ln jr sr bros".split())
LATIN = {"e.g": "for example", "i.e": "that is", "a.k.a": "also known as", "w/o": "without", "w/": "with", "n/a": "N A"}

_names = "|".join(sorted({*TITLES, *WORDS, "st"}, key=len, reverse=True))
ABBREVIATION = rf"(?<![A-Za-z0-9'])(?P<abbreviation>(?i:{_names}))\.(?=(?P<after>\s*)(?P<next>\S?))"
LATIN_RULE = r"(?<![A-Za-z0-9])(?P<latin>(?i:e\.\s?g|i\.\s?e|a\.k\.a))\.,?(?![A-Za-z0-9])"
LATIN_RULE += r"|(?<![A-Za-z0-9])(?P<slashed>(?i:w/o?|n/a))(?![A-Za-z])"
INITIALS = r"(?<![A-Za-z0-9'])(?P<initials>(?:[A-Za-z]\.){2,12}(?:[A-Za-z](?![A-Za-z0-9']))?)"
INITIALS += r"(?:'s(?![A-Za-z])(?P<possessive>))?"
DOCTOR = r"(?<![A-Za-z0-9])(?P<doctor>Ph\.?\s?D)(?![A-Za-z0-9])\.?"
EMOTICON = r"(?:(?<=\s)|^)(?P<emoticon>[:;=][-'^o]?[()DPpOo3/|*\[\]\\]|<3|\^[_-]?\^|[xX]D)(?=\s|$)"
ROMAN = r"(?<![A-Za-z0-9'])(?P<roman>I{2,3}|IV|VI{1,3}|IX|XI{1,3}|XIV|XVI{0,3}|XIX|XXI?)(?![A-Za-z0-9']|\.[A-Za-z])"
PAIR = r"(?<![A-Za-z0-9&])(?P<pair>[A-Z]{1,3}&[A-Z]{1,3})(?![A-Za-z0-9&])"
INITIAL = r"(?<![A-Za-z0-9'.])(?P<initial>[A-HJ-Z])\.(?=\s[A-Z])"
NUMERAL = (
    r"\b(?P<numbered>(?i:chapter|part|act|scene|section|volume|book|war|type|phase|level|title|article|appendix|stage|round"
    r"|episode|class|bowl|version|grade|figure|table))\s(?P<numeral>[IVX]{1,6})(?![A-Za-z'])"
)
KINGS = (  # names and titles before a numeral: "Henry VIII"
    "Henry|Louis|George|Charles|James|Edward|Richard|William|Elizabeth|Mary|John|Paul|Pius|Benedict|Francis|Philip|Leo"
    "|Frederick|Napoleon|Nicholas|Alexander|Peter|Catherine|Gregory|Innocent|Clement|Ramses|Pope|King|Queen"
)
KING = rf"\b(?P<king>{KINGS})\s(?P<kingth>[IVX]{{1,6}})(?![A-Za-z'])"

SPELLED = frozenset(
    "LED US IT AI UN EU UK TV PC CD ID PM AM PR HR VIP DIY FAQ GPU CPU PCR GPT API ATM CEO GPS DNA USA USB PDF URL VR"
    " AR".split()
)
SPELLED_SMALL = frozenset(
    "omg idk nyc uae usd diy lmao ucla nsa ufc iso utc gmt faq btw lgbt uk usa asap tbh wtf km cm".split()
)
WARS = {"WW": "world war", "WWI": "world war one", "WWII": "world war two"}
# Words of up to three letters. In capitals they are stressed ("DO NOT"), and not spelled.
STRESSED = frozenset(
    "a i am an and any are as at bad be big but buy by can day did do end far fed few for fun get go god got had"
    " has he her hey hi him his hot how if in is its job let lot low mad man may me men my new no nor not now of"
    " off oh old on one or our out own per put ran red run sad say see set she shy sit so stop ten the try to too"
    " top two up use via was way we who why win won wow yes yet you ok gif sim pin ram rom zip bar car cat dog box"
    " sir mom dad bay sun sea air art".split()
)


def latin(found: Groups) -> str:
    """ "e.g." and the like with a pause after it, "w/o" without."""
    if found["latin"]:
        return LATIN[found["latin"].lower().replace(" ", "")] + ","
    return LATIN[(found["slashed"] or "").lower()]


def abbreviation(found: Groups, before: str) -> str | None:
    """The words of an abbreviation; None for an ordinary word at the end of a sentence.

    before: the text up to the abbreviation. A trailing full stop in the result ends the sentence.
    """
    written = found["abbreviation"] or ""
    name, following = written.lower(), found["next"] or ""
    ends = not following or (bool(found["after"]) and following.isupper())
    if name == "st":
        saint = following.isupper() and not re.search(r"[A-Z][a-z']*\s$|\d(?:st|nd|rd|th)\s$", before[-40:])
        return "saint" if saint else "street" + ("." if ends else "")
    if name in TITLES:
        if name in ("dr", "mr", "mrs", "ms", "prof") or (following.isupper() and written[0].isupper()):
            drive = (
                name == "dr"
                and (not following or not following.isupper())
                and re.search(r"[A-Z][a-z']+\s$", before[-40:])
            )
            return "drive" + ("." if ends else "") if drive else TITLES[name]
        return None
    if name in _BEFORE_FIGURES:
        return WORDS[name] if following.isdigit() else None
    if name == "min":
        return None
    if name in _WITH_CAPITAL and not written[0].isupper():
        return None
    return WORDS[name] + ("." if ends and name not in ("vs", "approx") else "")
