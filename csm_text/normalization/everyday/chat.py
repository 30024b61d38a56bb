"""Abbreviations without a full stop: "ttyl", "mtg", "rm 204", "b/c", "an api", "I ❤ NY".

Most are found by a table, not by a pattern: every word that no other rule matches is looked up.
"""

from __future__ import annotations

import re

from csm_text.normalization.everyday.shortened import UNSTOPPED
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

# Spelled in small letters too. Those that are as often a name or a word ("la", "cob") are left out.
_SPELLED = frozenset(
    (
        "afaik afk ai api apis asmr aws ceo ceos cfo cli cpu cpus csv cto eod eow ev evs gpu gpus gui hmu icymi id"
        " idc ide ides ids iirc ily imho imo ios iot ip irl isp iykyk kpi kpis llm llms mvp nda npc ocr ofc omw"
        " ootd os otp otw pov pto roi saas sdk seo sla slas tldr ttyl ui ux vpn wdym wya wyd"
    ).split()
)
_WORDS = UNSTOPPED | {  # in small letters, or with a capital at the beginning of a sentence
    "thx": "thanks",
    "pls": "please",
    "plz": "please",
    "ppl": "people",
    "msg": "message",
    "msgs": "messages",
    "cuz": "because",
    "bday": "birthday",
    "bdays": "birthdays",
    "btwn": "between",
    "abt": "about",
    "rly": "really",
    "srsly": "seriously",
    "obvs": "obviously",
    "sry": "sorry",
    "nvm": "never mind",
    "tysm": "thank you so much",
    "tmrw": "tomorrow",
    "tmw": "tomorrow",
    "tmr": "tomorrow",
    "nite": "night",
    "fri": "Friday",
    "tues": "Tuesday",
    "weds": "Wednesday",
    "thurs": "Thursday",
    "wknd": "weekend",
    "bldg": "building",
    "yrs": "years",
    "wks": "weeks",
    "mins": "minutes",
    "tsp": "teaspoon",
    "tsps": "teaspoons",
    "tbsp": "tablespoon",
    "tbsps": "tablespoons",
    "sq": "square",
    "lg": "large",
    "pcs": "pieces",
    "yr": "year",
    "wk": "week",
    "ctrl": "control",
    "cmd": "command",
    "mkt": "market",
    "chatgpt": "chat G P T",
    "openai": "open A I",
    "nginx": "engine X",
    "mysql": "my S Q L",
    "macos": "mac O S",
    "pytorch": "pie torch",
    "numpy": "num pie",
    "sudo": "sue do",
    "kubernetes": "coober net ease",
    "postgres": "post gress",
    "redis": "red iss",
    "ea": "each",
}
_SMALL = {  # in small letters only
    "ms": "milliseconds",
    "hr": "hour",
    "ty": "thank you",
    "rn": "right now",
    "bc": "because",
    "ur": "your",
    "yw": "you're welcome",
}
_FIGURED = {  # before a figure: "pg 12", "Ext 42"
    "apt": "apartment",
    "approx": "approximately",
    "ep": "episode",
    "eps": "episodes",
    "ext": "extension",
    "hwy": "highway",
    "pg": "page",
    "pgs": "pages",
    "rm": "room",
    "ste": "suite",
    "vol": "volume",
}
# Before a colon, with a capital: "Tel: 555-1234".
_LABELS = {"ref": "reference", "attn": "attention", "tel": "telephone", "ph": "phone", "mob": "mobile"}
_CHAT = {  # with a digit or a sign
    "b/c": "because",
    "b/w": "between",
    "w/in": "within",
    "w/out": "without",
    "gr8": "great",
    "l8r": "later",
    "b4": "before",
    "m8": "mate",
    "str8": "straight",
    "2nite": "tonight",
    "2night": "tonight",
    "2day": "today",
    "2moro": "tomorrow",
    "2morrow": "tomorrow",
    "e.g": "for example,",
    "i.e": "that is,",
}
_DRAWN_OUT = re.compile(r"([a-z])\1{2,}")  # "sooo", "yesss"
_COMPOUND = re.compile("[A-Z]{2,5}[a-z]")  # "PCIe", "NVMe"

CHAT = (
    r"(?<![A-Za-z0-9'])(?P<chat>[Bb]/c|b/w(?!\s(?:photo|picture|film|image)s?\b)|[Ww]/(?:in|out)|[Gg]r8|[Ll]8r|b4|m8|str8"
    r"|2nite|2night|2day|2moro|2morrow|(?:e\.g|i\.e)(?!\.))(?![A-Za-z0-9'])"
)
MAIL = r"(?<![A-Za-z0-9])(?P<mailsubject>RE|FWD?|Fwd?)(?=:\s)"
NTH_MINUTE = r"(?<=\d(?:st|nd|rd|th)\s)min(?P<nthminute>)(?![a-z])"
SLASHED = r"(?<![\w./'])(?!m/s|w/o|n/a|[xyz]/[xyz])(?P<slashone>[a-z])/(?P<slashtwo>[a-z])(?![\w/'])"
_BESIDE_GREEK = {"avg": "average", "eta": "ETA"}  # `scripts.plain` writes Greek letters the same way
_beside_greek = re.compile(r"(?<![A-Za-z0-9'./_-])(?:[Aa]vg|[Ee]ta)(?![A-Za-z0-9'./_(-])")
_HEART = re.compile(
    r"(?:(?<=\b[Ii] )|(?<=\b[Ww]e )|(?<=\b[Yy]ou )|(?<=\b[Tt]hey ))(?:<3|[♥❤💕💖💗💘💙💚💛💜🖤🤍🧡])\ufe0f?(?=\s\w)"
)


def prepared(text: str) -> str:
    """The text with a heart between two words as "love", and with words that Greek letters would be mistaken for."""
    if "<3" in text or not text.isascii():
        text = _HEART.sub("love", text)
    if not any(word in text for word in ("vg", "eta", "Eta")):
        return text
    return _beside_greek.sub(lambda match: _BESIDE_GREEK[match[0].lower()], text)


def read(reading: Reading, written: str) -> None:
    """Adds what the word stands for, its letters, or the word itself."""
    small = written.lower()
    if written != small and written != small.capitalize():
        if _COMPOUND.fullmatch(written) and not written.endswith("s"):
            reading.spell(written)
        else:
            reading.word(written)
    elif small in _SPELLED:
        many = small.endswith("s") and small[:-1] in _SPELLED
        reading.spell(small[:-1] if many else small, "'s" if many else "")
    elif small in _WORDS:
        reading.say(_WORDS[small])
    elif written == "ms" and reading.before(1) == "-":
        reading.say("millisecond")
    elif written in _SMALL:
        reading.say(_SMALL[written])
    elif small in _FIGURED and re.match(r"\s[$€£¥₹~]?\d", reading.after(3)):
        reading.say(_FIGURED[small])
    elif small == "med" and re.match(r"[\s-](?:low|high|heat|rare|sized?)\b", reading.after(6)):
        reading.say("medium")
    elif small in _LABELS and written[0].isupper() and reading.after(1) == ":":
        reading.say(_LABELS[small])
    elif _DRAWN_OUT.search(small):
        reading.word(_shortened(reading, small))
    else:
        reading.word(written)


def _shortened(reading: Reading, small: str) -> str:
    """The known word behind a drawn-out one: "goood" keeps two of the letters, "yesss" and "sooo" keep one."""
    for word in (_DRAWN_OUT.sub(r"\1\1", small), _DRAWN_OUT.sub(r"\1", small)):
        if reading.knows(word) and len(word) > 1 and word != "soo":
            return word
    return small


def word(name: str) -> Reader:
    """A reader of the group of that name as a word."""
    return lambda reading, found: read(reading, found[name] or "")


def _slashed(reading: Reading, found: Groups) -> None:
    """ "y/n" and "a/c" are two letters."""
    reading.spell((found["slashone"] or "") + (found["slashtwo"] or ""))


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("chat", CHAT, said(lambda found: _CHAT[(found["chat"] or "").lower()])),
    ("mail_subject", MAIL, said(lambda found: "re" if found["mailsubject"] == "RE" else "forwarded")),
    ("nth_minute", NTH_MINUTE, said(lambda found: "minute")),
    ("slashed", SLASHED, _slashed),
)
REPLACED: dict[str, tuple[str, Reader]] = {
    "word": (r"(?P<word>[A-Za-z]{1,100}(?:'[A-Za-z]{1,100}){0,4})", word("word")),
}
