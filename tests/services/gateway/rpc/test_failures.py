"""What the caller gets when a stage fails or refuses, and that everything is freed."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc, watermark_pb2

from csm_bundle.errors import EngineBusyError, InvalidRequestError, WatermarkError
from services.common.rpc import status
from services.gateway.rpc import sinks
from tests.services.gateway.synthesis.lost_stages import lacks_key
from tests.support.fake_deployment import FakeDeployment, ended, failure, fake_deployment, read_until_audio
from tests.support.fake_stages import FRAME_SAMPLES, fake_frames

Code = grpc.StatusCode


async def test_engine_away_before_audio_is_unavailable_and_retryable(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    await deployment.engine_server.drain(0)
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "ENGINE_UNREACHABLE")
    assert error.retry_delay_s is not None and error.request_id


async def test_an_engine_killed_after_audio_reports_the_delivered_samples(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.script.pause_at = 5  # after messages of one frame and of four
    call = tts.StreamSynthesize(stream_request)
    delivered = 0
    while delivered < 5 * FRAME_SAMPLES:
        delivered += (await call.read()).audio_chunk.sample_count
    await deployment.engine_server.drain(0)
    error = await failure(call)
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "ENGINE_LOST")
    assert error.metadata["delivered_sample_count"] == str(delivered)
    assert await ended(deployment.codec.calls) != ""


async def test_codec_killed_after_audio_is_codec_lost(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.script.pause_at = 5
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    await deployment.codec_server.drain(0)
    error = await failure(call)
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "CODEC_LOST")
    assert await ended(deployment.engine.calls) == "CancelledError"


async def test_audio_decoded_before_a_codec_was_lost_is_still_sent(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, monkeypatch: Any
) -> None:
    encode = sinks.encode

    async def late(encoder: Any, samples: bytes) -> Any:
        await asyncio.sleep(0.1)
        return await encode(encoder, samples)

    monkeypatch.setattr(sinks, "encode", late)
    deployment.codec.script.fail_at = 5
    deployment.codec.script.failure = status.StatusError(Code.UNAVAILABLE, "DRAINING", "gone")
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.reason, error.metadata["delivered_sample_count"]) == ("CODEC_LOST", str(5 * FRAME_SAMPLES))


async def test_codec_away_before_audio_is_unreachable_and_frees_the_engine(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    await tts.GetServerInfo(tts_pb2.GetServerInfoRequest())  # fills the catalog
    deployment.engine.script.pause_at = 5
    await deployment.codec_server.drain(0)
    await asyncio.sleep(0.2)
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "CODEC_UNREACHABLE")


async def test_no_header_before_the_first_audio(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """After a header gRPC could not retry the call at another gateway."""
    deployment.engine.script.fail_at = 0
    deployment.engine.script.failure = EngineBusyError("The batch is full.")
    call = tts.StreamSynthesize(stream_request)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert status.from_rpc_error(failed.value).reason == "QUEUE_FULL"


async def test_full_queue_is_passed_on_with_its_retry_delay(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.refusal = EngineBusyError("16 sequences run and 32 wait.")
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason, error.retry_delay_s) == (Code.UNAVAILABLE, "QUEUE_FULL", 1.0)


async def test_a_client_s_default_retry_policy_succeeds(
    deployment: FakeDeployment, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """The shipped service config retries UNAVAILABLE until the engine has room."""
    from csm_client.channel import open_async_channel

    deployment.engine.refusals = [EngineBusyError("full")]
    channel = open_async_channel(deployment.target, {})
    call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(stream_request)
    kinds = [message.WhichOneof("event") async for message in call]
    await channel.close(None)
    assert kinds[0] == "header" and kinds[-1] == "summary"
    assert len(deployment.engine.calls) == 2


async def test_failed_watermark_is_internal_and_named(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.codec.script.fail_at = 0
    deployment.codec.script.failure = WatermarkError("The message does not fit.")
    deployment.engine.script.pause_at = 1
    call = tts.StreamSynthesize(stream_request)
    error = await failure(call)
    assert (error.code, error.reason) == (Code.INTERNAL, "WATERMARK_FAILED")


async def test_codec_that_fails_under_many_writes_ends_the_call_at_once(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """With the codec's own status: it reads on for a moment, so that no write of the gateway loses it."""
    deployment.engine.frame_count = 200
    stream_request.stream_config.chunk_duration.FromMilliseconds(80)
    deployment.codec.script.failure = WatermarkError("The message does not fit.")
    for frame in range(30):
        deployment.codec.script.fail_at = frame
        error = await failure(tts.StreamSynthesize(stream_request, timeout=20))
        assert error.reason == "WATERMARK_FAILED"
        assert await ended(deployment.engine.calls, frame) in {"", "CancelledError"}


async def test_bug_in_a_stage_shows_no_more_than_a_request_id(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.script.fail_at = 2
    deployment.engine.script.failure = ValueError("secret")
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.INTERNAL, "INTERNAL")
    assert "secret" not in error.message and error.request_id


async def test_fields_of_the_engine_are_translated_to_public_fields(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.context.turns.add(speaker=0, text="Hi.")
    for theirs, ours in (
        ("segments[0].text", "context.turns[0].text"),
        ("segments[0].codes", "context.turns[0].audio.codes"),
        ("segments[1].text", "input.text"),
        ("segments", "segments"),
        ("max_frame_count", "max_audio_duration"),
    ):
        deployment.engine.refusal = InvalidRequestError(theirs, "does not fit.")
        error = await failure(tts.StreamSynthesize(stream_request))
        assert error.code is Code.INVALID_ARGUMENT
        assert [violation.field for violation in error.field_violations] == [ours]
        assert error.message == f"{ours}: does not fit."


async def test_a_key_that_the_codec_does_not_know_is_named(deployment: FakeDeployment, watermark: Any) -> None:
    key = status.Resource("watermark_key", "key-9")
    refusal = status.StatusError(Code.NOT_FOUND, "WATERMARK_KEY_NOT_FOUND", "No such key.", resource=key)
    deployment.codec.refusal = refusal
    request = watermark_pb2.DetectWatermarkRequest(key_ids=["key-9"])
    request.recording.audio_content = bytes(200)
    request.recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    request.recording.audio_format.sample_rate_hertz = 24_000
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await watermark.DetectWatermark(request)
    assert status.from_rpc_error(failed.value).resource == key


async def test_fields_of_the_codec_are_translated_to_public_fields(
    deployment: FakeDeployment, tts: Any, watermark: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    recording = tts_pb2.AudioRecording(audio_content=bytes(8))
    recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    recording.audio_format.sample_rate_hertz = 16_000
    stream_request.context.turns.add(text="Hi.").audio.codes.CopyFrom(fake_frames(0, 1))
    stream_request.context.turns.add(text="Hi.").audio.recording.CopyFrom(recording)
    for theirs, ours in (("samples", "audio_content"), ("sample_rate_hertz", "audio_format.sample_rate_hertz")):
        deployment.codec.refusal = InvalidRequestError(theirs, "does not fit.")
        error = await failure(tts.StreamSynthesize(stream_request))
        assert [v.field for v in error.field_violations] == [f"context.turns[1].audio.recording.{ours}"]
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await watermark.DetectWatermark(watermark_pb2.DetectWatermarkRequest(recording=recording))
        error = status.from_rpc_error(failed.value)
        assert [v.field for v in error.field_violations] == [f"recording.{ours}"]
        assert error.message == f"recording.{ours}: does not fit."


async def test_a_key_that_no_codec_has_is_a_codec_mismatch_and_is_read_again(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """As during a change of keys: the gateway names the key that was active when it last asked."""
    await deployment.gateway.wait_ready()
    deployment.codec.info.active_key_id = "key-2"
    deployment.codec.refusals = [lacks_key()] * 100
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "CODEC_MISMATCH")
    deployment.codec.refusals.clear()
    assert [message async for message in tts.StreamSynthesize(stream_request)]
    assert deployment.codec.calls[-1].request.watermark_key_id == "key-2"


async def test_stages_of_different_bundles_are_refused(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.codec.info.codec.weights_digest = "other"
    error = await failure(tts.StreamSynthesize(stream_request))
    deployment.gateway._catalogs.forget()
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "CODEC_MISMATCH")
    assert "weights_digest" in error.message


async def test_stages_of_another_bundle_are_read_again_after_one_call(
    stream_request: tts_pb2.StreamSynthesizeRequest,
) -> None:
    """As at the end of a rollout. The health of the replicas announces it; otherwise calls fail for half a minute."""
    async with (
        fake_deployment(failover_wait_seconds=0.1) as running,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        await running.gateway.wait_ready()
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        assert [answer async for answer in stub.StreamSynthesize(stream_request)]
        for stage in (running.engine, running.codec):
            stage.info.codec.weights_digest = "of another bundle"
        error = await failure(stub.StreamSynthesize(stream_request))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CODEC_MISMATCH")
        assert error.message.count("The codec that answers is of another bundle") == 1
        assert [answer async for answer in stub.StreamSynthesize(stream_request)]


async def test_unknown_voice_is_not_found_and_lists_the_known(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.voice.name = "zoe"
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "VOICE_NOT_FOUND")
    assert error.resource == status.Resource("voice", "zoe")
    assert "ada, bo" in error.message
    (violation,) = error.field_violations
    others = "The list of voices has all that this caller may use."  # kept voices and the operator's included
    assert (violation.field, violation.description) == (
        "voice.name",
        f"is 'zoe'; the model's voices are: ada, bo. {others}",
    )


@pytest.mark.parametrize("kind", ["utterance", "text"])
async def test_a_language_that_no_voice_speaks_is_named_with_those_that_are_spoken(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, kind: str
) -> None:
    stream_request.voice.language_code = "tlh"
    call = tts.StreamSynthesize(stream_request)
    if kind == "text":
        call = tts.StreamSynthesizeText(iter([tts_pb2.StreamSynthesizeTextRequest(config=stream_request)]))
    error = await failure(call)
    assert (error.code, error.reason) == (Code.NOT_FOUND, "VOICE_NOT_FOUND")
    (violation,) = error.field_violations
    assert violation.field == ("voice.language_code" if kind == "utterance" else "config.voice.language_code")
    assert violation.description.startswith("is 'tlh'; there are voices for: en")


async def test_message_of_100_mb_is_refused(tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    turn = stream_request.context.turns.add(speaker=0, text="Hi.")
    turn.audio.recording.audio_content = bytes(100 * 10**6)
    error = await failure(tts.StreamSynthesize(stream_request))
    assert error.code is Code.RESOURCE_EXHAUSTED
