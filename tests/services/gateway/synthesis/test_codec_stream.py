"""The stream to the codec: what is left of it when it has ended."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.support.fake_deployment import FakeDeployment


async def test_a_codec_that_fails_while_the_engine_is_silent_leaves_no_task_behind(
    deployment: FakeDeployment, tts: Any, stream_request: Any
) -> None:
    await deployment.gateway.wait_ready()
    deployment.engine.script.pause_at = 5
    deployment.codec.script.fail_at = 1
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in tts.StreamSynthesize(stream_request):
            pass
    async with asyncio.timeout(60):
        while "_consume_request_iterator" in str(asyncio.all_tasks()):
            await asyncio.sleep(0.01)
