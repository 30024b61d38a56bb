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
from recipes.english_phonemes import dictionary
from recipes.english_phonemes.align import align, learn
from recipes.english_phonemes.ngrams import Model, sequence

FEWEST = 4  # times that a graphone must be seen; words with a rarer one (foreign names, mistakes) are left out
TO_ALIGN = 20_000  # words that the alignment is learned from


def train(words: dict[str, tuple[str, ...]], path: Path, *, order: int, threshold: float) -> None:
    costs = learn(random.Random(1).sample(sorted(words.items()), TO_ALIGN))
    aligned = [row for row in (align(word, phones, costs) for word, phones in words.items()) if row is not None]
    counts = Counter(graphone for row in aligned for graphone in row)
    aligned = [row for row in aligned if all(counts[graphone] >= FEWEST for graphone in row)]
    graphones = [("", ()), ("", ()), *sorted({graphone for row in aligned for graphone in row})]
    index = {graphone: place for place, graphone in enumerate(graphones) if graphone[0]}
    model = Model([sequence([index[graphone] for graphone in row]) for row in aligned], order)
    model.prune(threshold)
    model.write(path, graphones)


def measure(model: LetterModel, entries: dict[str, list[tuple[str, ...]]]) -> dict[str, float]:
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
    entries = {w: p for w, p in dictionary.read(arguments.dictionary).items() if w.isalpha() and len(w) > 1}
    words = {word: p[0] for word, p in entries.items() if not dictionary.is_held_out(word)}
    train(words, arguments.model, order=arguments.order, threshold=arguments.threshold)
    held_out = {word: p for word, p in entries.items() if dictionary.is_held_out(word)}
    print(f"{len(words)} words; {arguments.model.stat().st_size} bytes; {len(held_out)} held out; wrong in %:")
    for name, rate in measure(LetterModel(arguments.model), held_out).items():
        print(f"  {name}: {rate:.1f}", file=sys.stdout)


if __name__ == "__main__":
    main()
