"""A limit on work of one kind, over all callers: how much runs at once and how many calls wait. It knows no method."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from services.common.rpc.status import StatusError
from services.gateway.synthesis.deadline import Deadline

BUSY = "DETECTION_BUSY"
_RETRY_S = 5.0


class Turns:
    """Turns in the order of arrival, each of a size: 1 where calls are counted, or bytes."""

    def __init__(
        self,
        at_once: int,
        max_waiting: int,
        reason: str = BUSY,
        doing: str = "recordings are being searched",
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        """at_once: sum of the sizes; reason: of the error when too many wait; doing: what runs, for its message"""
        self._on_refusal = on_refusal
        self._at_once, self._free, self._max_waiting = at_once, at_once, max_waiting
        self._reason, self._doing = reason, doing
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def taken(self) -> int:
        """Sum of the sizes of what runs."""
        return self._at_once - self._free

    @property
    def has_room(self) -> bool:
        """Whether a turn of size 1 comes at once."""
        return self._free > 0 and not self._waiting

    @asynccontextmanager
    async def take(self, deadline: Deadline, size: int = 1) -> AsyncIterator[Turn]:
        """Waits for a turn. What is larger than all that may run at once runs alone.

        Raises StatusError RESOURCE_EXHAUSTED when too many wait or the deadline comes first.
        """
        size = min(size, self._at_once)
        if self._waiting or size > self._free:
            await self._wait(deadline, size)
        else:
            self._free -= size
        turn = Turn(self, size)
        try:
            yield turn
        finally:
            turn.shrink(0)

    def give_back(self, size: int) -> None:
        self._free += size
        while self._waiting and self._waiting[0][0] <= self._free:
            size, granted = self._waiting.popleft()
            self._free -= size
            granted.set_result(None)

    async def _wait(self, deadline: Deadline, size: int) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise self.busy(f"at most {self._max_waiting} may wait")
        waiting = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            done, _ = await asyncio.wait({waiting[1]}, timeout=deadline.remaining_s)
        except BaseException:
            self._leave(waiting)
            raise
        if not done:
            self._leave(waiting)
            raise self.busy("the call's deadline came before its turn")

    def _leave(self, waiting: tuple[int, asyncio.Future[None]]) -> None:
        size, granted = waiting
        if granted.done():
            self.give_back(size)
        else:
            self._waiting.remove(waiting)
            self.give_back(0)  # those behind it may be smaller

    def busy(self, why: str) -> StatusError:
        """The error of a call that gets no turn."""
        self._on_refusal()
        return StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            self._reason,
            f"{self._at_once} {self._doing}, and others wait: {why}.",
            retry_delay_s=_RETRY_S,
        )


class Turn:
    """A turn that was taken."""

    def __init__(self, turns: Turns, size: int) -> None:
        self._turns, self._size = turns, size

    def shrink(self, size: int) -> None:
        """Gives back what is not needed. It never grows."""
        if size < self._size:
            given_back, self._size = self._size - size, size
            self._turns.give_back(given_back)
