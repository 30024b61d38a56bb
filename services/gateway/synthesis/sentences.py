"""Cuts a text that is still being written into sentences that can be said. It knows no RPC.

A sentence is whole when the next one has begun, as the library `sentencex` sees it (rules and abbreviations of many
languages), when the writer says so, or when it has grown too long to wait for its end.
"""

from __future__ import annotations

from sentencex import segment

LONGEST = 300  # characters; a longer sentence is cut between words


class SentenceCutter:
    """Pieces in, sentences out; nothing is lost but spaces at their ends and what holds no letter and no digit."""

    def __init__(self, language_code: str) -> None:
        """language_code: BCP-47; English when empty"""
        self._language = language_code.split("-")[0].lower() or "en"
        self._rest = ""

    def push(self, piece: str) -> list[str]:
        """The sentences that are now whole."""
        *whole, self._rest = self._parts(self._rest + piece)
        return _sayable(whole)

    def flush(self) -> list[str]:
        """What is left."""
        rest, self._rest = self._rest, ""
        return _sayable([rest])

    def _parts(self, text: str) -> list[str]:
        """At least one; together they are the text."""
        return [part for sentence in segment(self._language, text) or [text] for part in _of_bearable_length(sentence)]


def _of_bearable_length(sentence: str) -> list[str]:
    parts = []
    while len(sentence) > LONGEST:
        at = _cut(sentence)
        parts.append(sentence[:at])
        sentence = sentence[at:]
    return [*parts, sentence]


def _cut(sentence: str) -> int:
    """Behind the last comma or the like within reach, else behind the last space, else within a word."""
    for marks in (",;:)", " \t\n"):
        at = max(sentence.rfind(mark, LONGEST // 2, LONGEST) for mark in marks)
        if at > 0:
            return at + 1
    return LONGEST


def _sayable(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts if any(character.isalnum() for character in text)]
