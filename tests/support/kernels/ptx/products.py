"""Asynchronous products of a warp group (wgmma).

Until the warp waits for it, a product's sums are no numbers. What it reads from shared memory must be there when it
starts, and still be there when the warp has waited: it may read at any time between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.support.kernels.ptx.memory import Race, SharedMemory
from tests.support.kernels.ptx.tensor_cores import from_sums, left_bf16, tile_addresses, to_sums
from tests.support.kernels.ptx.values import LANES, Lanes, from_bf16

INNER = 16  # values of bfloat16 that one instruction sums over
_ROWS = 16  # of a warp
NO_NUMBER = np.full(LANES, np.nan, np.float32)


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile in shared memory: (rows, INNER) values of two bytes. first: of 16 rows that are read; None: all are."""

    descriptor: int
    rows: int
    transposed: bool
    first: int | None = None

    def read(self, shared: SharedMemory, warp: int) -> Lanes:
        """(16 or `rows`, INNER) uint16."""
        places = tile_addresses(self.descriptor, self.rows, INNER, transposed=self.transposed)
        if self.first is not None:
            units = slice(self.first // 8, self.first // 8 + 2)
            places = places[:, units] if self.transposed else places[self.first : self.first + _ROWS]
        values = shared.read(places.ravel(), 16, warp).view(np.uint16).reshape(len(places), -1)
        return values.T if self.transposed else values


@dataclass(frozen=True, slots=True)
class _Product:
    sums: tuple[str, ...]  # registers
    tiles: tuple[Tile, ...]
    seen: tuple[Lanes, ...]  # of the tiles, when it started


class Products:
    """The running products of one warp."""

    def __init__(self, shared: SharedMemory, warp: int) -> None:
        self._shared, self._warp = shared, warp
        self._open: list[_Product] = []
        self._groups: list[list[_Product]] = []
        self._values: dict[tuple[str, ...], Lanes] = {}

    def start(
        self, sums: tuple[str, ...], before: list[Lanes] | None, left: Sequence[Lanes] | Tile, right: Tile
    ) -> None:
        """Starts a product. before: the sums to add to, None for zeros. left: four registers or a tile of 64 rows."""
        tiles = (left, right) if isinstance(left, Tile) else (right,)
        seen = tuple(tile.read(self._shared, self._warp) for tile in tiles)
        rows = from_bf16(seen[0]) if isinstance(left, Tile) else left_bf16(list(left))
        product = rows @ from_bf16(seen[-1]).T
        if before is not None:
            product = product + (self._values[sums] if sums in self._values else to_sums(before))
        self._values[sums] = product
        self._open.append(_Product(sums, tiles, seen))

    def commit(self) -> None:
        self._groups.append(self._open)
        self._open = []

    def wait(self, most: int) -> dict[str, Lanes]:
        """Waits until at most that many groups are running. Returns the registers that have their sums now."""
        ended: set[tuple[str, ...]] = set()
        while len(self._groups) > most:
            for product in self._groups.pop(0):
                for tile, seen in zip(product.tiles, product.seen, strict=True):
                    if not np.array_equal(tile.read(self._shared, self._warp), seen):
                        raise Race(f"warp {self._warp}: a tile has changed while a product read it")
                ended.add(product.sums)
        still = {product.sums for group in (*self._groups, self._open) for product in group}
        results: dict[str, Lanes] = {}
        for sums in ended - still:
            results |= dict(zip(sums, from_sums(self._values.pop(sums)), strict=True))
        return results
