"""The gateway as a service: voices, server info, health, reflection, drain, logs, metrics."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.rpc import status
from services.common.telemetry import logs
from services.gateway.stages.errors import unreachable
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import NOTICE
from tests.support.waits import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ["csm.v1.TextToSpeechService", "csm.v1.WatermarkService", "csm.v1.VoiceService"]


async def wait_health(deployment: FakeDeployment, name: str, wanted: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{deployment.gateway.server.health_port}") as channel:
        async with asyncio.timeout(60):
            async for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name)):
                if answer.status == wanted:
                    return


async def test_voices_can_be_listed_filtered_and_paged(tts: Any) -> None:
    everyone = await tts.ListVoices(tts_pb2.ListVoicesRequest())
    assert [(voice.name, voice.speaker) for voice in everyone.voices] == [("ada", 0), ("bo", 1)]
    assert everyone.voices[0].natural_sample_rate_hertz == 24_000
    german = await tts.ListVoices(tts_pb2.ListVoicesRequest(language_code="de-AT"))
    assert [voice.name for voice in german.voices] == ["bo"]
    first = await tts.ListVoices(tts_pb2.ListVoicesRequest(page_size=1))
    second = await tts.ListVoices(tts_pb2.ListVoicesRequest(page_size=1, page_token=first.next_page_token))
    assert [voice.name for voice in (*first.voices, *second.voices)] == ["ada", "bo"]
    assert second.next_page_token == ""


@pytest.mark.parametrize(
    ("field", "value"), [("page_size", -1), ("page_token", "x"), ("page_token", "-1"), ("page_token", 5000 * "9")]
)
async def test_wrong_page_is_refused(tts: Any, field: str, value: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await tts.ListVoices(tts_pb2.ListVoicesRequest(**{field: value}))
    (violation,) = status.from_rpc_error(failed.value).field_violations
    assert violation.field == field


async def test_language_chooses_a_voice(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.voice.language_code = "de"
    messages = [message async for message in tts.StreamSynthesize(stream_request)]
    assert messages[0].header.voice == "bo"


async def test_server_info_has_model_limits_watermark_and_notice(tts: Any) -> None:
    info = await tts.GetServerInfo(tts_pb2.GetServerInfoRequest())
    assert (info.model_version, info.model_notice, info.default_voice) == ("fake/1", NOTICE, "ada")
    assert set(info.audio_encodings) == set(tts_pb2.AudioEncoding.values()) - {tts_pb2.AUDIO_ENCODING_UNSPECIFIED}
    assert list(info.sample_rates_hertz) == [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000]
    assert (info.watermark.scheme, info.watermark.key_id) == ("fake/1", "key-1")
    assert info.limits.max_unary_audio_duration.seconds == 80
    assert info.limits.max_stream_audio_duration.seconds == 300


async def test_ready_while_both_stages_are(deployment: FakeDeployment) -> None:
    for name in ["", "readiness", *SERVICES]:
        await wait_health(deployment, name, SERVING)
    seen = deployment.gateway.server.metrics.registry.get_sample_value
    for server in (deployment.engine_server, deployment.codec_server):
        assert seen("tts_ready") == 1
        server.set_serving(False)
        await wait_health(deployment, "readiness", NOT_SERVING)
        assert seen("tts_ready") == 0
        server.set_serving()
        await wait_health(deployment, "readiness", SERVING)
    await deployment.gateway.server.drain(0)
    assert seen("tts_ready") == 0


async def test_not_ready_when_a_stage_goes_away(deployment: FakeDeployment) -> None:
    await wait_health(deployment, "readiness", SERVING)
    await deployment.codec_server.drain(0)
    await wait_health(deployment, "readiness", NOT_SERVING)
    await wait_health(deployment, "liveness", SERVING)


async def test_not_ready_with_stages_of_different_bundles(deployment: FakeDeployment) -> None:
    await wait_health(deployment, "readiness", SERVING)
    deployment.codec.info.codec.weights_digest = "other"
    deployment.codec_server.set_serving(False)
    await wait_health(deployment, "readiness", NOT_SERVING)
    deployment.codec_server.set_serving()
    await eventually(lambda: deployment.gateway._watches[1].serving)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await wait_health(deployment, "readiness", SERVING)


async def test_not_ready_when_the_next_replica_that_is_found_is_of_another_bundle(deployment: FakeDeployment) -> None:
    await wait_health(deployment, "readiness", SERVING)
    deployment.codec.info.codec.weights_digest = "other"
    assert deployment.gateway._watches[1].serving
    deployment.gateway._on_health()
    await wait_health(deployment, "readiness", NOT_SERVING)


async def test_ready_again_when_a_stage_serves_before_it_can_be_reached(
    deployment: FakeDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its API port may open later than its health port, or the channel may be waiting to reconnect."""
    await wait_health(deployment, "readiness", SERVING)
    deployment.engine_server.set_serving(False)
    await wait_health(deployment, "readiness", NOT_SERVING)
    monkeypatch.setattr("services.gateway.stage.RECHECK_S", 0.05)
    engine, asked = deployment.gateway._catalogs._engine, asyncio.Event()

    async def model_info(timeout_s: float, **_: object) -> engine_pb2.GetModelInfoResponse:
        if not asked.is_set():
            asked.set()
            raise unreachable("ENGINE")
        return deployment.engine.info

    monkeypatch.setattr(engine, "model_info", model_info)
    deployment.engine_server.set_serving()
    await asked.wait()
    await wait_health(deployment, "readiness", SERVING)


async def test_not_ready_when_a_stage_goes_away_while_the_other_is_asked(
    deployment: FakeDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wait_health(deployment, "readiness", SERVING)
    deployment.engine_server.set_serving(False)
    await wait_health(deployment, "readiness", NOT_SERVING)
    engine, asked, answer = deployment.gateway._catalogs._engine, asyncio.Event(), asyncio.Event()

    async def model_info(timeout_s: float, **_: object) -> engine_pb2.GetModelInfoResponse:
        asked.set()
        await answer.wait()
        return deployment.engine.info

    monkeypatch.setattr(engine, "model_info", model_info)
    deployment.engine_server.set_serving()
    await asked.wait()
    deployment.codec_server.set_serving(False)
    await eventually(lambda: not deployment.gateway._watches[1].serving)
    answer.set()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await wait_health(deployment, "readiness", SERVING)


async def test_reflection_names_both_services(channel: Any) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answers = [answer async for answer in call]
    names = {service.name for service in answers[0].list_services_response.service}
    assert set(SERVICES) <= names


async def test_drain_finishes_streams_and_refuses_new_ones(stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    from csm.v1 import tts_pb2_grpc

    async with fake_deployment(drain_seconds=20.0) as deployment:
        deployment.engine.script.pause_at = 2
        async with (
            grpc.aio.insecure_channel(deployment.target) as channel,
            grpc.aio.insecure_channel(deployment.target, options=[("grpc.use_local_subchannel_pool", 1)]) as other,
        ):
            call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(stream_request)
            kinds = [(await call.read()).WhichOneof("event") for _ in range(2)]
            draining = asyncio.create_task(deployment.gateway.stop())
            await wait_health(deployment, "readiness", NOT_SERVING)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await tts_pb2_grpc.TextToSpeechServiceStub(other).ListVoices(tts_pb2.ListVoicesRequest())
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            deployment.engine.script.resume.set()
            while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                kinds.append(message.WhichOneof("event"))
            assert kinds[0] == "header" and kinds[-1] == "summary"
            await draining


async def test_log_lines_carry_the_request_id_and_never_the_text(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, caplog: pytest.LogCaptureFixture
) -> None:
    stream_request.request_id = "0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11"
    stream_request.input.text = "A secret sentence."
    stream_request.labels["team"] = "kiosk"
    caplog.handler.addFilter(logs.RequestIdFilter())
    with caplog.at_level(logging.DEBUG):
        [message async for message in tts.StreamSynthesize(stream_request)]
        stream_request.sampling_params.top_k = 0
        with pytest.raises(grpc.aio.AioRpcError):
            await tts.StreamSynthesize(stream_request).read()
    formatter = logs.JsonFormatter()
    lines = [formatter.format(record) for record in caplog.records]
    assert not [line for line in lines if "secret" in line]
    records: list[Any] = list(caplog.records)
    ended = [record for record in records if record.name == "csm.rpc" and "Stream" in record.fields["method"]]
    gateway = [record for record in ended if record.fields["method"].startswith("csm.v1.")]
    assert {record.request_id for record in ended if record.fields["code"] == "OK"} == {stream_request.request_id}
    assert [record.fields["code"] for record in gateway] == ["OK", "INVALID_ARGUMENT"]
    assert gateway[0].fields["frames"] == 10
    assert gateway[0].fields["labels"] == '{"team": "kiosk"}'
    assert gateway[0].fields["audio_seconds"] == 0.8
    assert gateway[0].fields["finish_reason"] == "FINISH_REASON_END_OF_SPEECH"


async def test_labels_are_not_logged_before_their_length_is_checked(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, caplog: pytest.LogCaptureFixture
) -> None:
    stream_request.labels["team"] = 100_000 * "x"
    with caplog.at_level(logging.DEBUG), pytest.raises(grpc.aio.AioRpcError):
        await tts.StreamSynthesize(stream_request).read()
    assert max(len(logs.JsonFormatter().format(record)) for record in caplog.records) < 10_000


async def test_an_utterance_without_audio_does_not_count_as_first_audio(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.frame_count = 0
    [message async for message in tts.StreamSynthesize(stream_request)]
    value = deployment.gateway.server.metrics.registry.get_sample_value
    assert value("tts_queue_seconds_count") == 1
    assert value("tts_first_audio_seconds_count") == 0


async def test_metrics_count_audio_first_audio_queue_and_real_time_factor(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    [message async for message in tts.StreamSynthesize(stream_request)]
    value = deployment.gateway.server.metrics.registry.get_sample_value
    assert value("tts_audio_seconds_total") == pytest.approx(0.8)
    for name in ("tts_first_audio_seconds", "tts_queue_seconds", "tts_real_time_factor"):
        assert value(f"{name}_count") == 1
    assert value("tts_running_requests") == 0


async def test_an_unexpected_exception_is_counted_as_failed(
    deployment: FakeDeployment,
    tts: Any,
    stream_request: tts_pb2.StreamSynthesizeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("an encoder fails")

    monkeypatch.setattr("services.gateway.rpc.sinks.encode", fail)
    with pytest.raises(grpc.aio.AioRpcError):
        await tts.StreamSynthesize(stream_request).read()
    value = deployment.gateway.server.metrics.registry.get_sample_value
    assert value("tts_failed_total", {"reason": "INTERNAL"}) == 1
    assert value("tts_running_requests") == 0
