"""Common prefixes of prompts and of what slots hold. No torch.

Rows are compared by content (text tokens and codes), never by a fingerprint alone.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from csm_engine.model.prompt import Rows

Fingerprints = npt.NDArray[np.int32]

_random = np.random.default_rng()  # unseeded, so that no caller can craft prompts with equal fingerprints


class Prefix:
    """The inputs that keys and values are computed from. rows: (T, K + 1) int32, one per position, -1 where masked."""

    _factors: dict[int, npt.NDArray[np.int32]] = {}  # random odd numbers, by the width of rows

    def __init__(self, rows: Rows) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, length: int) -> Prefix:
        """Its first `length` rows, without a copy."""
        shorter = Prefix(self.rows[:length])
        shorter.fingerprints = self.fingerprints[:length]
        return shorter

    @cached_property
    def fingerprints(self) -> Fingerprints:
        """(T,) int32 hashes of the rows."""
        width = self.rows.shape[1]
        if width not in self._factors:
            odd: Fingerprints = _random.integers(-(2**30), 2**30, width, np.int32) * 2 + 1
            self._factors[width] = odd
        fingerprints: Fingerprints = self.rows @ self._factors[width]
        return fingerprints

    def fingerprints_in_common(self, other: Prefix) -> int:
        """Number of leading rows with equal fingerprints."""
        length = min(len(self), len(other))
        return _leading_true(self.fingerprints[:length] == other.fingerprints[:length]) if length else 0

    def rows_in_common(self, other: Prefix, longer_than: int = 0) -> int:
        """Number of equal leading rows, if it is greater than `longer_than`; otherwise 0.

        Row `longer_than` is compared first. Many prompts begin with the same voice prompt and differ from the same row
        on, so this one comparison rules most of them out.
        """
        length = min(len(self), len(other))
        if length <= longer_than or self.rows[longer_than].tobytes() != other.rows[longer_than].tobytes():
            return 0
        common = self.fingerprints_in_common(other)
        if not np.array_equal(self.rows[:common], other.rows[:common]):
            common = _leading_true((self.rows[:common] == other.rows[:common]).all(axis=1))
        return common if common > longer_than else 0


EMPTY = Prefix(np.zeros((0, 1), dtype=np.int32))


def _leading_true(values: npt.NDArray[np.bool_]) -> int:
    """Number of true values before the first false one. values: at least one."""
    first = int(values.argmin())
    return first if not values[first] else len(values)
