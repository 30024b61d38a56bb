"""A stage as a program: signals, failures, exit codes."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from typing import NoReturn

import pytest

from csm_bundle.errors import BundleError
from services.common.process import run as module
from services.common.process.run import MOST_FILES, raise_file_limit, run_stage, serve_until_stopped
from services.common.rpc.server import StageServer
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

    order: list[object] = []

    async def load_forever() -> EmptyStage:
        stage.on_started()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            order.append("cleaned up")
        return stage

    assert await serve_until_stopped(load_forever, order.append) == 0
    assert order == ["cleaned up", 0]


async def test_fatal_failure_exits_with_one() -> None:
    stage = EmptyStage()
    stage.on_started = lambda: stage.server.fail(RuntimeError("device lost"))  # type: ignore[method-assign]
    assert await serve_until_stopped(stage.start) == 1
    assert stage.stopped


async def test_failing_start_exits_with_one(caplog: pytest.LogCaptureFixture) -> None:
    async def cannot() -> EmptyStage:
        raise BundleError("There is no bundle at /nowhere.")

    assert await serve_until_stopped(cannot) == 1
    assert [record.exc_info for record in caplog.records] == [None], "it is no fault of the program"


@pytest.mark.parametrize(("fails", "code"), [(False, 0), (True, 1)])
def test_the_end_of_the_process_waits_for_no_task_and_needs_no_stop_in_order(
    monkeypatch: pytest.MonkeyPatch, fails: bool, code: int
) -> None:
    """A task may hang for ever in a file system; asyncio waits for the end of each."""
    order: list[object] = []

    class LeavingStage(EmptyStage):
        async def stop(self) -> None:
            await super().stop()
            self.left = asyncio.create_task(self.hang())
            await asyncio.sleep(0)
            if fails:
                raise RuntimeError("cannot be closed")

        async def hang(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                order.append("was waited for")

    def end(code: int) -> NoReturn:
        order.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(module, "end_at_once", end)
    for name in ("freeze_present_objects", "raise_file_limit"):
        monkeypatch.setattr(module, name, lambda: None)
    with pytest.raises(SystemExit):
        run_stage(lambda: LeavingStage().start())
    assert order[0] == code


@pytest.mark.parametrize(
    ("before", "after"),
    [((1024, 4096), (4096, 4096)), ((1024, resource.RLIM_INFINITY), (MOST_FILES, resource.RLIM_INFINITY))],
)
def test_as_many_files_may_be_open_as_are_allowed(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int]
) -> None:
    limits = [before]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, new: limits.append(new))
    raise_file_limit()
    raise_file_limit()  # a second call changes nothing
    assert limits == [before, after]


MACOS_MOST = 61440  # kern.maxfilesperproc


@pytest.mark.parametrize(("kernels_most", "soft", "warnings"), [(MACOS_MOST, 32768, 0), (300, 256, 1)])
def test_on_macos_the_file_limit_is_raised_as_far_as_the_kernel_allows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kernels_most: int, soft: int, warnings: int
) -> None:
    limits = [(256, resource.RLIM_INFINITY)]

    def set_limit(which: int, new: tuple[int, int]) -> None:
        if new[0] > kernels_most:
            raise ValueError("current limit exceeds maximum limit")
        limits.append(new)

    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    raise_file_limit()
    assert limits[-1] == (soft, resource.RLIM_INFINITY)
    assert len(caplog.records) == warnings
