"""Reads github.com/cmusphinx/cmudict's cmudict.dict: words, their pronunciations, and which words are held out."""

from __future__ import annotations

import re
from pathlib import Path
from zlib import crc32

HELD_OUT_IN = 20  # one word in 20 is held out of the letter-to-sound models

_WORD = re.compile(r"[a-z']+")

Pronunciation = tuple[str, ...]


def read(path: Path) -> dict[str, list[Pronunciation]]:
    """Words of letters and apostrophes with their pronunciations, the dictionary's first one first."""
    entries: dict[str, list[Pronunciation]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, phones = line.partition("#")[0].strip().partition(" ")
        word = name.partition("(")[0]
        if _WORD.fullmatch(word) and phones:
            entries.setdefault(word, []).append(tuple(phones.split()))
    return entries


def is_held_out(word: str) -> bool:
    return crc32(word.encode()) % HELD_OUT_IN == 0
