"""Global memory, and the shared memory of a program with a record of which warp touches it when.

Between two barriers of a program, two of its warps touch a byte of shared memory only if both read it; anything else is
a Race. (Writing what stands there already is nothing.) A copy that is on its way has destroyed what it will overwrite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tests.support.kernels.ptx.values import Lanes

SHARED_BASE = 1024  # swizzled tiles begin at multiples of it
_UNWRITTEN = 0xFF  # in bfloat16, float16 and float32 no number
_WARPS = 64  # more than a program has
_SEVERAL = _WARPS - 1
_PLACES = np.arange(64)


class Race(AssertionError):
    """Two warps touch the same bytes, or a warp and its own running copy or product do."""


class OutOfBounds(AssertionError):
    """An access outside the tensors of a launch, or outside a program's shared memory."""


class GlobalMemory:
    """The tensors of a launch, at different addresses."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._bytes: list[Lanes] = []
        self._base: dict[int, int] = {}  # of a tensor's storage
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._base:
                self._base[storage.data_ptr()] = (len(self._bytes) + 1) << 32
                whole = torch.tensor([], dtype=torch.uint8).set_(storage)
                self._bytes.append(whole.numpy())

    def address(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        return self._base[storage.data_ptr()] + int(tensor.storage_offset()) * tensor.element_size()

    def read(self, addresses: Lanes, size: int, active: Lanes) -> Lanes:
        """The bytes at addresses, (lanes, size) uint8; zeros for inactive lanes."""
        result = np.zeros((len(addresses), size), np.uint8)
        for number, lanes in self._places(addresses, size, active):
            offset = (addresses[lanes] & np.uint64(0xFFFFFFFF)).astype(np.int64)
            result[lanes] = self._bytes[number][offset[:, None] + np.arange(size)]
        return result

    def write(self, addresses: Lanes, values: Lanes, active: Lanes) -> None:
        """values: (lanes, size) uint8."""
        for number, lanes in self._places(addresses, values.shape[1], active):
            offset = (addresses[lanes] & np.uint64(0xFFFFFFFF)).astype(np.int64)
            self._bytes[number][offset[:, None] + np.arange(values.shape[1])] = values[lanes]

    def check(self, addresses: Lanes, size: int, active: Lanes) -> None:
        """Raises: OutOfBounds."""
        self._places(addresses, size, active)

    def _places(self, addresses: Lanes, size: int, active: Lanes) -> list[tuple[int, Lanes]]:
        """For each tensor, the lanes whose addresses are in it."""
        if not active.any():
            return []
        places = []
        owner = (addresses >> np.uint64(32)).astype(np.int64) - 1
        one = owner[active.argmax()]
        same = owner == one
        for number in (one,) if same[active].all() else np.unique(owner[active]):
            lanes = np.flatnonzero(active & (owner == number))
            last = int((addresses[lanes] & np.uint64(0xFFFFFFFF)).max()) + size
            if not 0 <= number < len(self._bytes) or last > len(self._bytes[number]):
                raise OutOfBounds(f"global memory: {size} bytes that end at {last} of tensor {number}")
            if (addresses[lanes] % np.uint64(size)).any() and size <= 16:
                raise OutOfBounds(f"global memory: {size} bytes at no multiple of {size}")
            places.append((int(number), lanes))
        return places


class SharedMemory:
    """The shared memory of one program."""

    def __init__(self, size: int) -> None:
        self.bytes = np.full(size, _UNWRITTEN, np.uint8)
        self._now = 0  # the number of barriers that the program has passed, times _WARPS
        self._written = np.full(size, -1, np.int32)  # when, and by which warp
        self._read = np.full(size, -1, np.int32)

    def barrier(self) -> None:
        self._now += _WARPS

    def read(self, addresses: Lanes, size: int, warp: int) -> Lanes:
        """The bytes at addresses, (n, size) uint8. addresses: (n,)."""
        place, me = self._place(addresses, size), self._now + warp
        written, read = self._written[place], self._read[place]
        if ((written >= self._now) & (written != me)).any():
            raise Race(f"warp {warp} reads what another has written since the last barrier")
        self._read[place] = np.where((read >= self._now) & (read != me), self._now + _SEVERAL, me)
        return self.bytes[place]

    def write(self, addresses: Lanes, values: Lanes, warp: int) -> None:
        """values: (n, size) uint8."""
        place, me = self._place(addresses, values.shape[1]), self._now + warp
        written, read = self._written[place], self._read[place]
        others = ((written >= self._now) & (written != me)) | ((read >= self._now) & (read != me))
        if others.any() and (others & (self.bytes[place] != values)).any():
            raise Race(f"warp {warp} writes what another has touched since the last barrier")
        self.bytes[place] = values
        self._written[place] = me

    def destroy(self, addresses: Lanes, size: int, warp: int) -> None:
        """What a copy does that is on its way: its bytes are no values now."""
        self.write(addresses, np.full((len(addresses), size), _UNWRITTEN, np.uint8), warp)

    def _place(self, addresses: Lanes, size: int) -> Lanes:
        first = addresses.astype(np.int64) - SHARED_BASE
        if len(first) and (first.min() < 0 or first.max() + size > len(self.bytes)):
            raise OutOfBounds(f"shared memory: {size} bytes at {int(first.min())} to {int(first.max())}")
        return first[:, None] + _PLACES[:size]
