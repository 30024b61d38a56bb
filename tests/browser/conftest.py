"""The page in browsers, before a real door and a real gateway with stand-ins behind it: `make test-browser`.

Each test runs in each browser that the machine has.
"""

from __future__ import annotations

import asyncio
import math
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.door.browsers import chromium, firefox, webkit
from tests.support.door.browsers.page import Browser, Page
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_stages import FRAME_SAMPLES, SAMPLE_RATE_HZ, CallRecord


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker("browser")


def humming(frames: range) -> bytes:
    """A tone; no sample of it is silent."""
    first, count = frames.start * FRAME_SAMPLES, len(frames) * FRAME_SAMPLES
    tone = (math.sin(2 * math.pi * 440 * at / SAMPLE_RATE_HZ) for at in range(first, first + count))
    return struct.pack(f"<{count}h", *(round(8000 * sample) or 1 for sample in tone))


class ThreadedDoor:
    """A door whose event loop is a thread's: the browser's driver blocks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, door: FakeDoor) -> None:
        self._loop = loop
        self._door = door
        self.url = door.url
        self.engine = door.behind.engine
        self.codec = door.behind.codec

    def resume(self) -> None:
        """Lets the engine go on after its pause."""
        self._loop.call_soon_threadsafe(self.engine.script.resume.set)

    def ended(self, call: CallRecord) -> str:
        """The error with which a call of the engine has ended; it must end within ten seconds."""
        waiting = asyncio.wait_for(call.ended.wait(), 10)
        asyncio.run_coroutine_threadsafe(waiting, self._loop).result(20)
        return call.error


@contextmanager
def threaded_door(gateway: dict[str, Any] | None = None, **settings: Any) -> Iterator[ThreadedDoor]:
    """gateway: its settings; settings: of the door"""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    door = fake_door(gateway, **settings)
    try:
        running = asyncio.run_coroutine_threadsafe(door.__aenter__(), loop).result(60)
        running.behind.codec.audio_of = humming
        running.behind.engine.frame_count = 25  # two seconds
        try:
            yield ThreadedDoor(loop, running)
        finally:
            asyncio.run_coroutine_threadsafe(door.__aexit__(None, None, None), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session", params=[chromium, firefox, webkit], ids=lambda kind: kind.__name__.split(".")[-1])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    if lacks := request.param.missing():
        pytest.skip(lacks)
    with request.param.opened() as running:
        yield running


@pytest.fixture
def door() -> Iterator[ThreadedDoor]:
    with threaded_door() as running:
        yield running


@pytest.fixture
def page(browser: Browser, door: ThreadedDoor) -> Iterator[Page]:
    opened = Page(browser, door.url)
    yield opened
    assert opened.faults() == []
    browser.driver.get("about:blank")
