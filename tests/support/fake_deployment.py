"""A real gateway in front of fake engines and codecs, for tests of the gateway and of the clients.

All of them are real servers that speak the real protos on free ports.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from types import MappingProxyType
from typing import Any, Protocol
from unittest.mock import patch

import grpc
from csm.codec.v1 import codec_pb2_grpc
from csm.engine.v1 import engine_pb2_grpc

from services.common.rpc import health
from services.common.rpc.server import StageServer, StageService
from services.common.rpc.status import StatusError, from_rpc_error
from services.common.settings import StageSettings
from services.common.telemetry.tracing import open_tracer
from services.gateway.settings import GatewaySettings
from services.gateway.stage import GatewayStage, start_gateway
from tests.support.cost.given_settings import given_settings
from tests.support.fake_stages import FakeCodec, FakeEngine
from tests.support.network.ports import free_ports
from tests.support.waits import eventually

_ADD_TO_SERVER: dict[str, Callable[[Any, grpc.aio.Server], None]] = {
    "engine": engine_pb2_grpc.add_EngineServiceServicer_to_server,
    "codec": codec_pb2_grpc.add_CodecServiceServicer_to_server,
}
_ANY_PORTS = repeat(0)


@dataclass
class FakeDeployment:
    """A running gateway, and the fakes behind it: one or more of each stage."""

    engines: list[FakeEngine]
    codecs: list[FakeCodec]
    engine_servers: list[StageServer]
    codec_servers: list[StageServer]
    gateway: GatewayStage

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.gateway.server.port}"

    @property
    def engine(self) -> FakeEngine:
        return self.engines[0]

    @property
    def codec(self) -> FakeCodec:
        return self.codecs[0]

    @property
    def engine_server(self) -> StageServer:
        return self.engine_servers[0]

    @property
    def codec_server(self) -> StageServer:
        return self.codec_servers[0]

    def forget_calls(self) -> None:
        """For the next test of a deployment that several share."""
        for engine in self.engines:
            engine.calls.clear()
        for codec in self.codecs:
            for records in (codec.calls, codec.searches, codec.encoded, codec.detected):
                records.clear()


@asynccontextmanager
async def fake_deployment(
    *,
    replica_count: int = 1,
    codec: Callable[[], FakeCodec] = FakeCodec,
    used_bytes: Callable[[int], int] | str = lambda at_least: 0,
    **gateway_settings: Any,
) -> AsyncIterator[FakeDeployment]:
    """Starts the servers. The gateway becomes ready by itself, a little later.

    replica_count: of the engine and of the codec. used_bytes: the gateway's view of its own memory, or why it has none.
    """
    traces = {key: value for key, value in gateway_settings.items() if key.startswith("trace_")}
    # No other test's server gets the port of a stage that ends while the gateway still looks for it. And a clock that
    # is put forward ends no call of a health check whose request is still under way.
    with free_ports(4 * replica_count) as ports, patch.object(health, "RECEIVE_S", math.inf):
        free = iter(ports)
        engines = [FakeEngine() for _ in range(replica_count)]
        codecs = [codec() for _ in range(replica_count)]
        engine_servers = [await serve_stand_in("engine", engine, traces, free) for engine in engines]
        codec_servers = [await serve_stand_in("codec", each, traces, free) for each in codecs]
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "health_port": 0,
            "metrics_port": -1,
            **stage_targets(engine_servers, codec_servers),
            "drain_seconds": 0.0,
            "failover_wait_seconds": 0.5,
            "stage_silence_seconds": 60.0,  # fakes report no progress, and tests run on busy machines
            "code_sealing": "open",
            "max_full_replicas": 0,  # the gateway asks one replica only before it refuses
            "voices_database": "",
        }
        gateway = await start_gateway(
            given_settings(GatewaySettings, **(settings | gateway_settings)), used_bytes=used_bytes
        )
        try:
            yield FakeDeployment(engines, codecs, engine_servers, codec_servers, gateway)
        finally:
            await gateway.stop()
            for server in (*codec_servers, *engine_servers):
                await server.drain(0)


def target_of(ports: list[int]) -> str:
    """One gRPC target with the address of each port."""
    return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


class Listens(Protocol):
    """A server of a stage, or a process that is one."""

    @property
    def port(self) -> int: ...

    @property
    def health_port(self) -> int: ...


def stage_targets(engines: Sequence[Listens], codecs: Sequence[Listens]) -> dict[str, Any]:
    """The gateway settings that name its stages."""
    return {
        "engine_target": target_of([server.port for server in engines]),
        "engine_health_target": target_of([server.health_port for server in engines]),
        "codec_target": target_of([server.port for server in codecs]),
        "codec_health_target": target_of([server.health_port for server in codecs]),
    }


async def serve_stand_in(
    stage: str, servicer: object, traces: Mapping[str, Any] = MappingProxyType({}), ports: Iterator[int] = _ANY_PORTS
) -> StageServer:
    """Serves a fake and reports it as ready. stage: "engine" or "codec"; ports: of the API and of its health, next."""
    settings = given_settings(StageSettings, host="127.0.0.1", port=next(ports), health_port=next(ports), **traces)
    service = StageService(_ADD_TO_SERVER[stage], servicer, f"csm.{stage}.v1.{stage.capitalize()}Service")
    server = StageServer(settings, [service], tracer=open_tracer(settings, stage), for_gateways=True)
    await server.start()
    server.set_serving()
    return server


async def failure(call: Any) -> StatusError:
    """Reads the responses of a call, which must fail. Returns its status."""
    try:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
            pass
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("The call has not failed.")


async def read_until_audio(call: Any) -> None:
    while (await call.read()).WhichOneof("event") != "audio_chunk":
        pass


async def ended(calls: Any, index: int = 0) -> str:
    """Waits until a fake's call has ended. Returns its `error`. calls: list of CallRecord."""
    async with asyncio.timeout(60):
        await eventually(lambda: len(calls) > index)
        await calls[index].ended.wait()
    error: str = calls[index].error
    return error
