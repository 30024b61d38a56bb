"""A joint n-gram model of graphones: interpolated Kneser-Ney, pruned by what an n-gram changes, packed for csm_text."""

from __future__ import annotations

import json
import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from csm_text.pronunciation.letters import END, START, STEP

Ngram = tuple[int, ...]
Rows = Sequence[Sequence[int]]  # of each word, its graphones between START and END


class Model:
    """Log probabilities of n-grams of each order, and the weights of contexts that fail."""

    def __init__(self, rows: Rows, order: int) -> None:
        self.order = order
        self.counts = _counts(rows, order)
        self.log_probabilities: list[dict[Ngram, float]] = []
        size = 1 + max(max(row) for row in rows)
        lower: dict[Ngram, float] = {(): 1.0 / (size - 1)}
        for length in range(1, order + 1):
            lower = _interpolated(_kneser_ney(self.counts, length), lower)
            self.log_probabilities.append({ngram: math.log(p) for ngram, p in lower.items()})
        self.log_probabilities[0][START,] = math.log(1e-6)  # never predicted, and a context of many
        self.weights: list[dict[Ngram, float]] = []
        self.weigh()

    def prune(self, threshold: float) -> None:
        """Drops n-grams that change the log probability of the training text by less, and lead to no kept one."""
        for length in range(self.order, 2, -1):
            table, longer = self.log_probabilities[length - 1], self.log_probabilities[length:]
            contexts = {ngram[:-1] for ngram in longer[0]} if longer else set()
            for ngram in list(table):
                gain = table[ngram] - self.backed_off(ngram)
                if self.counts[length - 1][ngram] * abs(gain) < threshold and ngram not in contexts:
                    del table[ngram]
        self.weigh()

    def log_probability(self, ngram: Ngram) -> float:
        known = self.log_probabilities[len(ngram) - 1].get(ngram)
        return self.backed_off(ngram) if known is None else known

    def backed_off(self, ngram: Ngram) -> float:
        """The log probability as if the n-gram were not in the model."""
        context = ngram[:-1]
        weight = self.weights[len(context) - 1].get(context, 0.0) if context else 0.0
        return weight + (self.log_probability(ngram[1:]) if context else math.log(1e-6))

    def weigh(self) -> None:
        """Weights such that the probabilities after every context make one."""
        self.weights = []
        for length in range(1, self.order):
            kept: dict[Ngram, float] = defaultdict(float)
            shorter: dict[Ngram, float] = defaultdict(float)
            self.weights.append({})
            for ngram, value in self.log_probabilities[length].items():
                kept[ngram[:-1]] += math.exp(value)
                shorter[ngram[:-1]] += math.exp(self.log_probability(ngram[1:]))
            for context in kept:
                left = max(1 - kept[context], 1e-4) / max(1 - shorter[context], 1e-4)
                self.weights[-1][context] = math.log(left)

    def write(self, path: Path, graphones: Sequence[tuple[str, Sequence[str]]]) -> None:
        orders, parts = [], []
        index: dict[Ngram, int] = {(): 0}
        for length, table in enumerate(self.log_probabilities, 1):
            keyed = sorted((index[ngram[:-1]] * len(graphones) + ngram[-1], ngram) for ngram in table)
            index = {ngram: place for place, (_, ngram) in enumerate(keyed)}
            keys = np.array([key for key, _ in keyed])
            differences = _packed(np.diff(keys, prepend=0))
            costs = [min(round(-table[ngram] / STEP), 255) for _, ngram in keyed]
            weights = self.weights[length - 1] if length < self.order else {}
            added = [max(-128, min(round(-weights.get(ngram, 0.0) / STEP), 127)) for _, ngram in keyed]
            orders.append([len(keyed), len(differences)])
            parts.append(differences + bytes(costs) + np.array(added, np.int8).tobytes())
        header = json.dumps({"graphones": graphones, "orders": orders}).encode() + b"\n"
        path.write_bytes(lzma.compress(header + b"".join(parts), preset=9))


def _counts(rows: Rows, order: int) -> list[Counter[Ngram]]:
    counts: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for row in rows:
        for end in range(1, len(row) + 1):
            for length in range(1, min(order, end) + 1):
                counts[length - 1][tuple(row[end - length : end])] += 1
    return counts


def _kneser_ney(counts: list[Counter[Ngram]], length: int) -> Counter[Ngram]:
    """Below the highest order, an n-gram counts by how many graphones it follows; one at a word's start as it is."""
    if length == len(counts):
        used = Counter(counts[length - 1])
    else:
        used = Counter(ngram[1:] for ngram in counts[length])
        used.update({ngram: count for ngram, count in counts[length - 1].items() if ngram[0] == START})
    if length == 1:
        used.pop((START,), None)
    return used


def _interpolated(counts: Counter[Ngram], lower: dict[Ngram, float]) -> dict[Ngram, float]:
    """Three discounts by count (Chen and Goodman, 1998)."""
    n = [sum(1 for count in counts.values() if count == times) for times in (1, 2, 3, 4)]
    y = n[0] / (n[0] + 2 * n[1])
    discounts = [0.0] + [max(k + 1 - (k + 2) * y * n[k + 1] / max(n[k], 1), 0.1) for k in range(3)]
    totals: Counter[Ngram] = Counter()
    kept_back: dict[Ngram, float] = defaultdict(float)
    for ngram, count in counts.items():
        totals[ngram[:-1]] += count
        kept_back[ngram[:-1]] += discounts[min(count, 3)]
    result = {}
    for ngram, count in counts.items():
        context = ngram[:-1]
        below = lower[ngram[1:]] if ngram[1:] in lower else lower[()]
        result[ngram] = (count - discounts[min(count, 3)] + kept_back[context] * below) / totals[context]
    return result


def _packed(values: np.ndarray) -> bytes:
    packed = bytearray()
    for value in values.tolist():
        while value > 127:
            packed.append(value & 127 | 128)
            value >>= 7
        packed.append(value)
    return bytes(packed)


def sequence(graphones: Sequence[int]) -> list[int]:
    return [START, *graphones, END]
