"""The gateway's readiness: it follows the health of engine and codec through Health.Watch.

A stage may have many replicas behind its name. One that serves is watched. If it stops serving, as when it drains,
another one is looked for, and only if none is found does the stage count as not serving.
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

ANOTHER_REPLICA_AFTER_S = 2.0  # a replica that is not serving for so long is left for another one
RETRY_AFTER_S = 0.25  # between two calls

_SERVING = health_pb2.HealthCheckResponse.SERVING


def health_channel(target: str, silence_s: float) -> ReloadingChannel[health_pb2_grpc.HealthStub]:
    """A channel to the health ports of a stage, which are plaintext. Its calls go to replicas that serve."""
    stub = health_pb2_grpc.HealthStub
    return ReloadingChannel(target, stub, None, health_service=READINESS, silence_s=silence_s)


class StageWatch:
    """Follows one stage. `serving` is its last reported health."""

    def __init__(
        self,
        name: str,
        channel: ReloadingChannel[health_pb2_grpc.HealthStub],
        on_change: Callable[[], None],
    ) -> None:
        self.serving = self._was_told = False
        self.name = name
        self._channel = channel
        self._on_change = on_change

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                async with asyncio.timeout(ANOTHER_REPLICA_AFTER_S) as limit:
                    await self._follow_replicas(limit)
            except TimeoutError:
                if self.serving:
                    self._report(False)
                elif not self._was_told:
                    self._was_told = True  # it is said once
                    log.warning(
                        "no %s serves yet at %s (--%s-health-target)", self.name, self._channel.target, self.name
                    )

    async def _follow_replicas(self, limit: asyncio.Timeout) -> None:
        """Follows one replica after the other. Never returns; `limit` counts while none serves."""
        while True:
            try:
                async with self._channel.call() as stub:
                    request = health_pb2.HealthCheckRequest(service=READINESS)
                    ended = await self._follow(stub.Watch(request, wait_for_ready=True), limit)
            except grpc.aio.AioRpcError as error:
                ended = error.details() or error.code().name
            log.debug("health of the %s: %s", self.name, ended)
            if limit.when() is None:
                limit.reschedule(asyncio.get_running_loop().time() + ANOTHER_REPLICA_AFTER_S)
            await asyncio.sleep(RETRY_AFTER_S)

    async def _follow(self, call: Any, limit: asyncio.Timeout) -> str:
        """Returns why another replica is to be called. One that does not serve yet is followed until `limit`."""
        try:
            while answer := await call.read():
                if answer.status == _SERVING:
                    limit.reschedule(None)
                    self._report(True)
                elif self.serving:
                    return "it is not serving"
            return "it has ended"  # the end of the call, or None, which gRPC returns for a malformed message
        finally:
            call.cancel()

    def _report(self, serving: bool) -> None:
        """Each replica that is found is reported: it may be of another bundle than the one before."""
        before, self.serving, self._was_told = self.serving, serving, True
        if serving != before:
            log.info("the %s is %s", self.name, "serving" if serving else "not serving")
        try:
            self._on_change()
        except Exception:
            self.serving = before
            raise
