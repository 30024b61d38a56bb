"""Starts the stages and the HTTP door in one process, wired with real gRPC, and stops them in turn.

Engine and codec are on loopback ports. The door calls the gateway over a socket in a folder that only this user can
open, so that it needs no certificate where the gateway's port wants TLS.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import ModuleType
from typing import Protocol

from services.all_in_one.settings import LOOPBACK, AllInOneSettings
from services.common.process.run import Server
from services.common.rpc.server import StageServer
from services.common.settings import host_and_port, reachable_host
from services.gateway.stage import GatewayStage, start_gateway
from services.http.stage import HttpStage, start_http

Tell = Callable[[str], None]  # takes a line about what is going on

PRIVATE = "unix:"  # with what the address of the door begins, and no other caller's
READY_S = 120.0  # until the gateway has found that engine and codec, which have started, belong together


class GrpcStage(Protocol):
    """Engine or codec."""

    @property
    def server(self) -> StageServer: ...

    async def stop(self) -> None: ...


class AllInOneStage:
    """All stages; `server` is the gateway's, and `http` is None where the door is off."""

    def __init__(self, gateway: GatewayStage, http: HttpStage | None, stages: AsyncExitStack) -> None:
        self.gateway = gateway
        self.http = http
        self._stages = stages

    @property
    def server(self) -> StageServer:
        return self.gateway.server

    async def stop(self) -> None:
        """Door and gateway first, so that their calls can end. The door's may still begin others at the gateway."""
        self.server.close(but=PRIVATE)
        await self._stages.aclose()


async def start_all_in_one(settings: AllInOneSettings, tell: Tell) -> AllInOneStage:
    """Loads engine and codec and returns when the gateway is ready.

    Raises CsmError when the bundle cannot be loaded, OSError when a port is taken or engine and codec do not fit, and
    the failure of a stage that has failed meanwhile.
    """
    async with AsyncExitStack() as stages:
        tell("loading torch ...")
        engine_module, codec_module = await asyncio.to_thread(_import_stages)
        tell(f"loading the engine from {settings.bundle} ...")
        engine: GrpcStage = await engine_module.start_engine(settings.engine())
        stages.push_async_callback(engine.stop)
        tell("loading the codec ...")
        codec: GrpcStage = await codec_module.start_codec(settings.codec())
        stages.push_async_callback(codec.stop)
        private = f"{PRIVATE}{stages.enter_context(tempfile.TemporaryDirectory(prefix='csm-'))}/gateway"
        gateway = await start_gateway(
            settings.gateway(
                engine_target=f"{LOOPBACK}:{engine.server.port}",
                engine_health_target=f"{LOOPBACK}:{engine.server.health_port}",
                codec_target=f"{LOOPBACK}:{codec.server.port}",
                codec_health_target=f"{LOOPBACK}:{codec.server.health_port}",
            ),
            private,
        )
        stages.push_async_callback(gateway.stop)
        for stage in (engine, codec):
            _pass_failures(stage.server, gateway.server, stages)
        await _until_ready(gateway)
        http = None
        if settings.http_port >= 0:
            health_target = host_and_port(reachable_host(settings.host), gateway.server.health_port)
            http = await start_http(settings.http(gateway_target=private, gateway_health_target=health_target))
            stages.push_async_callback(http.stop)
            _pass_failures(http.server, gateway.server, stages)
        return AllInOneStage(gateway, http, stages.pop_all())
    raise AssertionError("unreachable")


def _import_stages() -> tuple[ModuleType, ModuleType]:
    """Imports torch, which takes seconds; the loop goes on meanwhile."""
    from services.codec import stage as codec_module
    from services.engine import stage as engine_module

    return engine_module, codec_module


async def _until_ready(gateway: GatewayStage) -> None:
    """Raises the gateway's failure, or OSError after READY_S."""
    ready, failed = asyncio.ensure_future(gateway.wait_ready()), asyncio.ensure_future(gateway.server.wait_failed())
    try:
        done, _ = await asyncio.wait({ready, failed}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
        failed.cancel()
    if failed in done:
        raise failed.result()
    if not done:
        raise OSError(f"engine and codec are not ready together within {READY_S:g} s; the log above says why")


def _pass_failures(of: Server, to: StageServer, stages: AsyncExitStack) -> None:
    """Until `stages` are stopped."""

    async def watch() -> None:
        try:
            to.fail(await of.wait_failed())
        except Exception as error:
            to.fail(error)

    stages.callback(asyncio.create_task(watch()).cancel)
