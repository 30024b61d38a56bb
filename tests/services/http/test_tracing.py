"""Traces through the door: a caller's trace is passed on, with the door's own span in it if there is a collector."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.conftest import Collector
from tests.services.http.test_websocket import talking
from tests.support.door.fake_door import fake_door

TRACE_ID, CALLER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-{CALLER_SPAN}-01"}


@pytest.mark.parametrize("door_traces", [False, True])
async def test_one_trace_from_the_caller_to_the_gateway(
    collector: Collector, body: dict[str, Any], door_traces: bool
) -> None:
    own = {"trace_endpoint": collector.endpoint} if door_traces else {}
    async with fake_door({"trace_endpoint": collector.endpoint}, **own) as door:
        answer = await door.client.post("/v1/audio/speech", json=body, headers=TRACEPARENT)
        assert answer.status_code == 200
        async with talking(door, {}, additional_headers=TRACEPARENT) as talk:
            await talk.say(type="input.text", text="Hello.")
            await talk.say(type="input.done")
            await talk.until("session.done")
    spoken = collector.only("TextToSpeechService/StreamSynthesize")
    assert spoken.trace_id == collector.only("TextToSpeechService/StreamSynthesizeText").trace_id == TRACE_ID
    if door_traces:
        (asked,) = [span for span in collector.spans if span.service == "http" and "/v1/audio/speech" in span.name]
        assert (asked.trace_id, asked.parent_id, spoken.parent_id) == (TRACE_ID, CALLER_SPAN, asked.span_id)
    else:
        assert spoken.parent_id == CALLER_SPAN


async def test_a_malformed_trace_header_is_ignored(body: dict[str, Any]) -> None:
    async with fake_door() as door:
        answer = await door.client.post("/v1/audio/speech", json=body, headers={"traceparent": "x" * 5000})
        assert answer.status_code == 200
