"""The service grpc.health.v1.Health. It knows no stage.

grpcio-health-checking's servicer writes while it holds a lock. A caller that does not read, such as a frozen gateway,
would then block the updates of all others, and the stage itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc import messages
from services.common.rpc.incoming import one_request
from services.common.rpc.status import StatusError

RECEIVE_S = 10.0  # longest wait for the request of a call, which needs no token
MOST_WATCHES = 16  # of one connection, which takes one or two: callers without a token may watch the gateway

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the library has no types
    """The health of each name. A slow watcher gets the current status, and misses those in between."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()  # set and replaced by the next change
        self._watches: Counter[str] = Counter()  # that run, by the address and port of their caller

    def set(self, name: str, status: int) -> None:
        self._statuses[name] = status
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        if (status := self._statuses.get(request.service)) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Never returns."""
        peer = context.peer()
        if self._watches[peer] >= MOST_WATCHES and not peer.startswith("unix"):  # such a socket has one peer for all
            # After any other code gRPC's clients take the server for unhealthy, such as those behind a proxy that sends
            # the calls of many over one connection. After this one they call without asking for its health.
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"A connection may have {MOST_WATCHES} watches.")
        sent = None
        with self._counted(peer):
            while True:
                changed, status = self._changed, self._statuses.get(request.service, _UNKNOWN)
                if status != sent:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    sent = status
                await changed.wait()

    @contextmanager
    def _counted(self, peer: str) -> Iterator[None]:
        self._watches[peer] += 1
        try:
            yield
        finally:
            self._watches[peer] -= 1
            if not self._watches[peer]:
                del self._watches[peer]


@asynccontextmanager
async def _received(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[health_pb2.HealthCheckRequest]:
    try:
        async with asyncio.timeout(RECEIVE_S):
            request = await anext(requests, None)
    except TimeoutError:
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        raise StatusError(code, code.name, f"No request has come for {RECEIVE_S:g} s.") from None
    if request is None:
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, messages.REASON, "The request is missing.")
    yield request


# Instead of the generated function, with which gRPC waits for the request without end and before anything is counted.
add_health_to_server = one_request.add_to_server(health_pb2.DESCRIPTOR.services_by_name["Health"], (), _received)
