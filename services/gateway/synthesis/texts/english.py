"""English sentences of a text whose last word may still be open. It knows no RPC and stores nothing.

The library `sentencex` finds the beginnings of sentences. It is asked about an outline of the text: the same number of
characters, some of them others, which it understands better. Sentences that it parts wrongly are joined again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from services.gateway.synthesis.texts.library import segment

# Ends of sentences by `sentencex` that are none: "approx. 5 km", "vol. II", "Ms. Lee", "ASP.NET", "1. First".
_GOES_ON = re.compile(
    r"(?:^|[^A-Za-z0-9.])(?:(?i:approx|incl|excl|avg|temp|tel|vol|ch|cf|viz|esp|attn|ver|eq|ref|para|vs|natl|intl|i\.e"
    r"|e\.g)\.[ \t]*"
    r"|(?:Mrs?|Ms|Dr|Prof|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Gov|Sen|Rep|Pres|Mt|Ft|Maj|Cpl|Pvt|Adm|Cmdr"
    r"|Messrs|Insp|Det|Fr)\.[ \t]*"
    r"|[A-HJ-Z]\.[ \t]*|[A-Z]{2,4}\.)$|(?:^|\n)[ \t]*(?:(?i:step|chapter|part) )?\d{1,3}\.[ \t]*$"
)
_GOES_ON_SMALL = re.compile(  # before a small letter or a figure
    r"(?:^|[^A-Za-z.])(?i:tbsp|tsp|max|min|est|ste|apt|mon|tues?|wed|thurs?|fri|sat|sun|jan|feb|aug|sept"
    r"|oct|nov|dec|appts?|bd|govt|rte|pkwy|rm|qty|wt|lbs?|oz|hrs?|secs?|yrs?|mos)\.[ \t]*$"
)
_HALF_OF_DAY = re.compile(r"[ap]\.m\.\s$")
_AFTER_HALF = re.compile(  # "10 a.m. EST", "5 p.m. Tuesday"
    r"(?:[ECMP][SD]?T|GMT|UTC|BST|CES?T|IST|JST|AES?T|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Eastern|Central|Pacific"
    r"|Mountain)(?![A-Za-z])"
)
_DAY = re.compile(r"\b(?:Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun)\.\s$")  # "Mon. Jan. 5"
_MONTH = re.compile(r"(?:Jan|Feb|March|Apr|May|June|July|Aug|Sept|Oct|Nov|Dec)[a-z]*(?=[\s.])")
_WITHIN = ("/", ".", "_")  # signs that begin no sentence
_CODE = re.compile(r"\S*[@/\\_()=]|[A-Z]{2,}\b")  # what belongs to the word before a full stop without a space
_MORE_DOTS = re.compile(r"[.!?](?![A-Za-z0-9])")  # "so . . . what"

_BEGINS = (  # words that are no names
    "The|This|That|These|Those|There|Then|Here|It|He|She|They|We|You|What|How|Why|When|If|But|And|In|On|Now|Let|Please"
)
_KIND = "vitamin|plan|type|option|grade|class|group|team|part|section|hepatitis|rated|an?"
_WORD = (  # words that `sentencex` takes for Maine, number, Article, Connecticut and the like
    r"(?:me|no|art|arc|ark|ill|id|miss|fed|ore|etc|min|sec|hr|mm|[nxyz]|Art|Ken|May"
    r"|(?!DR|MR|MS|MT|ST|FT|LT|NO|VS|CO|FR|SR|JR)[A-Z]{2})(?=\.\s+[A-Z][a-z'’ ])"
)


def _no_abbreviation(match: re.Match[str]) -> str:
    return "x" * len(match[0]) if len(match[0]) > 1 else "5"


_OUTLINE: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    # Of a scheme its last letter is enough: to look for all from each letter took 0.4 s for 4,096 of them.
    (r"(?:\w://|www\.)\S+", lambda match: re.sub(r"[.!?](?=\S)", "_", match[0])),
    (
        r"(?:(?<=[A-Za-z0-9]\.\s)|(?<=[?!]\s))I[ '’][a-z]",
        lambda match: "We ",
    ),  # it knows "We" and "It" as beginnings, not "I" and "It's"
    (rf"\b(?:{_BEGINS}|Who|Where|Don|Doesn|Didn|Isn|Can|Won)['’](?=[a-z])", lambda match: "It".ljust(len(match[0]))),
    (r"…(?=\s+[A-Z])|:(?=[ \t]?\n)", lambda match: "."),  # "Well… Then", "The steps:" before a list
    (r"(?<=[.!?])(?:\*{1,3}|_{1,2})(?=\s|$)", lambda match: '"'.ljust(len(match[0]))),  # "**Note.** It"
    (rf"\b{_WORD}|(?:^|(?<=[.!?\n][ \n])|(?<=^[\"“]))No(?=\.\s+[A-Za-z])", _no_abbreviation),
    # "vitamin C. Take it", "AT&T. Tom", "Press X. Then": no initial of a name
    (rf"((?:\b(?i:{_KIND}) |° ?|[&+/°₀-₉]))[A-HJ-Z](?=\.\s+[A-Z])", lambda match: f"{match[1]}5"),
    (rf"\b[A-HJ-Z](?=\.\s+(?:{_BEGINS})\s)", lambda match: "5"),
)
_CHANGES = tuple((re.compile(pattern), other) for pattern, other in _OUTLINE)
_MARK = re.compile(r"[.!?…:].", re.DOTALL)


def english(text: str) -> list[str]:
    """The sentences of `text`, at least one. Joined they are `text`."""
    outline = text
    for pattern, other in _CHANGES if _MARK.search(text) else ():
        outline = pattern.sub(other, outline)
    sentences, end = list[str](), 0
    for sentence in _joined(segment("en", outline) or [outline]):
        sentences.append(text[end : end + len(sentence)])
        end += len(sentence)
    return sentences


def _joined(sentences: list[str]) -> list[str]:
    """Sentences that go on behind an abbreviation, as one."""
    joined = sentences[:1]
    for sentence in sentences[1:]:
        if not sentence[0].isspace() and _goes_on(joined[-1][-24:], sentence):
            joined[-1] += sentence
        else:
            joined.append(sentence)
    return joined


def _goes_on(before: str, sentence: str) -> bool:
    """Whether what is behind a full stop belongs to the sentence before it, or may once its first word is whole."""
    first, is_open = sentence[0], " " not in sentence and "\n" not in sentence
    small = first.islower() or first.isdigit()
    if not before[-1].isspace():
        within = small or first in _WITHIN or before[-2:-1] in ("", " ") or _CODE.match(sentence)
        return bool(within) or (is_open and sentence.isascii())
    has_stop = "." in before  # as every abbreviation; to look for them all takes long
    if has_stop and (_GOES_ON.search(before) or (small and _GOES_ON_SMALL.search(before))):
        return True
    if _MORE_DOTS.match(sentence):
        return True
    if has_stop:
        for end, beginning in ((_HALF_OF_DAY, _AFTER_HALF), (_DAY, _MONTH)):
            if end.search(before):
                return is_open or beginning.match(sentence) is not None
    return is_open and sentence.isalpha() and len(segment("en", before + "Zz")) < 2  # "Inc. To" may become "Tom"
