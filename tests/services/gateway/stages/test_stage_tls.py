"""The gateway's channels to engine and codec over TLS. Health stays plaintext."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2_grpc
from csm.engine.v1 import engine_pb2_grpc
from csm.v1 import tts_pb2_grpc

from services.common.rpc.server import StageServer, StageService
from services.common.rpc.tls import TlsFileError, stage_credentials
from services.common.settings import StageSettings, load_settings
from services.gateway.settings import GatewaySettings
from services.gateway.stage import GatewayStage, start_gateway
from services.gateway.stages.reloading_channel import ReloadingChannel
from tests.support.authority import Authority, end_s, write_pair
from tests.support.fake_stages import FRAME_SAMPLES, FakeCodec, FakeEngine

READY_S = 20.0
ENDS = "stage_certificate_not_after_timestamp_seconds"


@asynccontextmanager
async def deployment(
    stage_files: dict[str, Any],
    engine: FakeEngine | None = None,
    target: str = "localhost:{port}",
    **gateway_files: Any,
) -> AsyncIterator[GatewayStage]:
    """A gateway in front of a fake engine and a fake codec that use TLS. target: of either, for the gateway"""
    async with AsyncExitStack() as running:
        targets: dict[str, Any] = {}
        for name, add, servicer in (
            ("engine", engine_pb2_grpc.add_EngineServiceServicer_to_server, engine or FakeEngine()),
            ("codec", codec_pb2_grpc.add_CodecServiceServicer_to_server, FakeCodec()),
        ):
            settings = StageSettings(host="127.0.0.1", **stage_files)
            server = StageServer(settings, [StageService(add, servicer, f"csm.{name}.v1.{name.capitalize()}Service")])
            await server.start()
            running.push_async_callback(server.drain, 0)
            server.set_serving()
            targets |= {f"{name}_target": target.format(port=server.port)}
            targets |= {f"{name}_health_target": f"127.0.0.1:{server.health_port}"}
        ports: dict[str, Any] = {"port": 0, "health_port": 0, "metrics_port": -1, "drain_seconds": 0.0}
        gateway = await start_gateway(GatewaySettings(host="127.0.0.1", **ports, **targets, **gateway_files))
        running.push_async_callback(gateway.stop)
        yield gateway


async def samples_of(gateway: GatewayStage, request: Any) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.server.port}") as channel:
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        messages = [message async for message in stub.StreamSynthesize(request, timeout=20)]
    return messages[-1].summary.stats.sample_count


async def test_gateway_speaks_over_tls_to_engine_and_codec(tmp_path: Path, stream_request: Any) -> None:
    ours = Authority()
    async with deployment(ours.write(tmp_path), stage_tls_ca=ours.write_ca(tmp_path)) as gateway:
        await asyncio.wait_for(gateway.wait_ready(), READY_S)
        assert await samples_of(gateway, stream_request) == 10 * FRAME_SAMPLES


@pytest.mark.parametrize("scheme", ["ipv4:", "ipv4:///"])
async def test_gateway_speaks_over_tls_to_listed_stages(scheme: str, tmp_path: Path, stream_request: Any) -> None:
    """Their certificates must have the first address of the list; gRPC itself would look for the list as a name."""
    ours, listed = Authority(), f"{scheme}127.0.0.1:{{port}},127.0.0.2:1"
    async with deployment(ours.write(tmp_path), target=listed, stage_tls_ca=ours.write_ca(tmp_path)) as gateway:
        await asyncio.wait_for(gateway.wait_ready(), READY_S)
        assert await samples_of(gateway, stream_request) == 10 * FRAME_SAMPLES


async def test_gateway_shows_its_certificate_to_stages_that_ask(tmp_path: Path, stream_request: Any) -> None:
    ours, callers = Authority(), Authority()
    stage_files = ours.write(tmp_path) | {"tls_client_ca": callers.write_ca(tmp_path, "callers.crt")}
    own = callers.write(tmp_path / "gateway")
    async with deployment(
        stage_files,
        stage_tls_ca=ours.write_ca(tmp_path),
        stage_tls_certificate=own["tls_certificate"],
        stage_tls_key=own["tls_key"],
    ) as gateway:
        await asyncio.wait_for(gateway.wait_ready(), READY_S)
        assert await samples_of(gateway, stream_request) == 10 * FRAME_SAMPLES


async def test_later_calls_use_a_new_certificate_of_the_gateway(
    tmp_path: Path, stream_request: Any, look_at_files: Callable[[], None]
) -> None:
    """The stages trust only the new certificate's authority: refused calls then succeed, without a restart."""
    ours, former, callers = Authority(), Authority(), Authority()
    stage_files = ours.write(tmp_path) | {"tls_client_ca": callers.write_ca(tmp_path, "callers.crt")}
    own = former.write(tmp_path / "gateway")
    files = {"stage_tls_certificate": own["tls_certificate"], "stage_tls_key": own["tls_key"]}
    async with deployment(stage_files, stage_tls_ca=ours.write_ca(tmp_path), **files) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await samples_of(gateway, stream_request)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        callers.write(tmp_path / "gateway")
        look_at_files()
        assert await samples_of(gateway, stream_request) == 10 * FRAME_SAMPLES


async def test_streams_that_run_outlive_a_new_certificate_and_wrong_files_change_nothing(
    tmp_path: Path, stream_request: Any, look_at_files: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    ours, engine = Authority(), FakeEngine()
    stage_files = ours.write(tmp_path) | {"tls_client_ca": ours.write_ca(tmp_path, "callers.crt")}
    own = ours.write(tmp_path / "gateway")
    files = {"stage_tls_certificate": own["tls_certificate"], "stage_tls_key": own["tls_key"]}
    async with deployment(stage_files, engine, stage_tls_ca=ours.write_ca(tmp_path), **files) as gateway:
        await asyncio.wait_for(gateway.wait_ready(), READY_S)
        engine.script.pause_at = 5
        begun = asyncio.create_task(samples_of(gateway, stream_request))
        await asyncio.wait_for(engine.script.paused.wait(), READY_S)
        engine.script.pause_at = None

        ours.write(tmp_path / "gateway")
        look_at_files()
        assert await samples_of(gateway, stream_request) == 10 * FRAME_SAMPLES
        own["tls_key"].write_text("no key")
        look_at_files()
        for _ in range(2):
            assert await samples_of(gateway, stream_request) == 10 * FRAME_SAMPLES
        engine.script.resume.set()
        assert await begun == 10 * FRAME_SAMPLES
    refusals = [record for record in caplog.records if "--stage-tls-key" in record.getMessage()]
    assert len(refusals) == 1
    labels = {"setting": "stage_tls_ca"}
    outcomes = [
        gateway.server.metrics.registry.get_sample_value("stage_file_reloads_total", labels | {"outcome": outcome})
        for outcome in ("used", "refused")
    ]
    assert outcomes == [1, 1]


async def test_end_of_the_certificate_that_the_gateway_shows_its_stages_is_in_its_metrics(
    tmp_path: Path, look_at_files: Callable[[], None]
) -> None:
    ours = Authority()
    own = ours.write(tmp_path / "gateway")
    files = {"stage_tls_certificate": own["tls_certificate"], "stage_tls_key": own["tls_key"]}
    labels = {"setting": "stage_tls_certificate"}
    async with deployment(ours.write(tmp_path), stage_tls_ca=ours.write_ca(tmp_path), **files) as gateway:
        shown = gateway.server.metrics.registry.get_sample_value
        assert shown(ENDS, labels) == end_s(own["tls_certificate"].read_bytes())
        new = ours.issue(ends=datetime(2049, 1, 2, tzinfo=UTC))
        write_pair(tmp_path / "gateway", *new)
        look_at_files()
        assert shown(ENDS, labels) == end_s(new[1])
    async with deployment(ours.write(tmp_path), stage_tls_ca=ours.write_ca(tmp_path)) as gateway:
        assert gateway.server.metrics.registry.get_sample_value(ENDS, labels) is None


async def test_the_old_channel_closes_with_its_last_call(tmp_path: Path, look_at_files: Callable[[], None]) -> None:
    ours = Authority()
    channels: list[grpc.aio.Channel] = []

    def remembered(channel: grpc.aio.Channel) -> grpc.aio.Channel:
        channels.append(channel)
        return channel

    channel = ReloadingChannel("localhost:1", remembered, stage_credentials(ours.write_ca(tmp_path), None, None))
    async with channel.call(), channel.call():
        Authority().write_ca(tmp_path)
        look_at_files()
        async with channel.call() as newest:
            assert newest is channels[1]
        assert channels[0].get_state() is grpc.ChannelConnectivity.IDLE
    await asyncio.sleep(0)
    assert channels[0].get_state() is grpc.ChannelConnectivity.SHUTDOWN
    assert channels[1].get_state() is grpc.ChannelConnectivity.IDLE
    await channel.close()
    assert channels[1].get_state() is grpc.ChannelConnectivity.SHUTDOWN


@pytest.mark.parametrize("case", ["plaintext", "another authority", "no certificate of its own"])
async def test_gateway_without_the_right_files_gets_no_answer(case: str, tmp_path: Path, stream_request: Any) -> None:
    ours, other = Authority(), Authority()
    stage_files = ours.write(tmp_path)
    gateway_files: dict[str, Any] = {"stage_tls_ca": ours.write_ca(tmp_path)}
    if case == "plaintext":
        gateway_files = {}
    elif case == "another authority":
        gateway_files = {"stage_tls_ca": other.write_ca(tmp_path, "other.crt")}
    else:
        stage_files["tls_client_ca"] = ours.write_ca(tmp_path)
    async with deployment(stage_files, **gateway_files) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await samples_of(gateway, stream_request)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert failed.value.details() in ("The engine cannot be reached.", "The codec cannot be reached.")


async def test_unusable_file_stops_the_start_and_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(TlsFileError, match="--stage-tls-ca .*ca.crt must hold PEM certificates"):
        await start_gateway(GatewaySettings(stage_tls_ca=tmp_path / "ca.crt"))
    ours = Authority()
    own = write_pair(tmp_path, ours.issue()[0], ours.issue()[1])  # they do not belong together
    with pytest.raises(TlsFileError, match="--stage-tls-certificate .*tls.crt and --stage-tls-key .*tls.key must be"):
        await start_gateway(
            GatewaySettings(
                stage_tls_ca=ours.write_ca(tmp_path),
                stage_tls_certificate=own["tls_certificate"],
                stage_tls_key=own["tls_key"],
            )
        )


@pytest.mark.parametrize(
    "flags",
    [
        ["--stage-tls-certificate", "x.pem"],
        ["--stage-tls-key", "x.pem"],
        ["--stage-tls-certificate", "x.pem", "--stage-tls-key", "y.pem"],
    ],
)
def test_half_of_the_flags_stops_the_start(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_settings(GatewaySettings, flags)
    assert "--stage-tls-certificate and --stage-tls-key" in capsys.readouterr().err
