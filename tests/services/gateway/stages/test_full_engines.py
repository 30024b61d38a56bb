"""A stream that waits for room at full engines: how many of them are asked, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from csm_bundle.errors import EngineBusyError
from tests.services.gateway.stages.engines import Request, counts, metric
from tests.support.fake_deployment import FakeDeployment
from tests.support.text_streams import messages_of


async def last_message(call: Any) -> Any:
    message = None
    while (following := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
        message = following
    return message


async def test_a_text_that_waits_for_room_asks_one_engine_at_a_time(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    stream_request.ClearField("input")
    for engine in deployment.engines:
        engine.script.pause_at = 5
    text = tts.StreamSynthesizeText(iter(messages_of(stream_request)), timeout=60)
    reading = asyncio.ensure_future(last_message(text))
    async with asyncio.timeout(50):
        while not any(engine.script.paused.is_set() for engine in deployment.engines):
            await asyncio.sleep(0.01)
        for engine in deployment.engines:
            engine.refusal = EngineBusyError("The queue is full.")
            engine.script.resume.set()
        while sum(counts(deployment.engines)) < 1 + 4 + 5:  # the first sentence, then all engines, then one by one
            await asyncio.sleep(0.01)
        for engine in deployment.engines:
            engine.refusal = None
        assert (await reading).WhichOneof("event") == "summary"
    for by, outcome, least, most in (
        ("conversation", "moved", 3, 3),
        ("load", "moved", 0, 0),
        ("load", "refused", 5, 9),
    ):
        found = metric(deployment, "tts_full_replicas_total", stage="engine", by=by, outcome=outcome)
        assert least <= found <= most, (by, outcome, found)
    keys = [call.metadata.get("csm-conversation", "") for engine in deployment.engines for call in engine.calls]
    assert sum(map(bool, keys)) == 5  # the first sentence, three calls for the second, the third at its engine again
