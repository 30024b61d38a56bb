"""Delays the end of a call of many requests until its caller stops writing, for a moment at most. It knows no service.

grpc.aio replaces the status of a call by INTERNAL "Internal error from Core" when a write meets the end of the call.
The true status is lost. So a handler that ends before its caller has half-closed reads on and drops the requests. By
then the caller has finished writing, or waits for an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from services.common.rpc.messages import checked
from services.common.rpc.status import StatusError

QUIET_S = 0.2  # without a message: the caller writes no more for now
LINGER_S = 0.5  # at most

Handler = Callable[[Any, Any], Awaitable[Any]]  # requests, context

_END = object()


class IncomingMessages:
    """The requests of a call. An iteration that is cancelled loses none, so another one can go on."""

    def __init__(self, messages: AsyncIterator[Any]) -> None:
        self._messages = messages
        self._reading: asyncio.Task[Any] | None = None
        self._ended = False

    def __aiter__(self) -> IncomingMessages:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        await asyncio.wait({self._reading})  # a cancel of the wait is none of the task
        reading, self._reading = self._reading, None
        if (message := reading.result()) is _END:
            self._ended = True
            raise StopAsyncIteration
        return checked(message)

    async def discard(self) -> None:
        """Reads until the caller half-closes or is quiet, for at most LINGER_S. What comes is dropped."""
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
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> Any:
        return await anext(self._messages, _END)


def is_caller_gone(error: BaseException) -> bool:
    """Whether gRPC raised it because the call has ended: a read or a write met its end, or that of the server."""
    return isinstance(error, grpc.aio.BaseError) and not isinstance(error, grpc.aio.AbortError | grpc.aio.UsageError)


def lingering(handler: Handler) -> Handler:
    """The handler of a call of many requests, whose end, good or bad, waits a moment for a caller that still writes."""

    async def linger(requests: AsyncIterator[Any], context: Any) -> Any:
        incoming = IncomingMessages(requests)
        try:
            try:
                response = await handler(incoming, context)
            except Exception as error:
                if not is_caller_gone(error):
                    await incoming.discard()
                raise
            await incoming.discard()
            return response
        finally:
            incoming.close()

    return linger
