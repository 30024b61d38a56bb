"""Which of many prefixes has most in common with a prompt, without a look at each of them. No torch.

A table has the fingerprint of every row: a line for each position, a column for each prefix. So one operation on a line
says which prefixes may have a given row there. Those are compared by content.
"""

from __future__ import annotations

import numpy as np

from csm_engine.kv.prefix import NOTHING, Fingerprints, Prefix


class PrefixIndex:
    """Prefixes by key. Each has a place, a number of its own: among equally good prefixes the one of the least place
    is chosen.
    """

    def __init__(self, capacity: int = 16) -> None:
        """capacity: prefixes that there is room for at first."""
        self._columns: dict[int, int] = {}  # by key
        self._free = list(range(capacity - 1, -1, -1))
        self._keys = [-1] * capacity
        self._prefixes = [NOTHING] * capacity
        self._lengths = np.zeros(capacity, np.int64)
        self._places = np.zeros(capacity, np.int64)
        self._fingerprints: Fingerprints = np.zeros((64, capacity), np.int32)

    def put(self, key: int, prefix: Prefix, place: int) -> None:
        """Adds a prefix, or replaces the key's."""
        if key not in self._columns:
            self._columns[key] = self._new_column()
            self._keys[self._columns[key]] = key
        column, length = self._columns[key], len(prefix)
        known = prefix.fingerprints_in_common(self._prefixes[column])
        self._prefixes[column], self._lengths[column], self._places[column] = prefix, length, place
        while length > len(self._fingerprints):
            self._fingerprints = np.concatenate([self._fingerprints, np.zeros_like(self._fingerprints)])
        if known < length:
            self._fingerprints[known:length, column] = prefix.fingerprints[known:]

    def move(self, key: int, place: int) -> None:
        self._places[self._columns[key]] = place

    def drop(self, key: int) -> None:
        self.put(key, NOTHING, 0)
        self._free.append(self._columns.pop(key))

    def best_match(self, wanted: Prefix, longer_than: int = 0) -> tuple[int | None, int]:
        """The key of the longest common prefix and its length in rows; None and `longer_than` without a longer one."""
        best, length = None, longer_than
        last_place: int | None = None  # places are looked at in their order, each once
        while self._columns and length < min(len(wanted), len(self._fingerprints)):
            may = self._fingerprints[length] == wanted.fingerprints[length]
            may &= self._lengths > length
            (columns,) = may.nonzero()
            if last_place is not None:
                columns = columns[self._places[columns] > last_place]
            if not len(columns):
                break
            places = self._places[columns]
            at = places.argmin()
            column, last_place = int(columns[at]), int(places[at])
            if common := wanted.rows_in_common(self._prefixes[column], length):
                best, length = self._keys[column], common
        return best, length

    def beginnings_of(self, prefix: Prefix) -> list[int]:
        """Keys of those that `prefix` begins with as a whole, but for empty ones, by place."""
        columns = np.flatnonzero((self._lengths > 0) & (self._lengths <= len(prefix)))
        ends = self._lengths[columns] - 1
        columns = columns[self._fingerprints[ends, columns] == prefix.fingerprints[ends]]
        columns = columns[self._places[columns].argsort()]
        found = [column for column in columns.tolist() if self._begins(prefix, self._prefixes[column])]
        return [self._keys[column] for column in found]

    @staticmethod
    def _begins(prefix: Prefix, beginning: Prefix) -> bool:
        return prefix.rows_in_common(beginning, len(beginning) - 1) == len(beginning)

    def _new_column(self) -> int:
        if not self._free:
            old = len(self._keys)
            self._free = list(range(2 * old - 1, old - 1, -1))
            self._keys += [-1] * old
            self._prefixes += [NOTHING] * old
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
            self._places = np.concatenate([self._places, np.zeros_like(self._places)])
            self._fingerprints = np.concatenate([self._fingerprints, np.zeros_like(self._fingerprints)], axis=1)
        return self._free.pop()
