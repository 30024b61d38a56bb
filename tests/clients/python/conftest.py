"""A server for the clients: a real gateway before fake stages, in the test's own loop or on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from csm_client import AsyncClient

from tests.support.fake_deployment import FakeDeployment, fake_deployment


@pytest.fixture
async def deployment() -> AsyncIterator[FakeDeployment]:
    async with fake_deployment() as running:
        yield running


@pytest.fixture
async def client(deployment: FakeDeployment) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(deployment.target, timeout_s=20) as opened:
        yield opened


class BackgroundServer:
    """A deployment whose loop runs on a thread, for programs and blocking clients."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deployment: FakeDeployment, stop: asyncio.Event) -> None:
        self._loop = loop
        self.stop = stop
        self.deployment = deployment

    @property
    def target(self) -> str:
        return self.deployment.target

    def do(self, action: Callable[[], Awaitable[Any]]) -> Future[Any]:
        async def run() -> Any:
            return await action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop)


@contextmanager
def background_server(**gateway_settings: Any) -> Iterator[BackgroundServer]:
    """gateway_settings: other than those of `fake_deployment`"""
    started: Future[BackgroundServer] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with fake_deployment(**gateway_settings) as deployment:
            background = BackgroundServer(asyncio.get_running_loop(), deployment, stop)
            started.set_result(background)
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    background = started.result(timeout=20)
    try:
        yield background
    finally:
        background._loop.call_soon_threadsafe(background.stop.set)
        thread.join()


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    with background_server() as background:
        yield background


@pytest.fixture
def serve() -> Callable[..., AbstractContextManager[BackgroundServer]]:
    """A server with settings of the test's own."""
    return background_server
