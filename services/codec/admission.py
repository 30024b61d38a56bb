"""Admission of streams to slots: it decides which streams run and which wait. It knows no codec and no gRPC.

A stream may arrive while all slots are taken: the engine frees its slot at the last frame, but the codec holds its slot
until the client has read the audio. So streams wait in order of arrival, and are refused only when the queue is full.
"""

from __future__ import annotations

import asyncio

from csm_bundle.errors import CodecBusyError


class Admission:
    """Counts the slots of one codec; first come, first served. All methods are called on the event loop."""

    def __init__(self, num_slots: int, max_waiting: int, what: str = "decode slots") -> None:
        """what: name of the slots in messages"""
        self._what = what
        self.num_slots = num_slots
        self._max_waiting = max_waiting
        self._free = asyncio.Semaphore(num_slots)
        self.num_calls = 0  # that have a slot or wait for one

    @property
    def num_waiting(self) -> int:
        return max(0, self.num_calls - self.num_slots)

    async def take(self) -> None:
        """Waits for a slot. A cancelled wait leaves the queue.

        Raises: CodecBusyError when all slots are taken and the queue is full.
        """
        if self.num_calls >= self.num_slots + self._max_waiting:
            raise CodecBusyError(
                f"All {self.num_slots} {self._what} are taken and {self.num_waiting} calls wait;"
                f" at most {self._max_waiting} may wait."
            )
        self.num_calls += 1
        try:
            await self._free.acquire()
        except BaseException:
            self.num_calls -= 1
            raise

    def leave(self) -> None:
        self.num_calls -= 1
        self._free.release()
