"""Limits how many syntheses a caller runs at once. It knows no token and no RPC. Each gateway counts for itself."""

from __future__ import annotations

import asyncio
from collections import Counter
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
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def one_more(self, caller: str) -> AsyncIterator[None]:
        """Counts one synthesis of the current task while it runs. At the caller's limit it waits for those that have
        been cancelled, so that who cancels one can begin the next at once. As many may wait as may run.

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
        if len(self._running.get(caller, [])) < limit:
            return True
        if self._waiting[caller] >= limit:
            return False
        self._waiting[caller] += 1
        try:
            return await self._gets_place(caller, limit)
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    async def _gets_place(self, caller: str, limit: int) -> bool:
        try:
            async with asyncio.timeout(_LEAVING_S):
                while len(running := self._running.get(caller, [])) >= limit:
                    leaving = [each.ended for each in running if each.task.cancelling()]
                    noticed = leaving or [each.ended for each in running]
                    done, _ = await asyncio.wait(
                        noticed, timeout=None if leaving else _NOTICE_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not done and not any(each.task.cancelling() for each in running):
                        return False
                return True
        except TimeoutError:
            return False


def _refusal(caller: str, limit: int) -> StatusError:
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        EXCEEDED,
        f"{caller} already runs as many syntheses at once as it may: {limit}.",
        retry_delay_s=_RETRY_S,
        quota=QuotaViolation(f"caller:{caller}", f"syntheses at once: {limit}"),
        metadata={"max_streams": str(limit)},
    )
