"""Common prefixes of prompts and of what slots hold. No torch.

Rows are compared by content (text tokens and codes), never by a hash alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from csm_engine.model.prompt import Rows

Key = TypeVar("Key")


class Prefix:
    """The inputs that keys and values were computed from. rows: (T, K + 1) int32, one a position, -1 where masked."""

    def __init__(self, rows: Rows) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.rows)

    def has_in_common(self, other: Prefix, longer_than: int = 0) -> int:
        """Number of equal leading rows, if it is greater than `longer_than`; otherwise 0.

        Row `longer_than` is compared first. Prompts with a common beginning mostly differ from the same row on, so this
        one comparison rules most of them out.
        """
        length = min(len(self), len(other))
        if length <= longer_than or self.rows[longer_than].tobytes() != other.rows[longer_than].tobytes():
            return 0
        differs = (self.rows[:length] != other.rows[:length]).any(axis=1)
        common = int(differs.argmax()) if differs.any() else length
        return common if common > longer_than else 0


def best_match(wanted: Prefix, known: Iterable[tuple[Key, Prefix]], longer_than: int = 0) -> tuple[Key | None, int]:
    """The key of the longest common prefix and its length in rows; the first key on a tie, None without a match."""
    best, length = None, longer_than
    for key, prefix in known:
        if common := wanted.has_in_common(prefix, length):
            best, length = key, common
    return best, length
