"""Wrong requests are refused before any work, and the error names every wrong field."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc, watermark_pb2

from services.common.rpc import status
from services.gateway.audio.recording import Recording
from services.gateway.audio.wav import wav_header
from services.gateway.requests import recordings
from tests.services.gateway.requests.wrong_requests import (
    GOOD_WAV,
    SURROUND,
    TWELVE_BIT,
    WRONG,
    Request,
    audio_format,
    chunk,
    codes,
    encoding,
    labels,
    language,
    rate,
    recording,
    request_id,
    sampling,
    seconds,
    speaker,
    speed,
    text,
    turn,
    turns,
)
from tests.support.cost.shared import SHARED
from tests.support.fake_deployment import FakeDeployment, fake_deployment

PCM, WAV, OPUS = tts_pb2.AUDIO_ENCODING_PCM, tts_pb2.AUDIO_ENCODING_WAV, tts_pb2.AUDIO_ENCODING_OGG_OPUS
MULAW, ALAW = tts_pb2.AUDIO_ENCODING_MULAW, tts_pb2.AUDIO_ENCODING_ALAW
MP3, AAC, FLAC = tts_pb2.AUDIO_ENCODING_MP3, tts_pb2.AUDIO_ENCODING_AAC, tts_pb2.AUDIO_ENCODING_FLAC

UNARY_TOO_LONG = [80.001, 81, 84.6, 87, 87.4, 88, 90, 91, 120, 3600]


async def violations(call: Any) -> list[status.FieldViolation]:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    error = status.from_rpc_error(failed.value)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.request_id and error.reason
    assert all(violation.description.endswith(".") for violation in error.field_violations)
    return list(error.field_violations)


@pytest.mark.parametrize("field", WRONG)
@SHARED
async def test_ten_wrong_requests_of_each_kind_name_the_field(
    shared_deployment: FakeDeployment, shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, field: str
) -> None:
    for change in WRONG[field]:
        request = Request()
        request.CopyFrom(stream_request)
        change(request)
        found = await violations(shared_tts.StreamSynthesize(request).read())
        assert [violation.field for violation in found] == [field]
    assert shared_deployment.engine.calls == [] and shared_deployment.codec.encoded == []


@SHARED
async def test_unary_call_shares_the_checks(shared_tts: Any, unary_request: tts_pb2.SynthesizeRequest) -> None:
    unary_request.input.text = ""
    found = await violations(shared_tts.Synthesize(unary_request))
    assert [(violation.field, violation.reason) for violation in found] == [("input.text", "TEXT_EMPTY")]


@SHARED
async def test_all_violations_come_at_once(shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    changes = [text(""), speaker(-1), encoding(0), sampling("top_k", 0), turn(text=""), labels(9), request_id("x")]
    for change in changes:
        change(stream_request)
    found = await violations(shared_tts.StreamSynthesize(stream_request).read())
    assert {violation.field for violation in found} == {
        "input.text",
        "input.speaker",
        "audio_config.audio_encoding",
        "sampling_params.top_k",
        "context.turns[0].text",
        "labels",
        "request_id",
    }


@SHARED
async def test_the_message_has_a_sentence_for_each_wrong_field(
    shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    for change in (speaker(-1), request_id(40 * "x")):
        change(stream_request)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await shared_tts.StreamSynthesize(stream_request).read()
    sentences = (
        f"request_id: is '{36 * 'x'}...'; it must be a UUID of 36 characters, or empty.",
        "input.speaker: is -1; it must be 0 to 99.",
    )
    assert failed.value.details() == " ".join(sentences)


@SHARED
async def test_wrong_turns_of_a_whole_conversation_are_named(
    shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """A status with too many violations would be lost."""
    for _ in range(64):
        stream_request.context.turns.add(speaker=-1)
    found = await violations(shared_tts.StreamSynthesize(stream_request).read())
    assert [violation.field for violation in found[:2]] == ["context.turns[0].speaker", "context.turns[0].text"]


@SHARED
async def test_recordings_beyond_the_longest_context_are_not_decoded(
    shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def pieces(audio_format: tts_pb2.AudioFormat, file: io.BytesIO) -> Iterator[Recording]:
        decoded.append(file.read())
        yield Recording(bytes(2 * 100 * 24_000), codec_pb2.SAMPLE_FORMAT_S16LE, 24_000)

    monkeypatch.setattr(recordings, "open_pieces", pieces)
    for _ in range(20):
        recording = stream_request.context.turns.add(text="Hello.").audio.recording
        recording.audio_content = b"\xff"
        recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_MULAW
        recording.audio_format.sample_rate_hertz = 8000
    (violation,) = await violations(shared_tts.StreamSynthesize(stream_request).read())
    assert (violation.field, violation.reason) == ("context.turns", "CONTEXT_TOO_LONG")
    assert len(decoded) == 2


@SHARED
async def test_unary_audio_over_80_s_is_refused_with_a_hint_to_the_stream(
    shared_deployment: FakeDeployment, shared_tts: Any, unary_request: tts_pb2.SynthesizeRequest
) -> None:
    for wish in UNARY_TOO_LONG:
        seconds(wish)(unary_request)
        (violation,) = await violations(shared_tts.Synthesize(unary_request))
        assert violation.field == "max_audio_duration"
        assert "80 s" in violation.description and "StreamSynthesize" in violation.description
    assert shared_deployment.engine.calls == []
    seconds(80)(unary_request)
    await shared_tts.Synthesize(unary_request)
    assert shared_deployment.engine.calls[0].request.max_frame_count == 1000


@pytest.mark.parametrize(
    ("encoding", "rate", "longest_s"),
    [(PCM, 48_000, 40), (WAV, 44_100, 43.52), (PCM, 8_000, 240), (MULAW, 24_000, 160), (ALAW, 8_000, 300)]
    + [(OPUS, rate, 300) for rate in (8_000, 48_000)]
    + [(MP3, 24_000, 300), (AAC, 24_000, 187.36), (FLAC, 24_000, 77.92)],
)
async def test_unary_limit_follows_the_size_of_the_format(encoding: int, rate: int, longest_s: float) -> None:
    async with fake_deployment(max_utterance_audio_seconds=300) as deployment:
        async with grpc.aio.insecure_channel(deployment.target) as channel:
            tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)
            request = tts_pb2.SynthesizeRequest(input=tts_pb2.SynthesisInput(text="Hello."))
            audio_format(encoding, rate)(request)
            seconds(longest_s + 0.08)(request)
            (violation,) = await violations(tts.Synthesize(request))
            assert violation.field == "max_audio_duration"
            request.ClearField("max_audio_duration")
            await tts.Synthesize(request)
            assert deployment.engine.calls[0].request.max_frame_count == int(longest_s / 0.08 + 1e-6)


@SHARED
async def test_speed_reaches_both_stages_and_limits_apply_to_the_sent_audio(
    shared_deployment: FakeDeployment, shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """An utterance may last 90 s and a text 300 s, both at the model's speed and as it is sent."""
    for value, wish_s, frames in ((0.5, None, 562), (2.0, None, 1125), (2.0, 8, 200), (0.5, 8, 50), (0.0, 8, 100)):
        speed(value)(stream_request)
        stream_request.ClearField("max_audio_duration")
        if wish_s is not None:
            seconds(wish_s)(stream_request)
        [message async for message in shared_tts.StreamSynthesize(stream_request)]
        made = shared_deployment.engine.calls[-1].request
        assert (made.max_frame_count, made.speed) == (frames, value or 1)
        assert shared_deployment.codec.calls[-1].request.speed == (value or 1)
    speed(2.0)(stream_request)
    seconds(150.08)(stream_request)
    (violation,) = await violations(shared_tts.StreamSynthesize(stream_request).read())
    assert violation.field == "max_audio_duration" and "at most 150 s" in violation.description


async def test_a_codec_without_speed_gets_no_speed(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.codec.info.stretch_sample_count = 0
    speed(1.0)(stream_request)
    [message async for message in tts.StreamSynthesize(stream_request)]
    speed(1.5)(stream_request)
    (violation,) = await violations(tts.StreamSynthesize(stream_request).read())
    assert (violation.field, violation.reason) == ("audio_config.speed", "SPEED_UNKNOWN")


@SHARED
async def test_a_wrong_rate_is_refused_with_the_rates_of_the_encoding(
    shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    audio_format(OPUS, 44_100)(stream_request)
    (violation,) = await violations(shared_tts.StreamSynthesize(stream_request).read())
    assert violation.description == (
        "is 44100; with AUDIO_ENCODING_OGG_OPUS it must be one of 8000, 12000, 16000, 24000, 48000, or 0 for 24000."
    )


@pytest.mark.parametrize(
    "change",
    [
        *(sampling("temperature", 0), sampling("temperature", 2), sampling("top_k", 1), sampling("top_k", 2048)),
        *(sampling("seed", 2**63 - 1), seconds(0.08), seconds(300), chunk(0.01), chunk(300), rate(24000)),
        *(text("x" * 4096), speaker(99), labels(8), turns(64), recording(GOOD_WAV, WAV), codes(7)),
        *(request_id("0B4A7B1E-3F47-4A4E-9F51-2F1F0A5A8F11"), language(f"en-{'x' * 32}")),
    ],
)
@SHARED
async def test_values_at_the_limit_pass(
    shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, change: Any
) -> None:
    change(stream_request)
    messages = [message async for message in shared_tts.StreamSynthesize(stream_request)]
    assert messages[-1].HasField("summary")


@SHARED
async def test_unknown_fields_of_codes_are_dropped(
    shared_deployment: FakeDeployment, shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    codes(7)(stream_request)
    sent = stream_request.context.turns[0].audio.codes
    known = sent.SerializeToString()
    sent.MergeFromString(b"\x7a\x05extra")
    assert [message async for message in shared_tts.StreamSynthesize(stream_request)][-1].HasField("summary")
    assert shared_deployment.engine.calls[0].request.segments[0].codes.SerializeToString() == known


def test_both_requests_have_the_same_first_nine_fields() -> None:
    def fields(message: Any) -> list[tuple[object, ...]]:
        return [
            (field.number, field.name, field.type, field.is_repeated, field.message_type and field.message_type.name)
            for field in message.DESCRIPTOR.fields
            if field.number <= 9 and field.name != "labels"
        ]

    unary, stream = tts_pb2.SynthesizeRequest, tts_pb2.StreamSynthesizeRequest
    assert fields(unary) == fields(stream)
    assert len(fields(unary)) == 8  # and the map of labels, whose entry types differ by name
    assert unary.DESCRIPTOR.fields_by_name["labels"].number == stream.DESCRIPTOR.fields_by_name["labels"].number == 8


async def test_detect_checks_the_recording(deployment: FakeDeployment, watermark: Any) -> None:
    wrong = [
        b"",
        b"RIFF",
        bytes(100),
        GOOD_WAV[:30],
        TWELVE_BIT,
        SURROUND,
        wav_header(24_000, 0),
        b"1",
        b"OggS",
        b"\xff",
    ]
    for content in wrong:
        request = watermark_pb2.DetectWatermarkRequest()
        request.recording.audio_content = content
        request.recording.audio_format.audio_encoding = WAV
        (violation,) = await violations(watermark.DetectWatermark(request))
        assert violation.field == "recording.audio_content"
    assert deployment.codec.detected == []


async def test_detect_passes_samples_and_keys_on(deployment: FakeDeployment, watermark: Any) -> None:
    request = watermark_pb2.DetectWatermarkRequest(key_ids=["key-1"])
    request.recording.audio_content = GOOD_WAV
    request.recording.audio_format.audio_encoding = WAV
    answer = await watermark.DetectWatermark(request)
    assert (answer.detected, answer.confidence, answer.key_id) == (True, 0.75, "key-1")
    (sent,) = deployment.codec.detected
    assert (sent.sample_rate_hertz, len(sent.samples), list(sent.key_ids)) == (24_000, 4800, ["key-1"])


async def test_a_key_named_many_times_is_looked_for_once(deployment: FakeDeployment, watermark: Any) -> None:
    request = watermark_pb2.DetectWatermarkRequest(key_ids=["key-2", *15_000 * ["key-1"], "key-2"])
    request.recording.audio_content = GOOD_WAV
    request.recording.audio_format.audio_encoding = WAV
    await watermark.DetectWatermark(request)
    (sent,) = deployment.codec.detected
    assert list(sent.key_ids) == ["key-2", "key-1"]
