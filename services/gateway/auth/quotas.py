"""Limits how many syntheses a caller runs at once. It knows no token and no RPC. Each gateway counts for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from services.common.rpc.status import QuotaViolation, StatusError

EXCEEDED = "QUOTA_EXCEEDED"
_RETRY_S = 1.0  # a guess: the end of the caller's streams is not known
_CANCEL_WAIT_S = 2.0  # longest wait for the end of a cancelled call, which takes milliseconds
_NOTICE_S = 0.05  # a cancellation may arrive this long after the next call


class StreamQuotas:
    """Counts the running syntheses of each caller."""

    def __init__(self, limit_of: Callable[[str], int], on_refusal: Callable[[], None]) -> None:
        """limit_of: the limit of a caller, by name; 0 is no limit"""
        self._limit_of = limit_of
        self._on_refusal = on_refusal
        # By caller: the task of each call, by the future of its end.
        self._running: dict[str, dict[asyncio.Future[None], asyncio.Task[object]]] = {}
        self._waiting: dict[str, list[object]] = {}  # by caller, in order of arrival

    @asynccontextmanager
    async def one_more(self, caller: str) -> AsyncIterator[None]:
        """Counts a synthesis of the current task while the block runs.

        At the caller's limit it waits for calls that were cancelled, so that a caller can cancel one and begin the next
        at once. As many may wait as may run; they are admitted in order.

        Raises StatusError RESOURCE_EXHAUSTED when the limit is reached.
        """
        limit = self._limit_of(caller)
        if limit and not await self._admitted(caller, limit):
            self._on_refusal()
            raise _refusal(caller, limit)
        task = asyncio.current_task()
        assert task is not None
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        running = self._running.setdefault(caller, {})
        running[ended] = task
        try:
            yield
        finally:
            del running[ended]
            if not running:
                del self._running[caller]
            ended.set_result(None)

    async def _admitted(self, caller: str, limit: int) -> bool:
        waiting = self._waiting.get(caller, [])
        if self._has_room(caller, limit, len(waiting)):
            return True
        if len(waiting) >= limit:
            return False
        ticket = object()
        waiting = self._waiting.setdefault(caller, waiting)
        waiting.append(ticket)
        try:
            return await self._wait(caller, limit, ticket)
        finally:
            waiting.remove(ticket)
            if not waiting:
                del self._waiting[caller]

    async def _wait(self, caller: str, limit: int, ticket: object) -> bool:
        """Waits for the end of cancelled calls. Returns whether there is room then."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _CANCEL_WAIT_S
        while not self._has_room(caller, limit, self._waiting[caller].index(ticket)):
            running = self._running[caller]
            left_s = until_s - loop.time()
            if left_s <= 0:
                return False
            done, _ = await asyncio.wait(
                list(running), timeout=min(_NOTICE_S, left_s), return_when=asyncio.FIRST_COMPLETED
            )
            if not done and not any(task.cancelling() for task in running.values()):
                return self._has_room(caller, limit, self._waiting[caller].index(ticket))
        return True

    def _has_room(self, caller: str, limit: int, num_ahead: int) -> bool:
        """num_ahead: earlier calls that wait"""
        return len(self._running.get(caller, {})) + num_ahead < limit


def _refusal(caller: str, limit: int) -> StatusError:
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        EXCEEDED,
        f"{caller} already runs as many syntheses at once as it may: {limit}.",
        retry_delay_s=_RETRY_S,
        quota=QuotaViolation(f"caller:{caller}", f"syntheses at once: {limit}"),
        metadata={"max_streams": str(limit)},
    )
