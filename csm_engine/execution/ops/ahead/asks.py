"""What one launch asks memory for. No triton: on a CPU it is passed through too, and nothing is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

MOST_KEY_BYTES = 2**25  # keys and values together: an H100's L2 cache has 50 MB, and weights are asked for too
_LEAST = 16  # bytes that can be asked for

asks_ahead = True  # whether a new frame step's launches ask for anything; a measurement compares both


@dataclass(frozen=True, slots=True)
class CachedRows:
    """Keys and values that rows are about to read. keys, values: (S, L, G, E); slots, positions: (B,) int64."""

    keys: Tensor
    values: Tensor
    slots: Tensor
    positions: Tensor

    @property
    def position_bytes(self) -> int:
        """Of one position's keys."""
        return self.keys.shape[2] * self.keys.shape[3] * self.keys.element_size()

    @property
    def most_positions(self) -> int:
        """Of each row that are asked for: so many that those of all rows stay in the cache. 0: they cannot be."""
        if self.position_bytes % _LEAST:
            return 0
        return min(self.keys.shape[1], MOST_KEY_BYTES // (2 * self.position_bytes * len(self.slots)))


@dataclass(frozen=True, slots=True)
class Ahead:
    """matrix: weights that the next large product reads; rows: what the next attention does."""

    matrix: Tensor | None = None
    rows: CachedRows | None = None

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The kernel's arguments."""
        rows = self.rows
        return (self.matrix, *((rows.keys, rows.values, rows.slots, rows.positions) if rows else (None,) * 4))

    def constants(self) -> dict[str, int]:
        """The kernel's constants, as `ask_at_end` has them."""
        rows = self.rows
        return {
            "AHEAD_MATRIX": self.matrix_bytes,
            "AHEAD_POSITIONS": rows.most_positions if rows else 0,
            "AHEAD_SLOT": rows.keys.shape[1] if rows else 0,
            "AHEAD_POSITION": rows.position_bytes if rows else 0,
        }

    @property
    def matrix_bytes(self) -> int:
        """That are asked for."""
        return 0 if self.matrix is None else self.matrix.numel() * self.matrix.element_size() // _LEAST * _LEAST


NOTHING = Ahead()
