"""Cuts a text into sentences while it is still being written. It knows no RPC.

A sentence is complete when the next one begins, when the writer flushes, or when it is longer than LONGEST. The
library `sentencex` finds the beginnings, by rules and abbreviations of many languages. English has some more here.
"""

from __future__ import annotations

import re

from sentencex import segment

from services.gateway.synthesis.texts.words import has_words

LONGEST = 300  # characters; a longer sentence is cut between words

# Ends of English sentences by `sentencex` that are none: "approx. 5 km", "vol. II", "Ms. Lee", "ASP.NET", "1. First".
# It takes the beginning of a name for a word too: the first letters of "Dr. Tom" for "To".
_GOES_ON = re.compile(
    r"(?:^|[^A-Za-z0-9.])(?:(?i:approx|incl|excl|avg|temp|tel|vol|ch|cf|viz|esp|attn|ver|eq|ref|para)\.[ \t]*"
    r"|(?:Mrs?|Ms|Dr|Prof|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Gov|Sen|Rep|Pres|Mt|Ft|Maj|Cpl|Pvt|Adm|Cmdr"
    r"|Messrs|Insp|Det|Fr)\.[ \t]*"
    r"|[A-HJ-Z]\.[ \t]*|[A-Z]{2,4}\.)$|^\s*(?:(?i:step|chapter|part) )?\d{1,3}\.[ \t]*$"
)
_WITHIN = ("/", ".", "_")  # signs that begin no sentence
_GOES_ON_SMALL = re.compile(  # before a small letter or a figure
    r"(?:^|[^A-Za-z.])(?i:tbsp|tsp|max|min|est|ste|apt|mon|tues?|wed|thurs?|fri|sat|sun|jan|feb|aug|sept"
    r"|oct|nov|dec)\.[ \t]*$"
)


class SentenceCutter:
    """Takes pieces of text and returns sentences. It drops spaces at their ends, and parts without words."""

    def __init__(self, language_code: str) -> None:
        """language_code: BCP-47; English when empty"""
        self._language = language_code.split("-")[0].lower() or "en"
        self._rest = ""

    def push(self, piece: str) -> list[str]:
        """The sentences that this piece completes."""
        *whole, self._rest = self._parts(self._rest + piece)
        return _sayable(whole)

    def flush(self) -> list[str]:
        """The last sentence, complete or not; none when nothing is left."""
        rest, self._rest = self._rest, ""
        return _sayable([rest])

    def _parts(self, text: str) -> list[str]:
        """The sentences of `text`, at least one. Joined they are `text`."""
        sentences = segment(self._language, text) or [text]
        if self._language == "en":
            sentences = _joined(sentences)
        return [part for sentence in sentences for part in _of_bearable_length(sentence)]


def _joined(sentences: list[str]) -> list[str]:
    """Sentences that go on behind an abbreviation, as one."""
    joined: list[str] = []
    for sentence in sentences:
        before, first = joined[-1][-24:] if joined else "", sentence[:1]
        small = first.islower() or first.isdigit()
        glued = before and not before[-1].isspace() and (small or first in _WITHIN or before[-2:-1] in ("", " "))
        goes_on = glued or _GOES_ON.search(before) or (small and _GOES_ON_SMALL.search(before))
        if goes_on and first.strip():
            joined[-1] += sentence
        else:
            joined.append(sentence)
    return joined


def _of_bearable_length(sentence: str) -> list[str]:
    parts = []
    while len(sentence) > LONGEST:
        at = _cut(sentence)
        parts.append(sentence[:at])
        sentence = sentence[at:]
    return [*parts, sentence]


def _cut(sentence: str) -> int:
    """Where to cut a long sentence: after its last mark of `,;:)`, else its last space, else within a word."""
    for marks in (",;:)", " \t\n"):
        at = max(sentence.rfind(mark, LONGEST // 2, LONGEST) for mark in marks)
        if at > 0:
            return at + 1
    return LONGEST


def _sayable(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts if has_words(text)]
