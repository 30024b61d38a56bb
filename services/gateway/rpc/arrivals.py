"""Receives requests that may be large, and bounds how many large ones are in memory. It knows no method.

Before it is there only the caller knows the size of a request, and what is received cannot be put back. A caller that
announces a large one waits for a place, in the order of arrival, and keeps its request until then. Any other request is
received in one of a few slots, the newest first. A small one is there at once and leaves. What takes longer, or is
large, needs a place, and is refused when none is free.

What always holds:
* At most `num_places` + SLOTS requests of more than UNREAD_BYTES are in memory. Of any other call the library holds at
  most UNREAD_BYTES, and it takes in no request that is larger than the server allows, whatever was announced.
* However a call ends, its place and its slot are free again.
* Who waits for a place is served in order, before any who did not announce; who waits for a slot, for PATIENCE_S at
  most. A request that arrives holds a slot or a place against others for SLICES * SLICE_S and SLOW_AFTER_S at most.
* A call without a turn ends as RESOURCE_EXHAUSTED, one whose request comes too late as DEADLINE_EXCEEDED.
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
from services.common.rpc.lingering import IncomingMessages
from services.common.rpc.messages import REASON as MALFORMED
from services.common.rpc.server import UNREAD_BYTES
from services.common.rpc.status import StatusError
from services.gateway.rpc.turns import Turns
from services.gateway.synthesis.deadline import Deadline, deadline_exceeded

ANNOUNCED_KEY = "csm-request-bytes"  # metadata: the size of a large request
BUSY = "RECORDINGS_BUSY"
SLOTS = 2
SLICE_S, SLICES = 0.01, 5  # a slot is for so long; a busy event loop costs one slice. What comes later counts as large
PATIENCE_S = 5.0  # of who waits for a slot
SLOW_AFTER_S = 10.0  # then a request that still arrives gives its place to one that wants it

_SIZE = re.compile(r"[0-9]{1,12}")


async def one(requests: IncomingMessages) -> Any:
    """The only request of a call; None when there is none."""
    return await anext(requests, None)


class Arrivals:
    """Places for large requests, from their arrival until they are no longer needed."""

    def __init__(self, num_places: int, max_waiting: int, on_refusal: Callable[[], None] = lambda: None) -> None:
        """max_waiting: for a place; on_refusal: called with each request that is refused"""
        self._places = Turns(num_places, max_waiting, BUSY, "large requests are being received", on_refusal)
        self._slots = Turns(
            SLOTS, sys.maxsize, BUSY, "requests of unknown size are being received", on_refusal, newest_first=True
        )
        self._wanted_at_s = -math.inf  # when a request last was refused a place

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
        """The first of the requests, which is to be dropped at the end of the block.

        announced_bytes: its size by the caller's word; 0 says nothing. read: receives it.

        Raises what `read` raises, and StatusError: INVALID_ARGUMENT when there is no request, RESOURCE_EXHAUSTED when
        it has no turn, DEADLINE_EXCEEDED.
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
                    came_at_once = await self._came_at_once(receiving, deadline)
                    if not came_at_once or requests.num_bytes > UNREAD_BYTES:
                        await held.enter_async_context(self._place_now(deadline))
                if not came_at_once:
                    await self._wait_in_place(receiving, deadline)
            request = receiving.result()
            if request is None:
                raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED, "The request is missing.")
            yield request

    async def _came_at_once(self, receiving: asyncio.Future[Any], deadline: Deadline) -> bool:
        """False for what takes longer. It stays for as long as no place is free and nobody wants the slot."""
        slices = 0
        while not await _done(receiving, SLICE_S if slices < SLICES else SLICES * SLICE_S, deadline):
            slices += 1
            if slices >= SLICES and (self._places.has_room or self._slots.num_waiting):
                return False
        return True

    @asynccontextmanager
    async def _place_now(self, deadline: Deadline) -> AsyncIterator[None]:
        if not self._places.has_room:
            self._wanted_at_s = time.monotonic()
            raise self._places.busy("no place is free")
        async with self._places.take(deadline):
            yield

    async def _wait_in_place(self, receiving: asyncio.Future[Any], deadline: Deadline) -> None:
        """Waits until the request is there. A slow one gives way."""
        since_s = time.monotonic()
        while not await _done(receiving, SLOW_AFTER_S, deadline):
            if self._places.num_waiting or self._wanted_at_s > since_s:
                raise self._places.busy("this one arrives too slowly")


def announced_bytes(context: Context) -> int:
    """What the caller says about the size of its request; 0 when it says nothing that can be understood."""
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
    """Whether it is there within `timeout_s`. Raises StatusError DEADLINE_EXCEEDED."""
    if (await asyncio.wait({receiving}, timeout=min(timeout_s, deadline.remaining_s)))[0]:
        return True
    if not deadline.remaining_s:
        raise deadline_exceeded()
    return False
