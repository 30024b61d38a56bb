"""Receives requests that may be large, and bounds how many large ones are in memory. It knows no method.

Before it is there only the caller knows the size of a request, and what is received cannot be put back. A caller that
announces a large one waits for a place, in the order of arrival, and keeps its request until then. Any other request is
received in one of a few slots, the newest first. A small one is there at once and leaves. What takes longer, or is
large, needs a place, and is refused when none is free.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from services.common.rpc.calls import Context
from services.common.rpc.messages import REASON as MALFORMED
from services.common.rpc.server import UNREAD_BYTES
from services.common.rpc.status import StatusError
from services.gateway.rpc.turns import Turns
from services.gateway.synthesis.deadline import Deadline, deadline_exceeded

ANNOUNCED_KEY = "csm-request-bytes"  # metadata: the size of a large request
BUSY = "RECORDINGS_BUSY"
SLOTS = 4
SLICE_S, SLICES = 0.05, 5  # a slot is for so long; a busy event loop costs one slice. What comes later counts as large
PATIENCE_S = 5.0  # of who waits for a slot while too many do
SLOW_AFTER_S = 10.0  # then a request that still arrives gives its place to one that wants it

_SIZE = re.compile(r"[0-9]{1,12}")

M = TypeVar("M", bound=Message)


class Arrivals:
    """Places for large requests, from their arrival until they are no longer needed."""

    def __init__(self, num_places: int, max_waiting: int, on_refusal: Callable[[], None] = lambda: None) -> None:
        """max_waiting: for a place, or in vain for a slot; on_refusal: called with each request that is refused"""
        self._places = Turns(num_places, max_waiting, BUSY, "large requests are being received", on_refusal)
        self._max_waiting = max_waiting
        self._free_slots = SLOTS
        self._waiting: dict[asyncio.Future[bool], float] = {}  # for a slot, since when; the newest is last
        self._wanted_at_s = -math.inf  # when a request last was refused a place

    @property
    def num_large(self) -> int:
        return self._places.taken

    @asynccontextmanager
    async def receive(
        self, reading: Coroutine[Any, Any, M | None], deadline: Deadline, announced_bytes: int = 0
    ) -> AsyncIterator[M]:
        """The request, which is to be dropped at the end of the block.

        reading: receives it. announced_bytes: its size by the caller's word; 0 says nothing.

        Raises what `reading` raises, and StatusError: INVALID_ARGUMENT when there is no request, RESOURCE_EXHAUSTED
        when all places are taken, DEADLINE_EXCEEDED.
        """
        receiving: asyncio.Future[M | None] | None = None
        try:
            async with AsyncExitStack() as held:
                if announced_bytes > UNREAD_BYTES:
                    await held.enter_async_context(self._places.take(deadline))
                    receiving = asyncio.ensure_future(reading)
                    await self._wait_in_place(receiving, deadline)
                else:
                    async with self._slot(deadline):
                        receiving = asyncio.ensure_future(reading)
                        came_at_once = await self._came_at_once(receiving, deadline)
                        if not came_at_once or _is_large(receiving.result()):
                            await held.enter_async_context(self._place_now(deadline))
                    if not came_at_once:
                        await self._wait_in_place(receiving, deadline)
                request = receiving.result()
                if request is None:
                    raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED, "The request is missing.")
                yield request
        finally:
            if receiving is None:
                reading.close()
            else:
                receiving.cancel()

    @asynccontextmanager
    async def _slot(self, deadline: Deadline) -> AsyncIterator[None]:
        if self._free_slots:
            self._free_slots -= 1
        else:
            await self._wait_for_slot(deadline)
        try:
            yield
        finally:
            self._give_slot()

    async def _wait_for_slot(self, deadline: Deadline) -> None:
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = time.monotonic()
        oldest, since_s = next(iter(self._waiting.items()))
        if len(self._waiting) > self._max_waiting and time.monotonic() - since_s > PATIENCE_S:
            del self._waiting[oldest]
            oldest.set_result(False)
        try:
            await asyncio.wait({turn}, timeout=deadline.remaining_s)
        except BaseException:
            if turn.done() and turn.result():
                self._give_slot()
            raise
        finally:
            self._waiting.pop(turn, None)
        if not turn.done():
            raise deadline_exceeded()
        if not turn.result():
            raise self._places.busy(f"at most {self._max_waiting} may wait")

    def _give_slot(self) -> None:
        if self._waiting:
            self._waiting.popitem()[0].set_result(True)
        else:
            self._free_slots += 1

    async def _came_at_once(self, receiving: asyncio.Future[Any], deadline: Deadline) -> bool:
        """False for what takes longer. It stays for as long as no place is free and nobody wants the slot."""
        slices = 0
        while not (await asyncio.wait({receiving}, timeout=min(SLICE_S, deadline.remaining_s)))[0]:
            slices += 1
            if slices >= SLICES and (self._places.has_room or self._waiting) or not deadline.remaining_s:
                return False
        return True

    @asynccontextmanager
    async def _place_now(self, deadline: Deadline) -> AsyncIterator[None]:
        if not self._places.has_room:
            self._wanted_at_s = time.monotonic()
            raise self._places.busy("none of them is done")
        async with self._places.take(deadline):
            yield

    async def _wait_in_place(self, receiving: asyncio.Future[Any], deadline: Deadline) -> None:
        """Waits until the request is there. A slow one gives way."""
        since_s = time.monotonic()
        while not (await asyncio.wait({receiving}, timeout=min(SLOW_AFTER_S, deadline.remaining_s)))[0]:
            if not deadline.remaining_s:
                raise deadline_exceeded()
            if self._places.num_waiting or self._wanted_at_s > since_s:
                raise self._places.busy("this one arrives too slowly")


def announced_bytes(context: Context) -> int:
    """What the caller says about the size of its request; 0 when it says nothing that can be understood."""
    for key, value in context.invocation_metadata() or ():
        if key == ANNOUNCED_KEY and _SIZE.fullmatch(str(value)):
            return int(value)
    return 0


def _is_large(request: Message | None) -> bool:
    """The library serializes a request for its size."""
    return request is not None and request.ByteSize() > UNREAD_BYTES
