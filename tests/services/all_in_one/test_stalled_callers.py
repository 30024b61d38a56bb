"""A real engine and a real codec with two decode slots, and two callers that read nothing: a third one is served, and
all hear the same samples in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2_grpc

from services.codec.settings import CodecSettings
from services.codec.stage import start_codec
from services.engine.settings import EngineSettings
from services.engine.stage import start_engine
from services.gateway.settings import GatewaySettings
from services.gateway.stage import GatewayStage, start_gateway
from tests.services.all_in_one.test_survival import LOCAL, request
from tests.services.gateway.synthesis.test_stalled_listeners import SMALL_WINDOW
from tests.support.fake_deployment import stage_targets
from tests.support.waits import eventually

SLOTS = 2
SECONDS = 3
WAIT_S = 100.0


@pytest.fixture
async def gateway(bundle: Path, keyring: Path) -> AsyncIterator[GatewayStage]:
    async with AsyncExitStack() as stack:
        model: dict[str, Any] = LOCAL | {"bundle": str(bundle), "threads": 1, "slots": SLOTS}
        engine = await start_engine(EngineSettings(**model))
        stack.push_async_callback(engine.stop)
        codec = await start_codec(CodecSettings(**(model | {"watermark_keyring": keyring})))
        stack.push_async_callback(codec.stop)
        settings = {
            **stage_targets([engine.server], [codec.server]),
            "code_sealing": "open",
            "stage_silence_seconds": 60.0,
            "slot_patience_seconds": 0.3,
            "decode_ahead_frames": 6,
            "write_timeout_seconds": WAIT_S,
        }
        running = await start_gateway(GatewaySettings(**(LOCAL | settings)))
        stack.push_async_callback(running.stop)
        await running.wait_ready()
        yield running


def _given_back(gateway: GatewayStage) -> float:
    registry = gateway.server.metrics.registry
    return registry.get_sample_value("tts_decode_slots_total", {"event": "given_back"}) or 0


async def _rest_of(call: Any) -> bytes:
    content = b""
    while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        content += message.audio_chunk.audio_content
    assert await call.code() is grpc.StatusCode.OK
    return content


async def test_stalled_callers_starve_no_other_and_get_the_same_audio(gateway: GatewayStage) -> None:
    asked = request()
    asked.max_audio_duration.FromSeconds(SECONDS)
    async with AsyncExitStack() as stack:

        async def begin() -> Any:
            target = f"127.0.0.1:{gateway.server.port}"
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options=SMALL_WINDOW))
            call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(asked)
            await call.read()
            return call

        async with asyncio.timeout(WAIT_S):
            stalled = [await begin() for _ in range(SLOTS)]
            await eventually(lambda: _given_back(gateway) >= SLOTS)
            expected = await _rest_of(await begin())
            assert len(expected) > 2 * 24_000 * (SECONDS - 1)
            for call in stalled:
                assert await _rest_of(call) == expected
