"""Searches for the watermark: recordings are streamed to the codec as they come, in turns; errors of wrong ones."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import grpc
import numpy as np
import pytest
import soundfile
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, watermark_pb2, watermark_pb2_grpc

from services.common.rpc import status
from services.common.rpc.status import StatusError
from services.gateway.audio.wav import wav_header
from services.gateway.rpc import byte_pipe, watermark_servicer
from services.gateway.rpc.byte_pipe import BytePipe, PipeTimeoutError
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.waits import eventually

Code = grpc.StatusCode
WAV, PCM, OPUS = tts_pb2.AUDIO_ENCODING_WAV, tts_pb2.AUDIO_ENCODING_PCM, tts_pb2.AUDIO_ENCODING_OGG_OPUS
FLAC = tts_pb2.AUDIO_ENCODING_FLAC
SAMPLES = (3000 * np.sin(np.arange(100_000))).astype("<i2").tobytes()


def messages(
    content: bytes, encoding: int, size: int = 5003, rate_hz: int = 0, key_ids: tuple[str, ...] = ()
) -> Iterator[watermark_pb2.StreamDetectWatermarkRequest]:
    message = watermark_pb2.StreamDetectWatermarkRequest
    config = watermark_pb2.StreamDetectWatermarkConfig(key_ids=key_ids)
    config.audio_format.audio_encoding = cast(tts_pb2.AudioEncoding, encoding)
    config.audio_format.sample_rate_hertz = rate_hz
    yield message(config=config)
    for start in range(0, len(content), size):
        yield message(audio_content=content[start : start + size])


async def refused(call: Any) -> StatusError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value)


def unary(content: bytes = SAMPLES) -> watermark_pb2.DetectWatermarkRequest:
    request = watermark_pb2.DetectWatermarkRequest()
    request.recording.audio_content = content
    request.recording.audio_format.audio_encoding = PCM
    request.recording.audio_format.sample_rate_hertz = 24_000
    return request


async def test_stretches_and_verdict_are_those_of_the_codec(deployment: FakeDeployment, watermark: Any) -> None:
    stretch = deployment.codec.detection.stretches.add(key_id="key-1", confidence=0.95)
    stretch.start_offset.FromMilliseconds(1250)
    stretch.end_offset.FromMilliseconds(8000)
    for answer in (
        await watermark.DetectWatermark(unary()),
        await watermark.StreamDetectWatermark(messages(SAMPLES, PCM, rate_hz=24_000)),
    ):
        assert (answer.detected, answer.confidence, answer.key_id) == (True, 0.75, "key-1")
        (found,) = answer.stretches
        assert found.start_offset.ToMilliseconds() == 1250 and found.end_offset.ToMilliseconds() == 8000
        assert (found.key_id, found.confidence) == ("key-1", 0.95)


@pytest.mark.parametrize("encoding", [PCM, WAV, OPUS, FLAC])
@pytest.mark.parametrize("size", [997, 2**20])
async def test_samples_of_a_streamed_recording_reach_the_codec(
    deployment: FakeDeployment, watermark: Any, encoding: int, size: int
) -> None:
    content, rate_hz = SAMPLES, 24_000
    if encoding == WAV:
        content = wav_header(24_000, None) + SAMPLES
    elif encoding == OPUS:
        file, rate_hz = io.BytesIO(), 48_000
        soundfile.write(file, np.frombuffer(SAMPLES, "<i2"), 24_000, format="OGG", subtype="OPUS")
        content = file.getvalue()
    elif encoding == FLAC:
        file = io.BytesIO()
        soundfile.write(file, np.frombuffer(SAMPLES, "<i2"), 24_000, format="FLAC", subtype="PCM_16")
        content = file.getvalue()
    await watermark.StreamDetectWatermark(messages(content, encoding, size, 24_000, ("key-1", "key-1")))
    (sent,) = deployment.codec.detected
    assert (sent.sample_rate_hertz, list(sent.key_ids)) == (rate_hz, ["key-1"])
    if encoding == OPUS:
        assert len(sent.samples) == 2 * len(SAMPLES)
    else:
        assert sent.samples == SAMPLES


async def test_wrong_streams_are_refused_with_the_field(deployment: FakeDeployment, watermark: Any) -> None:
    good = list(messages(SAMPLES, PCM, rate_hz=24_000))
    for sent, field in (
        ([], "config"),
        (good[1:], "config"),
        ([good[0], good[1], good[0]], "part"),
        (good[:1], "audio_content"),
        ([*good, watermark_pb2.StreamDetectWatermarkRequest(audio_content=b"1")], "audio_content"),
        (list(messages(b"RIFFabcd", WAV)), "audio_content"),
        (list(messages(wav_header(7999, None) + bytes(100), WAV)), "config.audio_format.sample_rate_hertz"),
        (list(messages(wav_header(0, None) + bytes(100), WAV)), "config.audio_format.sample_rate_hertz"),
        (list(messages(SAMPLES, PCM)), "config.audio_format.sample_rate_hertz"),
        (list(messages(SAMPLES, 99)), "config.audio_format.audio_encoding"),
    ):
        error = await refused(watermark.StreamDetectWatermark(iter(sent)))
        assert error.code is Code.INVALID_ARGUMENT
        assert [violation.field for violation in error.field_violations] == [field]


async def test_a_codec_s_refusal_is_translated_to_public_fields(deployment: FakeDeployment, watermark: Any) -> None:
    """Before any samples are sent: a write could lose the status."""
    deployment.codec.refusal = StatusError(Code.NOT_FOUND, "WATERMARK_KEY_NOT_FOUND", "No such key.")
    for _ in range(5):
        error = await refused(watermark.StreamDetectWatermark(messages(40 * SAMPLES, PCM, 60_000, 24_000)))
        assert error.reason == "WATERMARK_KEY_NOT_FOUND"


@pytest.mark.parametrize(
    ("of_codec", "of_unary", "of_stream"),
    [
        ("key_ids", "key_ids", "config.key_ids"),
        ("samples", "recording.audio_content", "audio_content"),
        (
            "sample_rate_hertz",
            "recording.audio_format.sample_rate_hertz",
            "config.audio_format.sample_rate_hertz",
        ),
    ],
)
async def test_a_field_refused_by_the_codec_is_named_as_the_caller_s(
    deployment: FakeDeployment, watermark: Any, of_codec: str, of_unary: str, of_stream: str
) -> None:
    for method, request, field in (
        (watermark.DetectWatermark, unary(), of_unary),
        (watermark.StreamDetectWatermark, messages(SAMPLES, PCM, rate_hz=24_000), of_stream),
    ):
        deployment.codec.refusal = status.invalid_argument([status.FieldViolation(of_codec, "is wrong.")])
        error = await refused(method(request))
        assert ([v.field for v in error.field_violations], error.message) == ([field], f"{field}: is wrong.")


async def test_a_recording_too_long_is_refused_by_its_size_and_while_it_arrives() -> None:
    async with fake_deployment(max_recording_seconds=2, max_detection_seconds=3) as deployment:
        async with grpc.aio.insecure_channel(deployment.target) as channel:
            watermark: Any = watermark_pb2_grpc.WatermarkServiceStub(channel)  # type: ignore[no-untyped-call]
            error = await refused(watermark.DetectWatermark(unary()))
            assert [(v.field, v.reason) for v in error.field_violations] == [
                ("recording.audio_content", "AUDIO_TOO_LONG")
            ]
            assert deployment.codec.detected == []
            opus = io.BytesIO()
            soundfile.write(opus, np.frombuffer(SAMPLES, "<i2"), 24_000, format="OGG", subtype="OPUS")
            compressed = unary(opus.getvalue())  # whose length shows only while it is decoded
            compressed.recording.audio_format.audio_encoding = OPUS
            error = await refused(watermark.DetectWatermark(compressed))
            assert error.reason == "AUDIO_TOO_LONG" and "more than 2 s" in error.message
            error = await refused(watermark.StreamDetectWatermark(messages(SAMPLES, PCM, rate_hz=24_000)))
            assert error.reason == "AUDIO_TOO_LONG" and "more than 3 s" in error.message
            for _ in range(5):  # even when the sender is far from its end
                error = await refused(watermark.StreamDetectWatermark(messages(60 * SAMPLES, PCM, 2**16, 24_000)))
                assert error.reason == "AUDIO_TOO_LONG" and "more than 3 s" in error.message
            await watermark.StreamDetectWatermark(messages(SAMPLES[: 6 * 24_000], PCM, rate_hz=24_000))


async def test_searches_wait_for_their_turn_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_deployment(max_detections=1, max_waiting_detections=1) as deployment:
        async with grpc.aio.insecure_channel(deployment.target) as channel:
            watermark: Any = watermark_pb2_grpc.WatermarkServiceStub(channel)  # type: ignore[no-untyped-call]
            hold = asyncio.Event()

            async def held() -> AsyncIterator[watermark_pb2.StreamDetectWatermarkRequest]:
                for message in messages(SAMPLES, PCM, rate_hz=24_000):
                    yield message
                await hold.wait()

            searches = deployment.gateway._watermark._searches
            first = asyncio.ensure_future(watermark.StreamDetectWatermark(held()))
            await eventually(lambda: searches.taken)
            second = asyncio.ensure_future(watermark.DetectWatermark(unary()))
            await eventually(lambda: searches.num_waiting == 1)
            error = await refused(watermark.DetectWatermark(unary()))
            assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "DETECTION_BUSY")
            assert error.retry_delay_s is not None
            hold.set()
            assert (await first).detected and (await second).detected
            assert (searches.num_waiting, searches.taken) == (0, 0)


async def test_a_sender_that_stalls_is_ended_and_its_turn_is_free(
    deployment: FakeDeployment, watermark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watermark_servicer, "IDLE_SECONDS", 0.2)

    async def stalls() -> AsyncIterator[watermark_pb2.StreamDetectWatermarkRequest]:
        yield next(messages(SAMPLES, PCM, rate_hz=24_000))
        await asyncio.sleep(60)

    error = await refused(watermark.StreamDetectWatermark(stalls()))
    assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, "RECORDING_STALLED")
    assert (await watermark.DetectWatermark(unary())).detected
    (sent,) = deployment.codec.detected
    assert sent == codec_pb2.DetectWatermarkRequest(
        samples=SAMPLES, sample_format=codec_pb2.SAMPLE_FORMAT_S16LE, sample_rate_hertz=24_000
    )


async def test_a_recording_that_comes_slowly_for_longer_than_the_server_s_deadline_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watermark_servicer, "REFUSED_SECONDS", 0.1)

    async def trickles() -> AsyncIterator[watermark_pb2.StreamDetectWatermarkRequest]:
        """A file whose first chunk does not end, so that no sample comes."""
        yield next(messages(b"", WAV))
        content = b"RIFF\xff\xff\xff\xffWAVELIST\xff\xff\xff\x0f"
        while not call.done():
            yield watermark_pb2.StreamDetectWatermarkRequest(audio_content=content)
            await asyncio.sleep(0.5)

    async with (
        fake_deployment(default_deadline_seconds=1.0) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        call = watermark_pb2_grpc.WatermarkServiceStub(channel).StreamDetectWatermark(trickles())
        error = await asyncio.wait_for(refused(call), 20)
        assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_search_that_waits_for_the_codec_for_longer_than_senders_may_be_idle_is_made(
    deployment: FakeDeployment, watermark: Any, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """The codec has few places for long recordings, and searches one at a time."""
    await watermark.StreamDetectWatermark(messages(SAMPLES, PCM, rate_hz=24_000))  # no health call is being opened then
    receive, has_room = deployment.codec._receive, asyncio.Event()
    jumps_s = [2 * watermark_servicer.IDLE_SECONDS]

    async def later(requests: Any, context: Any, started: Any) -> Any:
        await has_room.wait()
        return await receive(requests, context, started)

    async def sleep(seconds: float) -> None:  # called by the writer when its pipe is full
        if jumps_s:
            clock.put_forward(jumps_s.pop())
        else:
            has_room.set()
        await asyncio.sleep(seconds)

    monkeypatch.setattr(deployment.codec, "_receive", later)
    monkeypatch.setattr(byte_pipe, "asyncio", SimpleNamespace(sleep=sleep))
    assert (await watermark.StreamDetectWatermark(messages(10 * SAMPLES, PCM, 2**16, 24_000), timeout=200)).detected
    _, sent = deployment.codec.detected
    assert sent.samples == 10 * SAMPLES


async def test_the_pipe_s_writer_ends_at_its_time_limit(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    pipe = BytePipe(1.0, 60.0)
    await pipe.write(bytes(byte_pipe.CAPACITY_BYTES))
    writing = asyncio.ensure_future(pipe.write(b"more"))
    await asyncio.sleep(0)
    clock.put_forward(59.0)
    await asyncio.sleep(0)
    assert not writing.done()
    clock.put_forward(2.0)
    with pytest.raises(PipeTimeoutError, match="60 s"):
        await writing


async def test_a_large_message_goes_through_the_pipe_in_parts() -> None:
    content = bytes(range(256)) * (5 * byte_pipe.CAPACITY_BYTES // 256) + b"odd"
    pipe, read, waiting = BytePipe(1.0, 60.0), b"", []
    writing = asyncio.ensure_future(pipe.write(content))
    while len(read) < len(content):
        await asyncio.sleep(0)
        waiting.append(len(pipe._held))
        read += pipe.read(100_000) if waiting[-1] else b""
    await writing
    assert read == content and max(waiting) == byte_pipe.CAPACITY_BYTES
