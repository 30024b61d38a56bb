"""Natural text from WordNet (Debian's package `wordnet-base`, Princeton's licence): examples, definitions, names.

WordNet 3.0 gives each of its 117,659 meanings a gloss: a definition, and often examples in quotation marks. Both are
written by people and touch nearly every English word; its proper nouns are places, people, peoples and works. What has
figures, abbreviations or signs in it is left out: these are the text front end's business (csm_text).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path("/usr/share/wordnet")
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
LENGTHS = range(3, 16)  # words of a text
RAREST_NAME = 2.3  # on Zipf's scale: about twice in a hundred million words
RAREST_WORD = 3.0

_NAME = re.compile(r"[A-Z][a-z]+(_[A-Z][a-z]+)*")
_QUOTED = re.compile(r'"([^"]+)"')
_BRACKETED = re.compile(r"\s*\([^)]*\)\s*")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z' ,;:?!-]*[A-Za-z][.?!]?")


@dataclass(frozen=True)
class WordNet:
    examples: tuple[str, ...]  # sentences, as they are written but for the capital and the full stop
    definitions: tuple[str, ...]
    names: tuple[str, ...]  # of one to three words
    nouns: tuple[str, ...]  # common ones that are used, of one word
    adjectives: tuple[str, ...]


@cache
def read_wordnet(folder: Path = FOLDER) -> WordNet:
    """Raises FileNotFoundError where the package is missing."""
    examples: dict[str, None] = {}
    definitions: dict[str, None] = {}
    lemmas: dict[str, dict[str, None]] = {part: {} for part in PARTS_OF_SPEECH}
    for part, words, gloss in _meanings(folder):
        lemmas[part] |= dict.fromkeys(words)
        examples |= dict.fromkeys(_texts(_QUOTED.findall(gloss)))
        definitions |= dict.fromkeys(_texts(_BRACKETED.sub(" ", gloss.split('"')[0]).split(";")))
    names = [word.replace("_", " ") for word in lemmas["noun"] if _NAME.fullmatch(word)]
    return WordNet(
        tuple(examples),
        tuple(definitions),
        tuple(name for name in names if all(_zipf(word) > RAREST_NAME for word in name.split())),
        _common(lemmas["noun"]),
        _common(lemmas["adj"]),
    )


def _meanings(folder: Path) -> Iterator[tuple[str, list[str], str]]:
    """Part of speech, words and gloss of each meaning: wndb(5WN)."""
    for part in PARTS_OF_SPEECH:
        with (folder / f"data.{part}").open(encoding="latin-1") as file:
            for line in file:
                if line.startswith("  "):  # the licence
                    continue
                head, _, gloss = line.partition(" | ")
                fields = head.split()
                count = int(fields[3], 16)
                yield part, fields[4 : 4 + 2 * count : 2], gloss.strip()


def _texts(pieces: list[str]) -> Iterator[str]:
    for piece in pieces:
        text = " ".join(piece.replace("...", ", ").replace("--", ", ").split()).replace(" ,", ",").strip(" ;,:")
        if _PLAIN.fullmatch(text) and len(text.split()) in LENGTHS and not re.search(r"[A-Z]{2}|\b[B-HJ-Z]\b", text):
            yield text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def _zipf(word: str) -> float:
    """The frequency in English on Zipf's scale: the logarithm to base 10 of uses in a billion words."""
    from wordfreq import zipf_frequency  # takes a second

    return float(zipf_frequency(word, "en"))


def _common(words: dict[str, None]) -> tuple[str, ...]:
    plain = (word for word in words if re.fullmatch(r"[a-z]{3,}", word))
    return tuple(word for word in plain if _zipf(word) > RAREST_WORD)
