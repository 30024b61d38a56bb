"""Cuts a text into sentences, possibly while it is still being written. It knows no RPC.

A sentence is complete when the next one begins, when the writer flushes, or when it is longer than LONGEST. The
library `sentencex` finds the beginnings, by rules and abbreviations of many languages; english.py helps it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from services.gateway.synthesis.texts.english import english
from services.gateway.synthesis.texts.library import segment
from services.gateway.synthesis.texts.words import has_words

LONGEST = 300  # characters; a longer sentence is cut between words
BLOCK = 4096  # characters that are cut at once; at worst the library's time is quadratic, 23 ms for this many


def sentences_of(text: str, language_code: str) -> tuple[str, ...]:
    """The sentences of a complete text. language_code: as for SentenceCutter"""
    cutter = SentenceCutter(language_code)
    return (*(sentence for block in blocks(text) for sentence in cutter.push(block)), *cutter.flush())


def blocks(text: str) -> Iterator[str]:
    """The text in parts of at most BLOCK characters."""
    return (text[at : at + BLOCK] for at in range(0, len(text), BLOCK))


async def one_by_one(sentences: Sequence[str]) -> AsyncIterator[str]:
    """The sentences as an async iterator, which TextSynthesis takes."""
    for sentence in sentences:
        yield sentence


class SentenceCutter:
    """Takes pieces of text and returns sentences. It drops spaces at their ends, and parts without words."""

    def __init__(self, language_code: str) -> None:
        """language_code: BCP-47; English when empty"""
        self._language = language_code.split("-")[0].lower() or "en"
        self._rest = ""

    def push(self, piece: str) -> list[str]:
        """The sentences that this piece completes."""
        *whole, self._rest = self._parts(self._rest + piece)
        return _with_words(whole)

    def flush(self) -> list[str]:
        """The last sentence, complete or not; none when nothing is left."""
        rest, self._rest = self._rest, ""
        return _with_words([rest])

    def _parts(self, text: str) -> list[str]:
        """The sentences of `text`, at least one. Joined they are `text`."""
        sentences = english(text) if self._language == "en" else segment(self._language, text) or [text]
        return [part for sentence in sentences for part in _cut_to_length(sentence)]


def _cut_to_length(sentence: str) -> list[str]:
    parts = []
    while len(sentence) > LONGEST:
        at = _cut_position(sentence)
        parts.append(sentence[:at])
        sentence = sentence[at:]
    return [*parts, sentence]


def _cut_position(sentence: str) -> int:
    """Where to cut a long sentence: after its last mark of `,;:)`, else its last space, else within a word."""
    for marks in (",;:)", " \t\n"):
        at = max(sentence.rfind(mark, LONGEST // 2, LONGEST) for mark in marks)
        if at > 0:
            return at + 1
    return LONGEST


def _with_words(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts if has_words(text)]
