"""A door before a gateway before stand-ins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.door.fake_door import FakeDoor, fake_door


@pytest.fixture
async def door() -> AsyncIterator[FakeDoor]:
    async with fake_door() as running:
        yield running


@pytest.fixture
def body() -> dict[str, Any]:
    """A right request; tests change one thing."""
    return {"model": "tts-1", "voice": "alloy", "input": "Hello from the other side.", "response_format": "pcm"}
