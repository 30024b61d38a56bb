"""A start that cannot succeed fails. Before it is ready, nobody else looks whether a stage has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.all_in_one import stage as module
from services.all_in_one.settings import AllInOneSettings
from services.all_in_one.stage import READY_S, start_all_in_one
from services.common.rpc.server import StageServer
from services.common.settings import StageSettings
from services.gateway.stage import GatewayStage
from tests.support.clock import Clock


@dataclass
class UnreadyStage:
    """An engine or codec that listens and never becomes ready."""

    server: StageServer
    is_stopped: bool = False

    async def stop(self) -> None:
        self.is_stopped = True
        await self.server.drain(0)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[UnreadyStage]:
    """The stages that were started, instead of real ones."""
    started: list[UnreadyStage] = []

    async def start(settings: Any) -> UnreadyStage:
        server = StageServer(StageSettings(host="127.0.0.1"), [])
        await server.start()
        started.append(UnreadyStage(server))
        return started[-1]

    modules = SimpleNamespace(start_engine=start), SimpleNamespace(start_codec=start)
    monkeypatch.setattr(module, "_import_stages", lambda: modules)
    return started


@pytest.fixture
def settings(tmp_path: Path) -> AllInOneSettings:
    keyring = tmp_path / "keys.json"
    return AllInOneSettings(bundle="none", port=0, health_port=0, metrics_port=-1, watermark_keyring=keyring)


def when_it_waits(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Runs `act` once the start waits for its gateway, which never becomes ready."""

    async def wait_ready(gateway: GatewayStage) -> None:
        asyncio.get_running_loop().call_soon(act)
        await asyncio.Event().wait()

    monkeypatch.setattr(GatewayStage, "wait_ready", wait_ready)


async def test_engine_that_fails_before_the_gateway_is_ready_ends_the_start(
    stages: list[UnreadyStage], settings: AllInOneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_it_waits(monkeypatch, lambda: stages[0].server.fail(RuntimeError("the device is lost")))
    async with asyncio.timeout(30):
        with pytest.raises(RuntimeError, match="the device is lost"):
            await start_all_in_one(settings, lambda line: None)
    assert [stage.is_stopped for stage in stages] == [True, True]


async def test_start_whose_stages_never_fit_together_is_an_error(
    clock: Clock, stages: list[UnreadyStage], settings: AllInOneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_it_waits(monkeypatch, lambda: clock.put_forward(READY_S))
    async with asyncio.timeout(READY_S + 30):
        with pytest.raises(OSError, match="not ready together"):
            await start_all_in_one(settings, lambda line: None)
    assert [stage.is_stopped for stage in stages] == [True, True]
