"""Asynchronous copies from global to shared memory (cp.async).

Until the warp waits for it, a copy has only destroyed what it will overwrite.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.kernels.ptx.memory import GlobalMemory, SharedMemory
from tests.support.kernels.ptx.values import Lanes


@dataclass(frozen=True, slots=True)
class _Copy:
    to: Lanes
    source: Lanes
    size: int
    copied: Lanes  # which lanes copy; the others write zeros


class Copies:
    """The running copies of one warp."""

    def __init__(self, memory: GlobalMemory, shared: SharedMemory, warp: int) -> None:
        self._memory, self._shared, self._warp = memory, shared, warp
        self._open: list[_Copy] = []
        self._groups: list[list[_Copy]] = []

    def start(self, to: Lanes, source: Lanes, size: int, read: Lanes, active: Lanes) -> None:
        """Starts a copy. to, source: addresses. read: bytes that are read, `size` or 0. Raises: Race."""
        copied = read[active] == size
        if (read[active][~copied] != 0).any():
            raise NotImplementedError(f"a copy of {size} bytes that reads {read[active]}")
        copy = _Copy(to[active], source[active], size, copied)
        self._memory.check(copy.source, size, copy.copied)
        self._shared.destroy(copy.to, size, self._warp)
        self._open.append(copy)

    def commit(self) -> None:
        self._groups.append(self._open)
        self._open = []

    def wait(self, most: int) -> None:
        """Waits until at most that many groups are running."""
        while len(self._groups) > most:
            for copy in self._groups.pop(0):
                values = self._memory.read(copy.source, copy.size, copy.copied)
                self._shared.write(copy.to, values, self._warp)
