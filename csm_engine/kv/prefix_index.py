"""Finds which of many prefixes has the longest beginning in common with a prompt, without comparing each. No torch.

A table holds the fingerprints of all rows: one line per position, one column per prefix. One vector comparison of a
few lines finds the prefixes that may have given rows there. Only those are compared by content.
"""

from __future__ import annotations

import numpy as np

from csm_engine.kv.prefix import EMPTY, Fingerprints, Prefix

_ROWS_BEFORE = 7  # compared beside the next row: unlike prompts often have one token in common at some position


class PrefixIndex:
    """Prefixes by key. Each has a rank of its own; among equally long matches the one of the lowest rank is chosen."""

    def __init__(self, capacity: int = 16) -> None:
        """capacity: initial number of columns; it doubles when needed."""
        self._columns: dict[int, int] = {}  # by key
        self._free_columns = list(range(capacity - 1, -1, -1))
        self._keys = [-1] * capacity
        self._prefixes = [EMPTY] * capacity
        self._lengths = np.zeros(capacity, np.int64)
        self._ranks = np.zeros(capacity, np.int64)
        self._fingerprints: Fingerprints = np.zeros((64, capacity), np.int32)

    def put(self, key: int, prefix: Prefix, rank: int) -> None:
        """Adds a prefix, or replaces the one of the key."""
        if key not in self._columns:
            self._columns[key] = self._new_column()
            self._keys[self._columns[key]] = key
        column, length = self._columns[key], len(prefix)
        unchanged = prefix.fingerprints_in_common(self._prefixes[column])
        self._prefixes[column], self._lengths[column], self._ranks[column] = prefix, length, rank
        while length > len(self._fingerprints):
            self._fingerprints = np.concatenate([self._fingerprints, np.zeros_like(self._fingerprints)])
        self._fingerprints[unchanged:length, column] = prefix.fingerprints[unchanged:]

    def rerank(self, key: int, rank: int) -> None:
        self._ranks[self._columns[key]] = rank

    def drop(self, key: int) -> None:
        self.put(key, EMPTY, 0)
        self._free_columns.append(self._columns.pop(key))

    def best_match(self, wanted: Prefix, longer_than: int = 0) -> tuple[int | None, int]:
        """The key of the longest match and its length in rows; None and `longer_than` when no match is longer."""
        best, length = None, longer_than
        last_rank: int | None = None  # candidates are compared by ascending rank, each once
        while self._columns and length < min(len(wanted), len(self._fingerprints)):
            rows = slice(max(0, length - _ROWS_BEFORE), length + 1)
            is_candidate = (self._fingerprints[rows] == wanted.fingerprints[rows, None]).all(axis=0)
            is_candidate &= self._lengths > length
            if last_rank is not None:
                is_candidate &= self._ranks > last_rank
            columns = np.flatnonzero(is_candidate)
            if not len(columns):
                break
            column = int(columns[self._ranks[columns].argmin()])
            last_rank = int(self._ranks[column])
            if common := wanted.rows_in_common(self._prefixes[column], length):
                best, length = self._keys[column], common
        return best, length

    def beginnings_of(self, prefix: Prefix) -> list[int]:
        """Keys of the prefixes, except empty ones, that `prefix` begins with; by ascending rank."""
        columns = np.flatnonzero((self._lengths > 0) & (self._lengths <= len(prefix)))
        ends = self._lengths[columns] - 1
        columns = columns[self._fingerprints[ends, columns] == prefix.fingerprints[ends]]
        columns = columns[self._ranks[columns].argsort()]
        return [self._keys[column] for column in columns.tolist() if _begins_with(prefix, self._prefixes[column])]

    def _new_column(self) -> int:
        if not self._free_columns:
            old = len(self._keys)
            self._free_columns = list(range(2 * old - 1, old - 1, -1))
            self._keys += [-1] * old
            self._prefixes += [EMPTY] * old
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
            self._ranks = np.concatenate([self._ranks, np.zeros_like(self._ranks)])
            self._fingerprints = np.concatenate([self._fingerprints, np.zeros_like(self._fingerprints)], axis=1)
        return self._free_columns.pop()


def _begins_with(prefix: Prefix, beginning: Prefix) -> bool:
    return prefix.rows_in_common(beginning, len(beginning) - 1) == len(beginning)
