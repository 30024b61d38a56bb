"""A stage as a program: signals, failures, exit codes."""

from __future__ import annotations

import asyncio
import os
import signal

from csm_bundle.errors import BundleError
from services.common.rpc.server import StageServer
from services.common.run import serve_until_stopped
from services.common.settings import StageSettings


class EmptyStage:
    def __init__(self) -> None:
        self.server = StageServer(StageSettings(host="127.0.0.1"), [])
        self.stopped = False

    async def start(self) -> EmptyStage:
        await self.server.start()
        asyncio.get_running_loop().call_soon(self.on_started)
        return self

    def on_started(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def stop(self) -> None:
        await self.server.drain()
        self.stopped = True


async def test_sigterm_drains_and_exits_with_zero() -> None:
    stage = EmptyStage()
    assert await serve_until_stopped(stage.start) == 0
    assert stage.stopped


async def test_sigterm_while_loading_exits_with_zero() -> None:
    stage = EmptyStage()

    async def load_forever() -> EmptyStage:
        stage.on_started()
        await asyncio.Event().wait()
        return stage

    codes: list[int] = []
    assert await serve_until_stopped(load_forever, codes.append) == 0
    assert codes == [0]


async def test_fatal_failure_exits_with_one() -> None:
    stage = EmptyStage()
    stage.on_started = lambda: stage.server.fail(RuntimeError("device lost"))  # type: ignore[method-assign]
    assert await serve_until_stopped(stage.start) == 1
    assert stage.stopped


async def test_failing_start_exits_with_one() -> None:
    async def cannot() -> EmptyStage:
        raise BundleError("There is no bundle at /nowhere.")

    assert await serve_until_stopped(cannot) == 1
