"""Three stages in one process are three services of one trace."""

from __future__ import annotations

from typing import Any

from csm_client import AsyncClient

from services.all_in_one.settings import AllInOneSettings
from services.all_in_one.stage import start_all_in_one


async def test_real_stages_make_one_trace_of_three_services(traced_settings: AllInOneSettings, collector: Any) -> None:
    stage = await start_all_in_one(traced_settings, lambda line: None)
    try:
        async with AsyncClient(f"127.0.0.1:{stage.server.port}", timeout_s=100) as client:
            stream = client.stream_synthesize("Hello.", max_seconds=0.8, seed=1)
            await stream.read_all()
    finally:
        await stage.stop()
    gateway, engine, codec = (collector.only(name) for name in ("StreamSynthesize", "Generate", "StreamDecode"))
    assert [span.service for span in (gateway, engine, codec)] == ["gateway", "engine", "codec"]
    assert {span.trace_id for span in (engine, codec)} == {gateway.trace_id}
    assert {span.parent_id for span in (engine, codec)} == {gateway.span_id}
    assert [name for name, _ in engine.events] == ["admitted", "first frames"]
    assert [name for name, _ in codec.events] == ["first audio"]
    assert stream.header is not None
    assert {span.attributes["csm.request_id"] for span in (gateway, engine, codec)} == {stream.header.request_id}
    assert gateway.attributes["csm.frames"] == engine.attributes["csm.frames"] == codec.attributes["csm.frames"] == 10
