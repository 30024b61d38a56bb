"""An admission queue for work of one kind, over all callers: a limit on what runs and on what waits. It knows no
method.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from services.common.rpc.status import StatusError
from services.gateway.synthesis.deadline import Deadline

RETRY_S, PACE_S, MOST_RETRY_S = 5.0, 0.5, 60.0  # retry delays of refused calls, PACE_S apart so that they spread


class AdmissionQueue:
    """A queue of calls for a limited capacity. A call takes some of it: its size, in calls (1) or in bytes.

    The sizes of running calls never exceed `at_once`. The queue is strict: the first call in it is admitted as soon as
    its size is free, and no smaller call overtakes it.
    """

    def __init__(
        self,
        at_once: int,
        max_waiting: int,
        reason: str,
        doing: str,
        on_refusal: Callable[[], None] = lambda: None,
        *,
        newest_first: bool = False,
    ) -> None:
        """at_once: capacity; reason: of the error when too many wait; doing: what runs, for the error's message.

        newest_first: last in, first out. Under overload the newest calls are then served at once.
        """
        self._on_refusal = on_refusal
        self._at_once, self._free, self._max_waiting = at_once, at_once, max_waiting
        self._reason, self._doing = reason, doing
        self._waiting: OrderedDict[asyncio.Future[None], int] = OrderedDict()  # sizes, the next call first
        self._newest_first = newest_first
        self._last_retry_at_s = -math.inf  # when the call that was refused last is to come again

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def taken(self) -> int:
        """Sum of the sizes of running calls."""
        return self._at_once - self._free

    @property
    def has_room(self) -> bool:
        """Whether a call of size 1 would not wait."""
        return self._free > 0 and not self._waiting

    @asynccontextmanager
    async def take(self, deadline: Deadline, size: int = 1) -> AsyncIterator[Admission]:
        """Waits until the call may run. A size above the capacity runs alone.

        Raises StatusError RESOURCE_EXHAUSTED when too many wait, or the call is not admitted before the deadline.
        """
        size = min(size, self._at_once)
        if self._waiting or size > self._free:
            await self._wait(deadline, size)
        else:
            self._free -= size
        admission = Admission(self, size)
        try:
            yield admission
        finally:
            admission.shrink(0)

    def give_back(self, size: int) -> None:
        self._free += size
        while self._waiting:
            granted, size = next(iter(self._waiting.items()))
            if size > self._free:
                return
            del self._waiting[granted]
            self._free -= size
            granted.set_result(None)

    async def _wait(self, deadline: Deadline, size: int) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise self.busy(f"at most {self._max_waiting} may wait")
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[granted] = size
        if self._newest_first:
            self._waiting.move_to_end(granted, last=False)
        self.give_back(0)  # admits it if it is the first and fits
        try:
            done, _ = await asyncio.wait({granted}, timeout=deadline.remaining_s)
        except BaseException:
            self._cancel(granted, size)
            raise
        if not done:
            self._cancel(granted, size)
            raise self.busy("its turn did not come in time")

    def _cancel(self, granted: asyncio.Future[None], size: int) -> None:
        if granted.done():
            self.give_back(size)
        else:
            del self._waiting[granted]
            self.give_back(0)  # the next ones may be smaller

    def busy(self, why: str) -> StatusError:
        """The error of a call that is not admitted."""
        self._on_refusal()
        now_s = time.monotonic()
        self._last_retry_at_s = min(max(self._last_retry_at_s + PACE_S, now_s + RETRY_S), now_s + MOST_RETRY_S)
        return StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            self._reason,
            f"{self._at_once} {self._doing}, and others wait: {why}.",
            retry_delay_s=self._last_retry_at_s - now_s,
        )


class Admission:
    """What a running call has taken of the capacity."""

    def __init__(self, queue: AdmissionQueue, size: int) -> None:
        self._queue, self._size = queue, size

    def shrink(self, size: int) -> None:
        """Gives back what is not needed. A larger size has no effect."""
        if size < self._size:
            given_back, self._size = self._size - size, size
            self._queue.give_back(given_back)
