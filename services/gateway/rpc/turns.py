"""A limit on calls of one kind, over all callers: how many run at once and how many wait. It knows no method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from services.common.rpc.status import StatusError
from services.gateway.synthesis.deadline import Deadline

BUSY = "DETECTION_BUSY"
_RETRY_S = 5.0


class Turns:
    """Turns in the order of arrival."""

    def __init__(
        self, at_once: int, max_waiting: int, reason: str = BUSY, doing: str = "recordings are being searched"
    ) -> None:
        """reason: of the error when too many wait; doing: what runs, for its message"""
        self._at_once, self._max_waiting = at_once, max_waiting
        self._reason, self._doing = reason, doing
        self._free = asyncio.Semaphore(at_once)
        self.num_waiting = 0

    @asynccontextmanager
    async def take(self, deadline: Deadline) -> AsyncIterator[None]:
        """Waits for a turn. Raises StatusError RESOURCE_EXHAUSTED when too many wait or the deadline comes first."""
        if self._free.locked() and self.num_waiting >= self._max_waiting:
            raise self._busy(f"at most {self._max_waiting} may wait")
        self.num_waiting += 1
        try:
            async with asyncio.timeout(deadline.remaining_s):
                await self._free.acquire()
        except TimeoutError:
            raise self._busy("the call's deadline came before its turn") from None
        finally:
            self.num_waiting -= 1
        try:
            yield
        finally:
            self._free.release()

    def _busy(self, why: str) -> StatusError:
        return StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            self._reason,
            f"{self._at_once} {self._doing}, and others wait: {why}.",
            retry_delay_s=_RETRY_S,
        )
