"""The library `sentencex`, without the texts at which it panics."""

from __future__ import annotations

import re

import sentencex

# A space of several bytes before a full stop: behind an initial ("plan B .") the library takes it for one of a byte.
_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f](?=\.)")


def segment(language: str, text: str) -> list[str]:
    """The sentences of `text`; joined they are `text`. language: ISO 639-1; the library knows rules for many"""
    if text.isascii() or not _WIDE_SPACE.search(text):
        whole: list[str] = sentencex.segment(language, text)
        return whole
    sentences, end = list[str](), 0
    for sentence in sentencex.segment(language, _WIDE_SPACE.sub(" ", text)):
        sentences.append(text[end : end + len(sentence)])
        end += len(sentence)
    return sentences
