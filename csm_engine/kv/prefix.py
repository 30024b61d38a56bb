"""Finds who begins like a prompt. No torch.

Rows are compared by content (text tokens and codes), never by a hash alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from csm_engine.model.prompt import Rows

Key = TypeVar("Key")


class Prefix:
    """Rows that stand for keys and values, position by position. rows: (T, K + 1) int32, -1 where nothing is."""

    def __init__(self, rows: Rows) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.rows)

    def has_in_common(self, other: Prefix, longer_than: int = 0) -> int:
        """Number of leading rows that are equal, if it is greater than that, otherwise 0.

        Most of those that begin alike part at the same row; a look at one row is enough to pass over them.
        """
        length = min(len(self), len(other))
        if length <= longer_than or self.rows[longer_than].tobytes() != other.rows[longer_than].tobytes():
            return 0
        differs = (self.rows[:length] != other.rows[:length]).any(axis=1)
        common = int(differs.argmax()) if differs.any() else length
        return common if common > longer_than else 0


def best_match(wanted: Prefix, known: Iterable[tuple[Key, Prefix]], longer_than: int = 0) -> tuple[Key | None, int]:
    """Who of the known has most leading rows in common with what is wanted, and how many; the first among equals."""
    best, length = None, longer_than
    for key, prefix in known:
        if common := wanted.has_in_common(prefix, length):
            best, length = key, common
    return best, length
