"""A limit on work of one kind, over all callers: how much runs at once and how many calls wait. It knows no method."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from services.common.rpc.status import StatusError
from services.gateway.synthesis.deadline import Deadline

BUSY = "DETECTION_BUSY"
RETRY_S, PACE_S, MOST_RETRY_S = 5.0, 0.5, 60.0  # refused calls shall come again one after the other


class Turns:
    """Turns in the order of arrival, each of a size: 1 where calls are counted, or bytes.

    What runs never has more than `at_once` together, a call that leaves gives back what it had or waited for, and none
    is passed over: the first in the order runs as soon as its size is free.
    """

    def __init__(
        self,
        at_once: int,
        max_waiting: int,
        reason: str = BUSY,
        doing: str = "recordings are being searched",
        on_refusal: Callable[[], None] = lambda: None,
        *,
        newest_first: bool = False,
    ) -> None:
        """at_once: sum of the sizes; reason: of the error when too many wait; doing: what runs, for its message

        newest_first: the order. When more come than can be served, those that came last are served at once
        """
        self._on_refusal = on_refusal
        self._at_once, self._free, self._max_waiting = at_once, at_once, max_waiting
        self._reason, self._doing = reason, doing
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()  # the first in the order is at the left
        self._add = self._waiting.appendleft if newest_first else self._waiting.append
        self._retried_at_s = -math.inf  # by the call that was refused last

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

        Raises StatusError RESOURCE_EXHAUSTED when too many wait, or when it does not come before the deadline.
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
        self._add(waiting)
        self.give_back(0)  # it may be the first, and fit
        try:
            done, _ = await asyncio.wait({waiting[1]}, timeout=deadline.remaining_s)
        except BaseException:
            self._leave(waiting)
            raise
        if not done:
            self._leave(waiting)
            raise self.busy("its turn did not come in time")

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
        now_s = time.monotonic()
        self._retried_at_s = min(max(self._retried_at_s + PACE_S, now_s + RETRY_S), now_s + MOST_RETRY_S)
        return StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            self._reason,
            f"{self._at_once} {self._doing}, and others wait: {why}.",
            retry_delay_s=self._retried_at_s - now_s,
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
