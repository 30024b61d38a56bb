"""The end of client-streaming calls: it waits until the caller stops writing. It knows no service.

If a caller of grpc.aio writes after its call has ended, it gets INTERNAL "Internal error from Core" instead of the
call's status. So when a handler ends before its caller has half-closed, the rest of the requests is read and dropped
until the caller half-closes, is quiet for QUIET_S, or LINGER_S have passed. A caller that is starved for longer than
QUIET_S between two writes may still lose the status: it cannot be distinguished from one that waits for an answer.

Two kinds of calls need no wait: those of one request, and those whose caller has promised to write nothing before it is
answered.

A drain does not wait for a caller that keeps a call open and sends nothing: the call ends as UNAVAILABLE, DRAINING.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from services.common.rpc.incoming.memory_guard import UNGUARDED, MemoryGuard, memory_short
from services.common.rpc.messages import checked
from services.common.rpc.status import StatusError

QUIET_S = 0.2  # without a message, until the caller counts as quiet
LINGER_S = 2.0  # longest delay of the end of a call
DRAIN_QUIET_S = 2.0  # without a message during a drain, until the call is ended

Handler = Callable[[Any, Any], Awaitable[Any]]  # requests, context


class IncomingMessages:
    """The requests of a call. Cancelling an iteration loses no message, so another one can continue."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Any]],
        drain: asyncio.Future[None],
        guard: MemoryGuard = UNGUARDED,
        caller: str = "",
    ) -> None:
        """read: of the call's context. drain: done once the server drains. caller: name or address of the sender, for
        the guard

        gRPC's own iterator over the requests would keep the last one in memory until the next one has come.
        """
        self._read, self._drain, self._guard, self._caller = read, drain, guard, caller
        self._reading: asyncio.Future[Any] | None = None
        self._waiter: asyncio.Future[None] | None = None  # of the iteration, until a message or a reason to end comes
        drain.add_done_callback(self._wake)
        self._ended = False
        self.num_bytes = 0  # of the last message
        self.caller_waits = False  # the caller writes nothing before it is answered

    def __aiter__(self) -> IncomingMessages:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
            self._reading.add_done_callback(self._wake)
        with self._guard.waiting(self._caller) as short:
            short.add_done_callback(self._wake)
            while not (self._reading.done() or self._drain.done() or short.done()):  # an earlier read may wake it too
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter  # a cancellation of which does not cancel the read
        if short.done():  # even if a message has come meanwhile, for the guard has counted this call as ended
            self._ended = True  # nothing more is read, so that the memory is freed at once
            raise memory_short()
        if not self._reading.done() and not (await asyncio.wait({self._reading}, timeout=DRAIN_QUIET_S))[0]:
            raise draining()
        reading, self._reading = self._reading, None
        if (message := reading.result()) is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
            self._ended = True
            raise StopAsyncIteration
        self.num_bytes = message.num_bytes
        return checked(message)

    async def discard(self) -> None:
        """Reads and drops messages until the caller half-closes or is quiet, for at most LINGER_S."""
        if self.caller_waits:
            return
        try:
            async with asyncio.timeout(LINGER_S):
                while True:
                    async with asyncio.timeout(QUIET_S):
                        await anext(self)
        except (StopAsyncIteration, TimeoutError, grpc.aio.BaseError, StatusError):
            pass  # it half-closes, is quiet or writes without end, is gone, or sends malformed messages

    def _wake(self, _: asyncio.Future[Any]) -> None:
        """Ends the iteration's wait. By hand, because `asyncio.wait` would cost more than the rest of a message."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Stops reading."""
        self._drain.remove_done_callback(self._wake)
        reading, self._reading = self._reading, None  # dropped, for a cancelled task keeps its frames and so the call
        if reading is not None:
            reading.cancel()


def set_caller_waits(requests: AsyncIterator[Any], waits: bool) -> None:
    """Sets whether the caller has promised to write nothing for now, so that the call can end without a delay."""
    if isinstance(requests, IncomingMessages):
        requests.caller_waits = waits


def is_caller_gone(error: BaseException) -> bool:
    """Whether gRPC raised it in a read or a write because the call, or the server, has ended."""
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
    """Wraps a client-streaming handler: its end, also by an exception, waits until the caller stops writing.

    drain: done once the server drains. caller: its name; "" uses its address. one_request: the caller writes one
    message, so there is nothing to wait for.
    """

    async def linger(_: AsyncIterator[Any], context: Any) -> Any:
        address = context.peer().rpartition(":")[0]
        incoming = IncomingMessages(context.read, drain, guard, caller or address)
        incoming.caller_waits = one_request
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
