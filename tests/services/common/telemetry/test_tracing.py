"""Tracing costs nothing when it is off, and delays no call when its collector is slow, gone or silent."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from services.common.process.run import serve_until_stopped
from services.common.rpc.channels.opening import call_metadata
from services.common.rpc.server import StageServer, StageService
from services.common.settings import StageSettings
from services.common.telemetry import otlp as tracing
from services.common.telemetry.tracing import TracingPackagesError, open_tracer
from tests.support.authority import Authority
from tests.support.network.ports import free_ports
from tests.support.waits import eventually

ROOT = Path(__file__).parents[4]
REQUEST = codec_pb2.GetCodecInfoRequest()
SENDING_S = 60.0  # how long spans wait for their collector


@asynccontextmanager
async def traced_stage(codec: Any, endpoint: str) -> AsyncIterator[tuple[StageServer, codec_pb2_grpc.CodecServiceStub]]:
    settings = StageSettings(host="127.0.0.1", trace_endpoint=endpoint)
    add = codec_pb2_grpc.add_CodecServiceServicer_to_server
    server = StageServer(
        settings, [StageService(add, codec, "csm.codec.v1.CodecService")], tracer=open_tracer(settings, "codec")
    )
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield server, codec_pb2_grpc.CodecServiceStub(channel)
    await server.drain(0)


@pytest.fixture
def free_port() -> Iterator[int]:
    with free_ports(1) as (port,):
        yield port


@pytest.fixture
def silent_port() -> Any:
    """A collector that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_nothing_is_imported_when_it_is_off() -> None:
    program = (
        "import asyncio, sys\n"
        "from services.gateway.settings import GatewaySettings\n"
        "from services.gateway.stage import start_gateway\n"
        "import csm_client\n"
        "async def main():\n"
        "    settings = GatewaySettings(host='127.0.0.1', port=0, health_port=0, metrics_port=-1)\n"
        "    stage = await start_gateway(settings)\n"
        "    with csm_client.Client(f'127.0.0.1:{stage.server.port}', timeout_s=1) as client:\n"
        "        try:\n"
        "            await asyncio.to_thread(client.server_info)\n"
        "        except csm_client.ServerError as error:\n"
        "            print(type(error).__name__)\n"
        "    await stage.stop()\n"
        "asyncio.run(main())\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))\n"
    )
    environment = {"PYTHONPATH": ":".join(str(ROOT / path) for path in (".", "gen/python", "clients/python"))}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(done.stdout.splitlines()) == 2  # the call was made, although no engine answers


async def test_missing_package_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "services.common.telemetry.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)  # as if it were not installed
    settings = StageSettings(trace_endpoint="http://collector:4317")
    with pytest.raises(TracingPackagesError, match="--trace-endpoint needs the package opentelemetry.sdk.resources"):
        open_tracer(settings, "codec")

    async def start() -> Any:
        return open_tracer(settings, "codec")

    assert await serve_until_stopped(start) == 1
    assert "requirements/codec.txt has it" in caplog.text


@pytest.mark.parametrize("collector_is", ["gone", "silent"])
async def test_calls_are_as_fast_without_an_answering_collector(
    stage: Any, free_port: int, silent_port: int, collector_is: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "STOP_S", 0.5)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", f"{SENDING_S:.0f}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")  # so that it tries to export during the calls
    port = free_port if collector_is == "gone" else silent_port
    async with traced_stage(stage.codec, f"http://127.0.0.1:{port}") as (_, stub):
        await stub.GetCodecInfo(REQUEST)
        started_s = time.monotonic()
        for _ in range(20):
            assert (await stub.GetCodecInfo(REQUEST)).notice == "fine"
    assert time.monotonic() - started_s < SENDING_S / 2  # neither a call nor the stop has waited for the collector


async def test_last_spans_are_sent_when_the_stage_stops(
    stage: Any, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    async with traced_stage(stage.codec, collector.endpoint) as (_, stub):
        await stub.GetCodecInfo(REQUEST)
        assert collector.spans == []  # spans are exported in batches
    assert collector.only("GetCodecInfo").service == "codec"


async def test_spans_go_over_tls_with_the_headers_of_the_environment(
    stage: Any, collector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.write_ca(tmp_path)))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of-the-collector")
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([authority.issue()]))
    await server.start()
    async with traced_stage(stage.codec, f"https://127.0.0.1:{port}") as (_, stub):
        await stub.GetCodecInfo(REQUEST)
    await server.stop(0)
    assert collector.only("GetCodecInfo")
    assert collector.metadata["authorization"] == "Bearer of-the-collector"


async def test_calls_that_the_drain_cuts_off_are_sent_too(stage: Any, collector: Any) -> None:
    entered = []

    async def never(context: Any) -> Any:
        entered.append(context)
        await asyncio.Event().wait()

    stage.codec.on_info = never
    async with traced_stage(stage.codec, collector.endpoint) as (server, stub):
        calls = [asyncio.ensure_future(stub.GetCodecInfo(REQUEST).code()) for _ in range(8)]
        await eventually(lambda: len(entered) >= len(calls))
        await server.drain(0)
        await asyncio.gather(*calls)
    spans = collector.named("GetCodecInfo")
    assert len(spans) == len(calls)
    assert {span.attributes["rpc.grpc.status_code"] for span in spans} == {grpc.StatusCode.CANCELLED.value[0]}


async def test_a_call_without_a_trace_passes_none_on(stage: Any) -> None:
    seen: list[Any] = []

    async def remember(context: Any) -> Any:
        seen.extend(call_metadata())
        return codec_pb2.GetCodecInfoResponse()

    stage.codec.on_info = remember
    await stage.stub.GetCodecInfo(REQUEST)
    assert [key for key, _ in seen] == ["x-request-id"]
