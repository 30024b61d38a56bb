"""Trains the letter-to-sound model of csm_text and measures it on the words that are held out.

    python -m recipes.english_phonemes.letters cmudict.dict csm_text/data/letters.xz

Words of two letters and more with no apostrophe, first pronunciation each; one word in twenty is held out by its own
checksum. Takes half a minute on one core and makes the same file again.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

from csm_text.pronunciation.letters import LetterModel
from csm_text.pronunciation.whole_words import WholeWordModel
from recipes.english_phonemes import dictionary
from recipes.english_phonemes.align import Graphone, align, learn
from recipes.english_phonemes.ngrams import Model, sequence

FEWEST = 4  # occurrences of a graphone; words with a rarer one (foreign names, mistakes) are left out
TO_ALIGN = 20_000  # words that the alignment is learned from


def split(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, list[tuple[str, ...]]]]:
    """Words to train on with their first pronunciation, and words that are held out with all pronunciations."""
    entries = {w: p for w, p in dictionary.read(path).items() if w.isalpha() and len(w) > 1}
    words = {word: p[0] for word, p in entries.items() if not dictionary.is_held_out(word)}
    return words, {word: p for word, p in entries.items() if dictionary.is_held_out(word)}


def aligned(words: dict[str, tuple[str, ...]]) -> tuple[dict[str, list[Graphone]], list[Graphone]]:
    """(the graphones of each training word, all graphones with START and END first), for both models."""
    costs = learn(random.Random(1).sample(sorted(words.items()), TO_ALIGN))
    found = ((word, align(word, phones, costs)) for word, phones in words.items())
    rows = {word: row for word, row in found if row is not None}
    counts = Counter(graphone for row in rows.values() for graphone in row)
    rows = {word: row for word, row in rows.items() if all(counts[graphone] >= FEWEST for graphone in row)}
    return rows, [("", ()), ("", ()), *sorted({graphone for row in rows.values() for graphone in row})]


def train(words: dict[str, tuple[str, ...]], path: Path, *, order: int, threshold: float) -> None:
    rows, graphones = aligned(words)
    index = {graphone: place for place, graphone in enumerate(graphones) if graphone[0]}
    model = Model([sequence([index[graphone] for graphone in row]) for row in rows.values()], order)
    model.prune(threshold)
    model.write(path, graphones)


def measure(model: LetterModel | WholeWordModel, entries: dict[str, list[tuple[str, ...]]]) -> dict[str, float]:
    """Error rates in %: of words and phones against the first pronunciation, of words against the nearest, of words
    and phones without stress."""
    wrong = wrong_of_any = wrong_plain = edits = edits_plain = phones = 0
    for word, pronunciations in entries.items():
        heard, first = model.phones(word), pronunciations[0]
        wrong += heard != first
        wrong_of_any += heard not in pronunciations
        wrong_plain += _plain(heard) != _plain(first)
        edits += distance(heard, first)
        edits_plain += distance(_plain(heard), _plain(first))
        phones += len(first)
    return {
        "words": 100 * wrong / len(entries),
        "words, any pronunciation": 100 * wrong_of_any / len(entries),
        "phones": 100 * edits / phones,
        "words without stress": 100 * wrong_plain / len(entries),
        "phones without stress": 100 * edits_plain / phones,
    }


def report(model: LetterModel | WholeWordModel, held_out: dict[str, list[tuple[str, ...]]]) -> None:
    print(f"{len(held_out)} words held out; wrong in %:")
    for name, rate in measure(model, held_out).items():
        print(f"  {name}: {rate:.1f}", file=sys.stdout)


def distance(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def _plain(phones: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(phone.rstrip("012") for phone in phones)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--order", type=int, default=7)
    parser.add_argument("--threshold", type=float, default=1.0)
    arguments = parser.parse_args()
    words, held_out = split(arguments.dictionary)
    train(words, arguments.model, order=arguments.order, threshold=arguments.threshold)
    print(f"{len(words)} words; {arguments.model.stat().st_size} bytes")
    report(LetterModel(arguments.model), held_out)


if __name__ == "__main__":
    main()
