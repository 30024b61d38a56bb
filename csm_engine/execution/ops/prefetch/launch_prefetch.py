"""What one launch prefetches into the GPU's L2 cache for later launches. No triton: on a CPU it is ignored."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

MOST_KEY_BYTES = 2**25  # keys and values together; an H100's L2 cache has 50 MB, and weights are prefetched too
_LEAST = 16  # granularity of a prefetch, in bytes

enabled = True  # whether new frame steps prefetch at all; benchmarks switch it off to compare


@dataclass(frozen=True, slots=True)
class CachedRows:
    """Keys and values that rows are about to read. keys, values: (S, L, G, E); slots, positions: (B,) int64."""

    keys: Tensor
    values: Tensor
    slots: Tensor
    positions: Tensor

    @property
    def position_bytes(self) -> int:
        """Bytes of one position's keys."""
        return self.keys.shape[2] * self.keys.shape[3] * self.keys.element_size()

    @property
    def most_positions(self) -> int:
        """Positions of each row to prefetch, so that those of all rows fit. 0 if their size cannot be prefetched."""
        if self.position_bytes % _LEAST:
            return 0
        return min(self.keys.shape[1], MOST_KEY_BYTES // (2 * self.position_bytes * len(self.slots)))


@dataclass(frozen=True, slots=True)
class Prefetch:
    """matrix: weights of the next large product; rows: keys and values of the next attention."""

    matrix: Tensor | None = None
    rows: CachedRows | None = None

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The kernel's arguments."""
        rows = self.rows
        return (self.matrix, *((rows.keys, rows.values, rows.slots, rows.positions) if rows else (None,) * 4))

    def constants(self) -> dict[str, int]:
        """The kernel's constants, named as in `prefetch_at_end`."""
        rows = self.rows
        return {
            "PREFETCH_MATRIX": self.matrix_bytes,
            "PREFETCH_POSITIONS": rows.most_positions if rows else 0,
            "PREFETCH_SLOT": rows.keys.shape[1] if rows else 0,
            "PREFETCH_POSITION": rows.position_bytes if rows else 0,
        }

    @property
    def matrix_bytes(self) -> int:
        """Bytes to prefetch."""
        return 0 if self.matrix is None else self.matrix.numel() * self.matrix.element_size() // _LEAST * _LEAST


NO_PREFETCH = Prefetch()
