"""Recordings in pieces, to be encoded or searched: what is refused, and when; what a slow sender delays."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
from csm.codec.v1 import codec_pb2

from services.codec.recordings import sample_stream
from services.codec.settings import CodecSettings
from services.common.rpc.incoming.lingering import IncomingMessages
from tests.support.clock import Clock
from tests.support.codec_stage import F32, S16, recording_messages, refusal, running_codec
from tests.support.waits import eventually

METHODS = ["StreamEncode", "StreamDetectWatermark"]
NOISE = np.random.default_rng(0).integers(-9000, 9000, 24000).astype("<i2")


async def answers(call: Any) -> list[Any]:
    return [answer async for answer in call]


async def opened(stub: Any, method: str = "StreamEncode", **config: Any) -> Any:
    """A call that has started and waits for samples."""
    call = getattr(stub, method)()
    await call.write(recording_messages(method, b"", 1, **config)[0])
    assert (await call.read()).WhichOneof("event") == "started"
    return call


async def test_a_recording_in_pieces_is_encoded_as_in_one(stub: Any) -> None:
    """Bit for bit, levels included, wherever pieces cut samples."""
    for sample_format, samples, rate_hz in (
        (S16, NOISE.tobytes(), 16_000),
        (F32, (NOISE / np.float32(32768)).astype("<f4").tobytes(), 24_000),
    ):
        config: dict[str, Any] = {"sample_format": sample_format, "sample_rate_hertz": rate_hz, "measure": True}
        whole = await stub.Encode(codec_pb2.EncodeRequest(samples=samples, **config))
        assert whole.codes.frame_count > 1 and whole.HasField("levels")
        for size in (333, 4001, len(samples)):
            messages = recording_messages("StreamEncode", samples, size, **config)
            started, answer = await answers(stub.StreamEncode(iter(messages)))
            assert started.WhichOneof("event") == "started" and answer.complete == whole
        messages = recording_messages("StreamEncode", samples, 4001, **config | {"measure": False})
        _, answer = await answers(stub.StreamEncode(iter(messages)))
        assert not answer.complete.HasField("levels") and answer.complete.codes == whole.codes


async def test_a_wrong_recording_is_refused_with_the_field(stub: Any) -> None:
    for method in METHODS:
        message = getattr(codec_pb2, f"{method}Request")
        good = recording_messages(method, bytes(400), 400)
        for messages, field in (
            ([], "config"),
            (good[1:], "config"),
            ([good[0], good[0]], "request"),
            (good[:1], "samples"),
            ([*good, message(samples=b"abc")], "samples"),
            ([good[0], message(samples=np.array([np.nan], "<f4").tobytes())], "samples"),
        ):
            status = await refusal(answers(getattr(stub, method)(iter(messages))))
            assert status.code is grpc.StatusCode.INVALID_ARGUMENT
            assert [violation.field for violation in status.field_violations] == [field]


async def test_a_wrong_config_is_refused_before_the_call_has_started(stub: Any) -> None:
    for method in METHODS:
        for field, wrong in (("sample_format", 0), ("sample_format", 9), ("sample_rate_hertz", 7999)):
            call = getattr(stub, method)()
            await call.write(recording_messages(method, b"", 1, **{field: wrong})[0])
            status = await refusal(call.read())
            assert status.code is grpc.StatusCode.INVALID_ARGUMENT
            assert [violation.field for violation in status.field_violations] == [field]


async def test_a_recording_that_lasts_just_as_long_as_is_allowed_is_taken(settings: CodecSettings) -> None:
    """It may be longer if it is searched while it is sent."""
    samples = bytes(4 * 24_000)
    whole: dict[str, Any] = {"samples": samples, "sample_format": F32, "sample_rate_hertz": 24_000}
    async with running_codec(settings, max_recording_seconds=1, max_detection_seconds=2) as (_, stub):
        await stub.Encode(codec_pb2.EncodeRequest(**whole))
        await stub.DetectWatermark(codec_pb2.DetectWatermarkRequest(**whole))
        for method, sent in zip(METHODS, (samples, 2 * samples), strict=True):
            await answers(getattr(stub, method)(iter(recording_messages(method, sent, 9999))))


async def test_a_recording_that_is_too_long_is_refused_before_all_of_it_has_come(settings: CodecSettings) -> None:
    """As by Encode. The sender has not half-closed, and would go on."""
    async with running_codec(settings, max_recording_seconds=1, max_detection_seconds=2) as (_, stub):
        whole = codec_pb2.EncodeRequest(samples=bytes(4 * 24_001), sample_format=F32, sample_rate_hertz=24_000)
        expected = await refusal(stub.Encode(whole))
        assert (expected.code, expected.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "AUDIO_TOO_LONG")
        for method, longest_s in zip(METHODS, (1, 2), strict=True):
            call = await opened(stub, method)
            for piece in (*[bytes(4 * 24_000)] * longest_s, bytes(4)):
                await call.write(getattr(codec_pb2, f"{method}Request")(samples=piece))
            status = await refusal(call.read())
            assert (status.code, status.reason) == (expected.code, expected.reason)
            (violation,), (of_encode,) = status.field_violations, expected.field_violations
            assert (violation.field, violation.reason) == (of_encode.field, of_encode.reason)
            assert f"{longest_s} s" in violation.description


async def test_a_recording_whose_samples_stop_coming_is_ended(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_stream, "IDLE_SECONDS", 0.1)
    for method in METHODS:
        status = await refusal((await opened(stub, method)).read())
        assert (status.code, status.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "RECORDING_STALLED")


@pytest.mark.parametrize("size", [0, 4])
async def test_a_sender_of_no_or_few_samples_is_ended(stub: Any, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Even after a second of audio, if no more comes. Otherwise it would hold its slot until its deadline."""
    monkeypatch.setattr(sample_stream, "IDLE_SECONDS", 0.5)
    discard, refused = IncomingMessages.discard, asyncio.Event()

    async def tell(messages: IncomingMessages) -> None:
        refused.set()
        await discard(messages)

    monkeypatch.setattr(IncomingMessages, "discard", tell)
    for method, first in (("StreamEncode", 4), ("StreamDetectWatermark", 0 if size else 4 * 24_000)):
        refused.clear()
        call = await opened(stub, method)
        message = getattr(codec_pb2, f"{method}Request")
        await call.write(message(samples=bytes(first)))
        async with asyncio.timeout(60):
            while not refused.is_set():  # a write at the end of the call loses the status: see lingering.py
                await call.write(message(samples=bytes(size)))
                await asyncio.sleep(0.1)
            status = await refusal(call.read())
        assert (status.code, status.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "RECORDING_STALLED")


async def test_a_slow_sender_is_waited_for(stub: Any, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    received, count = list[float](), sample_stream._Patience.received

    def recorded(patience: sample_stream._Patience, seconds: float) -> None:
        received.append(seconds)
        count(patience, seconds)

    monkeypatch.setattr(sample_stream._Patience, "received", recorded)
    call = await opened(stub)
    for number in range(1, 11):  # eighty times slower than it lasts
        await call.write(codec_pb2.StreamEncodeRequest(samples=bytes(4 * 6000)))
        await eventually(lambda number=number: len(received) == number)  # type: ignore[misc]
        clock.put_forward(20.0)
    await call.done_writing()
    assert (await call.read()).WhichOneof("event") == "complete"


async def test_a_recording_in_transfer_delays_no_other(stub: Any) -> None:
    slow = await opened(stub, sample_format=S16)
    await slow.write(codec_pb2.StreamEncodeRequest(samples=NOISE.tobytes()))
    messages = recording_messages("StreamEncode", NOISE.tobytes(), 4000, sample_format=S16)
    *_, other = await answers(stub.StreamEncode(iter(messages)))
    await slow.done_writing()
    assert (await slow.read()).complete == other.complete


async def test_a_recording_beyond_the_queue_is_refused_before_it_has_started_and_a_cancel_makes_room(
    settings: CodecSettings,
) -> None:
    """Even one that Encode brings, as both share the queue."""
    async with running_codec(settings, max_waiting=0) as (_, stub):
        first = await opened(stub)
        await first.write(codec_pb2.StreamEncodeRequest(samples=bytes(4)))
        second = stub.StreamEncode()
        await second.write(recording_messages("StreamEncode", b"", 1)[0])
        whole = codec_pb2.EncodeRequest(samples=bytes(4), sample_format=F32, sample_rate_hertz=24_000)
        for refused in (second.read(), stub.Encode(whole)):
            status = await refusal(refused)
            assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
        first.cancel()
        while True:  # the codec sees the cancel a moment later
            try:
                assert (await stub.Encode(whole)).codes.frame_count == 1
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
