"""Limits how many syntheses a caller runs at once. It knows no token and no RPC. Each gateway counts for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from services.common.rpc.status import QuotaViolation, StatusError

EXCEEDED = "QUOTA_EXCEEDED"
_RETRY_S = 1.0  # a guess: it is unknown when one of the caller's streams ends
_LEAVING_S = 2.0  # a call that was cancelled ends within milliseconds; longest wait for it
_NOTICE_S = 0.05  # a cancel may be noticed after the next call


@dataclass(frozen=True, slots=True)
class _Synthesis:
    task: asyncio.Task[object]  # its call's
    ended: asyncio.Future[None]


class StreamQuotas:
    """Counts the running syntheses of each caller."""

    def __init__(self, limit_of: Callable[[str], int], on_refusal: Callable[[], None]) -> None:
        """limit_of: the limit of a caller, by name; 0 is no limit"""
        self._limit_of = limit_of
        self._on_refusal = on_refusal
        self._running: dict[str, list[_Synthesis]] = {}
        self._waiting: dict[str, list[object]] = {}  # the longest wait first

    @asynccontextmanager
    async def one_more(self, caller: str) -> AsyncIterator[None]:
        """Counts one synthesis of the current task while it runs. At the caller's limit it waits for those that have
        been cancelled, so that who cancels one can begin the next at once. As many may wait as may run,
        and get their places in turn.

        Raises StatusError RESOURCE_EXHAUSTED when no place is left.
        """
        limit = self._limit_of(caller)
        if limit and not await self._has_place(caller, limit):
            self._on_refusal()
            raise _refusal(caller, limit)
        task = asyncio.current_task()
        assert task is not None
        synthesis = _Synthesis(task, asyncio.get_running_loop().create_future())
        running = self._running.setdefault(caller, [])
        running.append(synthesis)
        try:
            yield
        finally:
            running.remove(synthesis)
            if not running:
                del self._running[caller]
            synthesis.ended.set_result(None)

    async def _has_place(self, caller: str, limit: int) -> bool:
        waiting = self._waiting.get(caller, [])
        if self._has_room(caller, limit, len(waiting)):
            return True
        if len(waiting) >= limit:
            return False
        turn = object()
        waiting = self._waiting.setdefault(caller, waiting)
        waiting.append(turn)
        try:
            return await self._gets_place(caller, limit, turn)
        finally:
            waiting.remove(turn)
            if not waiting:
                del self._waiting[caller]

    async def _gets_place(self, caller: str, limit: int, turn: object) -> bool:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _LEAVING_S
        while not self._has_room(caller, limit, self._waiting[caller].index(turn)):
            running = self._running[caller]
            left_s = until_s - loop.time()
            if left_s <= 0:
                return False
            done, _ = await asyncio.wait(
                [each.ended for each in running], timeout=min(_NOTICE_S, left_s), return_when=asyncio.FIRST_COMPLETED
            )
            if not done and not any(each.task.cancelling() for each in running):
                return self._has_room(caller, limit, self._waiting[caller].index(turn))
        return True

    def _has_room(self, caller: str, limit: int, num_before: int) -> bool:
        """num_before: calls that have waited for longer"""
        return len(self._running.get(caller, [])) + num_before < limit


def _refusal(caller: str, limit: int) -> StatusError:
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        EXCEEDED,
        f"{caller} already runs as many syntheses at once as it may: {limit}.",
        retry_delay_s=_RETRY_S,
        quota=QuotaViolation(f"caller:{caller}", f"syntheses at once: {limit}"),
        metadata={"max_streams": str(limit)},
    )
