"""The library's health service, for callers of which some may be frozen.

The library writes to a watcher while it holds the lock of the name. A watcher that takes no message, as a frozen
gateway whose connection is full, would hold up all others that watch the name, and the stage that sets it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio  # type: ignore[attr-defined]

from services.common.rpc.status import StatusError

WRITE_S = 5.0  # longest wait for a watcher to take a message; more than a busy machine needs for one


class HealthService(aio.HealthServicer):  # type: ignore[misc]
    """The library's, with a bound on each write. A watch that is ended by it may be asked for again."""

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Raises StatusError CLIENT_TOO_SLOW."""
        await super().Watch(request, _BoundedWrites(context))


class _BoundedWrites:
    def __init__(self, context: Any) -> None:
        self._context = context

    async def write(self, response: health_pb2.HealthCheckResponse) -> None:
        try:
            async with asyncio.timeout(WRITE_S):
                await self._context.write(response)
        except TimeoutError:
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "CLIENT_TOO_SLOW",
                f"The caller has taken no message for {WRITE_S:g} s.",
            ) from None
