"""Aligns the letters of words with their phones by Viterbi EM: a letter has no, one or two phones.

The pairs that come out ("graphones": a letter with its phones) are the alphabet of the joint n-gram model
(letters.py). Source of the idea: Bisani and Ney, "Joint-sequence models for grapheme-to-phoneme conversion", 2008.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

MOST_PHONES = 2  # of one letter
UNSEEN = -14.0  # log probability of a pair that was not seen yet

Graphone = tuple[str, tuple[str, ...]]
Costs = dict[Graphone, float]


def align(letters: str, phones: tuple[str, ...], log_probabilities: Costs) -> list[Graphone] | None:
    """The most probable graphones, in the order of the letters; None if there are more than two phones to a letter."""
    rows, columns = len(letters), len(phones)
    if columns > MOST_PHONES * rows:
        return None
    best = [0.0] + [-math.inf] * columns  # best log probability of the letters so far, by their number of phones
    back: list[list[int]] = []
    for row in range(rows):
        letter = letters[row]
        new, steps = [-math.inf] * (columns + 1), [0] * (columns + 1)
        for column in range(columns + 1):
            for taken in range(min(MOST_PHONES, column) + 1):
                before = best[column - taken]
                if before == -math.inf:
                    continue
                score = before + log_probabilities.get((letter, phones[column - taken : column]), UNSEEN)
                if score > new[column]:
                    new[column], steps[column] = score, taken
        best = new
        back.append(steps)
    graphones: list[Graphone] = []
    column = columns
    for row in range(rows - 1, -1, -1):
        taken = back[row][column]
        graphones.append((letters[row], phones[column - taken : column]))
        column -= taken
    return graphones[::-1]


def learn(words: Iterable[tuple[str, tuple[str, ...]]], rounds: int = 6) -> Costs:
    """Log probability of a letter's phones, from words with their phones."""
    words = list(words)
    counts: Counter[Graphone] = Counter()
    for letters, phones in words:  # at first, phones are spread evenly over the letters
        for index, letter in enumerate(letters):
            low, high = index * len(phones) // len(letters), (index + 1) * len(phones) // len(letters)
            for start in (low - 1, low, low + 1):
                for length in (1, high - low, 0):
                    if start >= 0 and start + length <= len(phones) and length <= MOST_PHONES:
                        counts[letter, phones[start : start + length]] += 1
    costs = _log(counts)
    for _ in range(rounds):
        counts = Counter(g for letters, phones in words for g in align(letters, phones, costs) or ())
        costs = _log(counts)
    return costs


def _log(counts: Counter[Graphone]) -> Costs:
    totals: Counter[str] = Counter()
    for (letter, _), count in counts.items():
        totals[letter] += count
    return {pair: math.log((count + 0.1) / totals[pair[0]]) for pair, count in counts.items()}
