"""The gateway's readiness: it follows the health of engine and codec through Health.Watch.

A stage may have many replicas behind its name. One of them is watched. If it stops serving, another one is watched
after a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.server import READINESS
from services.gateway.stages.reloading_channel import ReloadingChannel

log = logging.getLogger("csm.gateway")

ANOTHER_REPLICA_AFTER_S = 2.0

_SERVING = health_pb2.HealthCheckResponse.SERVING


class StageWatch:
    """Follows one stage. `serving` is its last reported health."""

    def __init__(
        self,
        name: str,
        channel: ReloadingChannel[health_pb2_grpc.HealthStub],
        on_change: Callable[[], None],
    ) -> None:
        self.serving = False
        self.name = name
        self._channel = channel
        self._on_change = on_change

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                ended = await self._follow_one_replica()
            except grpc.aio.AioRpcError as error:
                ended = error.details() or error.code().name
            if ended:
                self._set(False)
                log.debug("health of the %s: %s", self.name, ended)
                await asyncio.sleep(ANOTHER_REPLICA_AFTER_S / 4)  # the replica answers; it is not unreachable

    async def _follow_one_replica(self) -> str:
        """Returns "" when the replica has not been serving for a while, or else how it has ended the call."""
        async with self._channel.call() as stub:
            return await self._follow(stub.Watch(health_pb2.HealthCheckRequest(service=READINESS), wait_for_ready=True))

    async def _follow(self, call: Any) -> str:
        try:
            while True:
                async with asyncio.timeout(None if self.serving else ANOTHER_REPLICA_AFTER_S):
                    answer = await call.read()
                if not answer:  # the end of the call, or None, which gRPC returns for a malformed message
                    return "it has ended"
                self._set(answer.status == _SERVING)
        except TimeoutError:
            return ""
        finally:
            call.cancel()

    def _set(self, serving: bool) -> None:
        if serving != self.serving:
            self.serving = serving
            log.info("the %s is %s", self.name, "serving" if serving else "not serving")
            try:
                self._on_change()
            except Exception:
                self.serving = not serving  # so that the next report calls `on_change` again
                raise
