"""A door before a gateway before stand-ins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.door.fake_door import FakeDoor, fake_door


@pytest.fixture
async def door() -> AsyncIterator[FakeDoor]:
    async with fake_door() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_door() -> AsyncIterator[FakeDoor]:
    async with fake_door() as running:
        yield running


@pytest.fixture
def shared_door(running_door: FakeDoor) -> FakeDoor:
    """One for the tests of a module that are marked as SHARED. They leave it as it was, but for calls."""
    running_door.behind.forget_calls()
    return running_door


@pytest.fixture
def body() -> dict[str, Any]:
    """A right request; tests change one thing."""
    return {"model": "tts-1", "voice": "alloy", "input": "Hello from the other side.", "response_format": "pcm"}
