"""A gateway in front of several engines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.services.gateway.stages.engines import REPLICAS
from tests.support.fake_deployment import FakeDeployment, fake_deployment


@pytest.fixture
async def deployment(request: pytest.FixtureRequest) -> AsyncIterator[FakeDeployment]:
    """Parameter, optional: --max-full-replicas."""
    moves = getattr(request, "param", 3)
    async with fake_deployment(replica_count=REPLICAS, failover_wait_seconds=20.0, max_full_replicas=moves) as running:
        await running.gateway.wait_ready()
        yield running
