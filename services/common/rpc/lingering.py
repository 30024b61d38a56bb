"""Calls of many requests: their end, and what a drain does to them. It knows no service.

It delays the end of a call until its caller stops writing, for a moment at most.

grpc.aio replaces the status of a call by INTERNAL "Internal error from Core" when a write meets the end of the call.
The true status is lost. So a handler that ends before its caller has half-closed reads on and drops the requests. By
then the caller has finished writing, or waits for an answer. A caller that is starved for longer than QUIET_S between
two writes may still lose its status: on the wire it looks like one that waits for an answer, so only time tells them
apart. A call of one request never does: what cannot be written twice needs no wait. Nor does a caller that has
promised to write nothing before it is answered.

A drain does not wait for a caller that keeps a call open and sends nothing: the call ends as UNAVAILABLE, DRAINING.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from services.common.rpc.memory_guard import UNGUARDED, MemoryGuard, memory_short
from services.common.rpc.messages import checked
from services.common.rpc.status import StatusError

QUIET_S = 0.2  # without a message: the caller writes no more for now
LINGER_S = 2.0  # at most; on a busy machine a caller may need long for what it has to write

DRAIN_QUIET_S = 2.0  # without a message, in a drain: the call ends

Handler = Callable[[Any, Any], Awaitable[Any]]  # requests, context

_END = object()


class IncomingMessages:
    """The requests of a call. An iteration that is cancelled loses none, so another one can go on."""

    def __init__(
        self,
        messages: AsyncIterator[Any],
        drain: asyncio.Future[None],
        guard: MemoryGuard = UNGUARDED,
        caller: str = "",
    ) -> None:
        """drain: done once the server drains. caller: who sends them, for the guard"""
        self._messages, self._drain, self._guard, self._caller = messages, drain, guard, caller
        self._reading: asyncio.Task[Any] | None = None
        self._ended = False
        self.num_bytes = 0  # of the last message
        self.caller_waits = False  # it writes nothing until it has an answer, so an end cannot meet a write

    def __aiter__(self) -> IncomingMessages:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        with self._guard.waiting(self._caller) as short:
            # A cancel of the wait is none of the task.
            await asyncio.wait({self._reading, self._drain, short}, return_when=asyncio.FIRST_COMPLETED)
        if short.done():  # also if a message came in the same moment: the guard has counted this call as ended
            self._ended = True  # what comes is not read on, so that the memory is free at once
            raise memory_short()
        if not self._reading.done() and not (await asyncio.wait({self._reading}, timeout=DRAIN_QUIET_S))[0]:
            raise draining()
        reading, self._reading = self._reading, None
        if (message := reading.result()) is _END:
            self._ended = True
            raise StopAsyncIteration
        self.num_bytes = message.num_bytes
        return checked(message)

    async def discard(self) -> None:
        """Reads until the caller half-closes or is quiet, for at most LINGER_S. What comes is dropped."""
        if self.caller_waits:
            return
        try:
            async with asyncio.timeout(LINGER_S):
                while True:
                    async with asyncio.timeout(QUIET_S):
                        if await anext(self, _END) is _END:
                            return
        except (TimeoutError, grpc.aio.BaseError, StatusError):  # it still writes, is gone, or writes no messages
            pass

    def close(self) -> None:
        """Nothing is read any more."""
        reading, self._reading = self._reading, None  # a cancelled task keeps its frames, and these keep the call
        if reading is not None:
            reading.cancel()

    async def _read(self) -> Any:
        return await anext(self._messages, _END)


def tell_whether_caller_waits(requests: AsyncIterator[Any], waits: bool) -> None:
    """Whether the caller of these requests has promised to write nothing for now: an end of the call then comes at
    once.
    """
    if isinstance(requests, IncomingMessages):
        requests.caller_waits = waits


def is_caller_gone(error: BaseException) -> bool:
    """Whether gRPC raised it because the call has ended: a read or a write met its end, or that of the server."""
    return isinstance(error, grpc.aio.BaseError) and not isinstance(error, grpc.aio.AbortError | grpc.aio.UsageError)


def draining() -> StatusError:
    """The error of a call that a drain does not wait for."""
    return StatusError(
        grpc.StatusCode.UNAVAILABLE,
        "DRAINING",
        f"The server is stopping, and the caller has sent nothing for {DRAIN_QUIET_S:g} s.",
        retry_delay_s=1.0,
    )


def lingering(
    handler: Handler,
    drain: asyncio.Future[None],
    guard: MemoryGuard = UNGUARDED,
    caller: str = "",
    *,
    one_request: bool = False,
) -> Handler:
    """The handler of a call of many requests, whose end, good or bad, waits a moment for a caller that still writes.

    drain: done once the server drains. caller: its name, if it has one. one_request: the caller writes once, and cannot
    lose the status by it
    """

    async def linger(_: AsyncIterator[Any], context: Any) -> Any:
        address = context.peer().rpartition(":")[0]
        incoming = IncomingMessages(_Messages(context), drain, guard, caller or address)
        try:
            try:
                response = await handler(incoming, context)
            except Exception as error:
                if not one_request and not is_caller_gone(error):
                    await incoming.discard()
                raise
            if not one_request:
                await incoming.discard()
            return response
        finally:
            incoming.close()

    return linger


class _Messages:
    """The requests of a call. The library's own iterator keeps the last one until the next one has come."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        message = await self._context.read()
        if message is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
            raise StopAsyncIteration
        return message
