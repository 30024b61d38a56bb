"""The texts of the evaluation, in sets: everyday talk, figures, names, held-out natural text, the domain.

The first three are files of texts/, written by hand for this alone; nothing is trained or chosen on them, nor on any
text that has six words in a row with them (texts.py). "development" is for choosing how to sample, and for nothing
else. Of a text with figures, the words that may be heard stand beside it, after a tab; readings are apart by "|".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from recipes.builtin_voice.evaluation.recognizer import word_errors
from recipes.builtin_voice.sentences import sentences
from recipes.builtin_voice.texts import texts

FOLDER = Path(__file__).parent / "texts"
SETS = ("everyday", "figures", "names", "free text", "domain")
DEVELOPMENT = "development"
SEED = 31
NUM_DRAWN = 50  # texts of "free text" and of "domain"


@dataclass(frozen=True, slots=True)
class EvaluationText:
    """One text of a set. text: as it is typed. readings: correct ways to speak it, at least one."""

    text: str
    readings: tuple[str, ...]

    def word_errors(self, recognized: str) -> tuple[int, int]:
        """(wrong words, words), by the nearest reading."""
        counts = [word_errors(reading, recognized) for reading in self.readings]
        return min(counts, key=lambda count: count[0] / count[1])


def evaluation_texts(name: str, at_most: int | None = None) -> list[EvaluationText]:
    """The texts of a set. Raises FileNotFoundError for an unknown set."""
    match name:
        case "free text":
            chosen = islice(_natural(), at_most or NUM_DRAWN)
            return [EvaluationText(text, (text,)) for text in chosen]
        case "domain":
            chosen = islice(sentences("held-out", SEED), at_most or NUM_DRAWN)
            return [EvaluationText(text, (text,)) for text in chosen]
        case _:
            lines = (FOLDER / f"{name}.txt").read_text().splitlines()[:at_most]
            return [_judged(line) for line in lines]


def _judged(line: str) -> EvaluationText:
    text, _, readings = line.partition("\t")
    return EvaluationText(text, tuple(readings.split("|")) if readings else (text,))


def _natural() -> Iterator[str]:
    """WordNet's held-out examples and definitions."""
    return texts("held-out", SEED, shares={"examples": 0.7, "definitions": 0.3})
