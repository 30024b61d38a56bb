"""Receives requests that may be large, and limits how many large ones are in memory. It knows no method.

The size of a request is unknown until it is received, unless the caller announces it. A caller that announces a large
one waits for a place, in order of arrival, before its request is read. Any other request is read in one of a few slots,
newest first. A small one is complete at once and frees the slot. One that takes longer, or turns out to be large, needs
a place too, and is refused if none is free.

Invariants:
* At most `num_places` + SLOTS requests of more than UNREAD_BYTES are in memory. For every other call gRPC buffers at
  most UNREAD_BYTES. It never accepts a request larger than the server's limit, whatever was announced.
* However a call ends, its place and its slot are freed.
* Places go to waiting callers in order, before calls that have announced nothing. The wait for a slot is at most
  PATIENCE_S. While others wait, a request keeps a slot for at most SLICES * SLICE_S, and an incomplete request keeps a
  place for at most SLOW_AFTER_S.
* A call that gets no slot or place ends as RESOURCE_EXHAUSTED, one whose request comes too late as DEADLINE_EXCEEDED.
"""

from __future__ import annotations

import asyncio
import math
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import grpc

from services.common.rpc.calls import Context
from services.common.rpc.incoming.lingering import IncomingMessages
from services.common.rpc.messages import REASON as MALFORMED
from services.common.rpc.server import UNREAD_BYTES
from services.common.rpc.status import StatusError
from services.gateway.budgets.admission_queue import AdmissionQueue
from services.gateway.synthesis.deadline import Deadline, deadline_exceeded

ANNOUNCED_KEY = "csm-request-bytes"  # metadata: the size of a large request
BUSY = "RECORDINGS_BUSY"
SLOTS = 2
# A request may take SLICES waits of SLICE_S, otherwise it counts as large. A stalled event loop costs one slice only.
SLICE_S, SLICES = 0.01, 5
PATIENCE_S = 5.0  # longest wait for a slot
SLOW_AFTER_S = 10.0  # after this an incomplete request gives its place to a waiting one

_SIZE = re.compile(r"[0-9]{1,12}")


async def one(requests: IncomingMessages) -> Any:
    """The only request of a call; None when there is none."""
    return await anext(requests, None)


class Arrivals:
    """Places for large requests, from their arrival until they are no longer needed."""

    def __init__(self, num_places: int, max_waiting: int, on_refusal: Callable[[], None] = lambda: None) -> None:
        """max_waiting: calls that may wait for a place; on_refusal: called for each refused request"""
        self._places = AdmissionQueue(num_places, max_waiting, BUSY, "large requests are being received", on_refusal)
        self._slots = AdmissionQueue(
            SLOTS, sys.maxsize, BUSY, "requests of unknown size are being received", on_refusal, newest_first=True
        )
        self._refused_at_s = -math.inf  # when a place was last refused

    @property
    def num_large(self) -> int:
        return self._places.taken

    @asynccontextmanager
    async def receive(
        self,
        requests: IncomingMessages,
        deadline: Deadline,
        announced_bytes: int = 0,
        read: Callable[[IncomingMessages], Coroutine[Any, Any, Any]] = one,
    ) -> AsyncIterator[Any]:
        """The first request. It must be dropped at the end of the block.

        announced_bytes: its size as announced by the caller; 0 if it is not. read: receives the request.

        Raises what `read` raises, and StatusError: INVALID_ARGUMENT when there is no request, RESOURCE_EXHAUSTED when
        there is no slot or place for it, DEADLINE_EXCEEDED.
        """
        async with AsyncExitStack() as held:
            if announced_bytes > UNREAD_BYTES:
                await held.enter_async_context(self._places.take(deadline))
                receiving = held.enter_context(_running(read(requests)))
                await self._wait_in_place(receiving, deadline)
            else:
                patience = Deadline(min(deadline.at_s, time.monotonic() + PATIENCE_S))
                async with self._slots.take(patience):
                    receiving = held.enter_context(_running(read(requests)))
                    if came_at_once := await self._came_at_once(receiving, deadline):
                        receiving.result()  # what cannot be read is refused as that, and needs no place
                    if not came_at_once or requests.num_bytes > UNREAD_BYTES:
                        self._require_room()
                        await held.enter_async_context(self._places.take(deadline))
                if not came_at_once:
                    await self._wait_in_place(receiving, deadline)
            request = receiving.result()
            if request is None:
                raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED, "The request is missing.")
            yield request

    async def _came_at_once(self, receiving: asyncio.Future[Any], deadline: Deadline) -> bool:
        """False if it takes longer than a slot allows. It may take longer while no place is free and no call waits."""
        slices = 0
        while not await _done(receiving, SLICE_S if slices < SLICES else SLICES * SLICE_S, deadline):
            slices += 1
            if slices >= SLICES and (self._places.has_room or self._slots.num_waiting):
                return False
        return True

    def _require_room(self) -> None:
        """Raises StatusError RESOURCE_EXHAUSTED when no place is free."""
        if not self._places.has_room:
            self._refused_at_s = time.monotonic()
            raise self._places.busy("no place is free")

    async def _wait_in_place(self, receiving: asyncio.Future[Any], deadline: Deadline) -> None:
        """Waits until the request is complete. A slow one is refused when others wait."""
        since_s = time.monotonic()
        while not await _done(receiving, SLOW_AFTER_S, deadline):
            if self._places.num_waiting or self._refused_at_s > since_s:
                raise self._places.busy("this one arrives too slowly")


def announced_bytes(context: Context) -> int:
    """The size of the request from the call's metadata; 0 if it is missing or malformed."""
    for key, value in context.invocation_metadata() or ():
        if key == ANNOUNCED_KEY and _SIZE.fullmatch(str(value)):
            return int(value)
    return 0


@contextmanager
def _running(reading: Coroutine[Any, Any, Any]) -> Iterator[asyncio.Task[Any]]:
    task = asyncio.ensure_future(reading)
    try:
        yield task
    finally:
        task.cancel()


async def _done(receiving: asyncio.Future[Any], timeout_s: float, deadline: Deadline) -> bool:
    """Whether the request is complete within `timeout_s`. Raises StatusError DEADLINE_EXCEEDED."""
    if (await asyncio.wait({receiving}, timeout=min(timeout_s, deadline.remaining_s)))[0]:
        return True
    if not deadline.remaining_s:
        raise deadline_exceeded()
    return False
