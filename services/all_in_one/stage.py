"""Starts the three stages in one process, wired over loopback ports with real gRPC, and stops them in turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import ModuleType

from services.all_in_one.settings import LOOPBACK, AllInOneSettings
from services.common.rpc.server import StageServer
from services.common.run import Stage
from services.gateway.stage import GatewayStage, start_gateway

Tell = Callable[[str], None]  # takes a line about what is going on


class AllInOneStage:
    """All three stages; `server` is the gateway's."""

    def __init__(self, gateway: GatewayStage, stages: AsyncExitStack) -> None:
        self.gateway = gateway
        self._stages = stages

    @property
    def server(self) -> StageServer:
        return self.gateway.server

    async def stop(self) -> None:
        """Gateway first, so that its calls can end."""
        await self._stages.aclose()


async def start_all_in_one(settings: AllInOneSettings, tell: Tell) -> AllInOneStage:
    """Loads engine and codec and returns when the gateway is ready.

    Raises CsmError when the bundle cannot be loaded, OSError when a port is taken.
    """
    async with AsyncExitStack() as stages:
        tell("loading torch ...")
        engine_module, codec_module = await asyncio.to_thread(_import_stages)
        tell(f"loading the engine from {settings.bundle} ...")
        engine: Stage = await engine_module.start_engine(settings.engine())
        stages.push_async_callback(engine.stop)
        tell("loading the codec ...")
        codec: Stage = await codec_module.start_codec(settings.codec())
        stages.push_async_callback(codec.stop)
        gateway = await start_gateway(
            settings.gateway(
                engine_target=f"{LOOPBACK}:{engine.server.port}",
                engine_health_target=f"{LOOPBACK}:{engine.server.health_port}",
                codec_target=f"{LOOPBACK}:{codec.server.port}",
                codec_health_target=f"{LOOPBACK}:{codec.server.health_port}",
            )
        )
        stages.push_async_callback(gateway.stop)
        for stage in (engine, codec):
            watch = asyncio.create_task(_pass_failure_on(stage.server, gateway.server))
            stages.callback(watch.cancel)
        await gateway.wait_ready()
        return AllInOneStage(gateway, stages.pop_all())
    raise AssertionError("unreachable")


def _import_stages() -> tuple[ModuleType, ModuleType]:
    """Imports torch, which takes seconds; the loop goes on meanwhile."""
    for name in ("torchao", "torch.utils._pytree"):  # they warn at every import about things outside this project
        logging.getLogger(name).setLevel(logging.ERROR)
    from services.codec import stage as codec_module
    from services.engine import stage as engine_module

    return engine_module, codec_module


async def _pass_failure_on(stage: StageServer, to: StageServer) -> None:
    to.fail(await stage.wait_failed())
