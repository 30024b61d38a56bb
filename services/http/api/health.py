"""Asks the gateway's health port whether it is ready."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.channels.opening import open_channel
from services.http.api.channels import ChannelPool

READINESS = "readiness"
TIMEOUT_S = 2.0
SILENCE_S = 4.0  # after which a gateway that answers no ping is asked no more


class GatewayHealth:
    """The health port of the gateways, which is always plaintext. Of several gateways one that serves is asked."""

    def __init__(self, target: str) -> None:
        self._channel = ChannelPool(
            lambda: open_channel(target, health_service=READINESS, silence_s=SILENCE_S), calls_per_channel=0
        )
        self._stub: Any = health_pb2_grpc.HealthStub(self._channel)

    async def is_ready(self) -> bool:
        """Whether a gateway is SERVING; false if the one that is asked does not answer within TIMEOUT_S."""
        try:
            answer = await self._stub.Check(health_pb2.HealthCheckRequest(service=READINESS), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        await self._channel.close(None)
