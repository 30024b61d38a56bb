"""Wrong requests are refused before any work, and every wrong field is named."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc, watermark_pb2

from services.common.rpc import status
from services.gateway.audio.recording import Recording
from services.gateway.audio.wav import wav_header
from services.gateway.rpc import recordings
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import fake_frames

Request = tts_pb2.StreamSynthesizeRequest


def text(value: str) -> Callable[[Request], None]:
    return lambda request: setattr(request.input, "text", value)


def speaker(value: int) -> Callable[[Request], None]:
    return lambda request: setattr(request.input, "speaker", value)


def encoding(value: int) -> Callable[[Request], None]:
    return lambda request: setattr(request.audio_config, "audio_encoding", value)


def rate(value: int) -> Callable[[Request], None]:
    return lambda request: setattr(request.audio_config, "sample_rate_hertz", value)


def audio_format(encoding: Any, rate: int) -> Callable[[Request | tts_pb2.SynthesizeRequest], None]:
    config = tts_pb2.AudioConfig(audio_encoding=encoding, sample_rate_hertz=rate)
    return lambda request: request.audio_config.CopyFrom(config)


def sampling(name: str, value: float) -> Callable[[Request], None]:
    return lambda request: setattr(request.sampling_params, name, value)


def seconds(value: float) -> Callable[[Request | tts_pb2.SynthesizeRequest], None]:
    return lambda request: request.max_audio_duration.FromNanoseconds(round(value * 1e9))


def chunk(value: float) -> Callable[[Request], None]:
    return lambda request: request.stream_config.chunk_duration.FromNanoseconds(round(value * 1e9))


def request_id(value: str) -> Callable[[Request], None]:
    return lambda request: setattr(request, "request_id", value)


def labels(count: int) -> Callable[[Request], None]:
    return lambda request: request.labels.update({str(index): "x" for index in range(count)})


def turn(**fields: Any) -> Callable[[Request], Any]:
    return lambda request: request.context.turns.add(**({"text": "Hi.", "speaker": 0} | fields))


def turns(count: int) -> Callable[[Request], Any]:
    return lambda request: [turn()(request) for _ in range(count)]


def recording(content: bytes, encoding: Any, rate: int = 0, channels: int = 0) -> Callable[[Request], None]:
    audio_format = tts_pb2.AudioFormat(audio_encoding=encoding, sample_rate_hertz=rate, channel_count=channels)
    made = tts_pb2.AudioRecording(audio_content=content, audio_format=audio_format)
    return turn(audio=tts_pb2.TurnAudio(recording=made))


def codes(first: int = 0, count: int = 2, **changes: object) -> Callable[[Request], None]:
    frames = fake_frames(first, count)
    for name, value in changes.items():
        setattr(frames, name, value)
    return turn(audio=tts_pb2.TurnAudio(codes=frames))


PCM, WAV, OPUS = tts_pb2.AUDIO_ENCODING_PCM, tts_pb2.AUDIO_ENCODING_WAV, tts_pb2.AUDIO_ENCODING_OGG_OPUS
MULAW, ALAW = tts_pb2.AUDIO_ENCODING_MULAW, tts_pb2.AUDIO_ENCODING_ALAW
GOOD_WAV = wav_header(24_000, 2400) + bytes(4800)
TWELVE_BIT = GOOD_WAV[:34] + struct.pack("<H", 12) + GOOD_WAV[36:]
SURROUND = GOOD_WAV[:22] + struct.pack("<H", 6) + GOOD_WAV[24:]

WRONG: dict[str, list[Callable[[Request], None]]] = {
    "input.text": [text(""), text(" "), text("\n\t"), text("\u3000"), text("x" * 2001), text("ü" * 5000)]
    + [text(white * 7) for white in "\r\v\f "],
    "input.speaker": [speaker(value) for value in (-1, -2, -99, 100, 101, 500, 1000, 12345, 2**31 - 1, -(2**31))],
    "audio_config.audio_encoding": [encoding(value) for value in (0, 6, 7, 8, 42, 99, 1000, -1, 2**31 - 1, -(2**31))],
    "audio_config.sample_rate_hertz": [
        *(rate(value) for value in (-1, 1, 7999, 23999, 24001, 96000, 192000, 2**31 - 1)),
        *(audio_format(OPUS, value) for value in (11025, 22050, 32000, 44100)),
        *(audio_format(MULAW, 64000), audio_format(WAV, 6000)),
    ],
    "sampling_params.temperature": [
        sampling("temperature", value)
        for value in (-0.1, -1, -1e30, 2.1, 3, 100, 1e30, float("nan"), float("inf"), -float("inf"))
    ],
    "sampling_params.top_k": [
        sampling("top_k", value) for value in (0, -1, -50, 2049, 2051, 3000, 10000, 99999, 2**31 - 1, -(2**31))
    ],
    "sampling_params.seed": [
        sampling("seed", value) for value in (-1, -2, -3, -7, -42, -100, -(2**31), -(2**32), -(2**62), -(2**63))
    ],
    "max_audio_duration": [seconds(value) for value in (0, -1, -0.08, 0.01, 0.079, 90.001, 91, 120, 3600, 86400)],
    "stream_config.chunk_duration": [chunk(value) for value in (0, -0.08, -1, -90, 90.001, 91, 100, 200, 3600, 86400)],
    "request_id": [
        request_id(value)
        for value in (
            *("x", "1", "not-a-uuid", "0b4a7b1e3f474a4e9f512f1f0a5a8f11", "{0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11}"),
            *("urn:uuid:0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11", "0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f1"),
            *("0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11\n", "x" * 36, " "),
        )
    ],
    "labels": [labels(count) for count in (9, 10, 11, 12, 16, 20, 32, 64)]
    + [lambda request: request.labels.update({"a" * 65: "x"}), lambda request: request.labels.update({"a": "x" * 65})],
    "context.turns": [turns(count) for count in (65, 66, 70, 80, 100, 128)]
    + [recording(bytes(2 * 8000 * length), PCM, 8000) for length in (161, 170, 200, 300)],
    "context.turns[0].text": [turn(text=value) for value in ("", " ", "\n", "\t", "  ", "\r\n", "\v", "\f")]
    + [turn(text="x" * count) for count in (2001, 4000)],
    "context.turns[0].speaker": [
        turn(speaker=value) for value in (-1, -2, -99, 100, 101, 500, 1000, 12345, 2**31 - 1, -(2**31))
    ],
    "context.turns[0].audio.recording.audio_format.audio_encoding": [
        recording(b"1234", value, 24000) for value in (0, 6, 7, 8, 42, 99, 1000, -1, 2**31 - 1, -(2**31))
    ],
    "context.turns[0].audio.recording.audio_format.sample_rate_hertz": [
        recording(b"1234", PCM, value) for value in (0, -1, 1, 4000, 7999, 192001, 200000, 384000, 2**31 - 1, -(2**31))
    ],
    "context.turns[0].audio.recording.audio_format.channel_count": [
        recording(b"1234", PCM, 24000, value) for value in (-1, 3, 4, 5, 6, 7, 8, 16, 100, -2)
    ],
    "context.turns[0].audio.recording.audio_content": [
        *(recording(b"", PCM, 24000), recording(b"123", PCM, 24000), recording(b"1", PCM, 24000)),
        *(recording(b"", WAV), recording(b"RIFF", WAV), recording(b"ID3" + bytes(60), WAV)),
        *(recording(GOOD_WAV[:30], WAV), recording(TWELVE_BIT, WAV), recording(SURROUND, WAV)),
        *(recording(b"123456", PCM, 24000, 2), recording(b"123", MULAW, 8000, 2), recording(b"OggS", OPUS)),
        recording(wav_header(24_000, 0), WAV),
    ],
    "context.turns[0].audio.codes": [
        *(codes(frame_count=3), codes(frame_count=0), codes(frame_count=-1), codes(codebook_count=0)),
        *(codes(codebook_count=8), codes(codebook_count=33), codes(codes=b""), codes(codes=b"x")),
        *(codes(codes=b"\xff" * 128), codes(codes=struct.pack("<64H", *[2048] * 64))),
    ],
    "context.turns[0].audio": [turn(audio=tts_pb2.TurnAudio())],
}
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
async def test_ten_wrong_requests_of_each_kind_name_the_field(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, field: str
) -> None:
    for change in WRONG[field]:
        request = Request()
        request.CopyFrom(stream_request)
        change(request)
        found = await violations(tts.StreamSynthesize(request).read())
        assert [violation.field for violation in found] == [field]
    assert deployment.engine.calls == [] and deployment.codec.encoded == []


async def test_unary_call_shares_the_checks(tts: Any, unary_request: tts_pb2.SynthesizeRequest) -> None:
    unary_request.input.text = ""
    found = await violations(tts.Synthesize(unary_request))
    assert [(violation.field, violation.reason) for violation in found] == [("input.text", "TEXT_EMPTY")]


async def test_all_violations_come_at_once(tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    changes = [text(""), speaker(-1), encoding(0), sampling("top_k", 0), turn(text=""), labels(9), request_id("x")]
    for change in changes:
        change(stream_request)
    found = await violations(tts.StreamSynthesize(stream_request).read())
    assert {violation.field for violation in found} == {
        "input.text",
        "input.speaker",
        "audio_config.audio_encoding",
        "sampling_params.top_k",
        "context.turns[0].text",
        "labels",
        "request_id",
    }


async def test_a_whole_conversation_of_wrong_turns_is_told(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """Too many violations for one status would be lost with it."""
    for _ in range(64):
        stream_request.context.turns.add(speaker=-1)
    found = await violations(tts.StreamSynthesize(stream_request).read())
    assert [violation.field for violation in found[:2]] == ["context.turns[0].speaker", "context.turns[0].text"]


async def test_recordings_beyond_the_longest_context_are_not_decoded(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def pieces(audio_format: tts_pb2.AudioFormat, file: io.BytesIO) -> list[Recording]:
        decoded.append(file.read())
        return [Recording(bytes(2 * 100 * 24_000), codec_pb2.SAMPLE_FORMAT_S16LE, 24_000)]

    monkeypatch.setattr(recordings, "open_pieces", pieces)
    for _ in range(20):
        recording = stream_request.context.turns.add(text="Hello.").audio.recording
        recording.audio_content = b"\xff"
        recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_MULAW
        recording.audio_format.sample_rate_hertz = 8000
    (violation,) = await violations(tts.StreamSynthesize(stream_request).read())
    assert (violation.field, violation.reason) == ("context.turns", "CONTEXT_TOO_LONG")
    assert len(decoded) == 2


async def test_unary_wish_over_80_s_is_refused_before_any_work_and_pointed_to_the_stream(
    deployment: FakeDeployment, tts: Any, unary_request: tts_pb2.SynthesizeRequest
) -> None:
    for wish in UNARY_TOO_LONG:
        seconds(wish)(unary_request)
        (violation,) = await violations(tts.Synthesize(unary_request))
        assert violation.field == "max_audio_duration"
        assert "80 s" in violation.description and "StreamSynthesize" in violation.description
    assert deployment.engine.calls == []
    seconds(80)(unary_request)
    await tts.Synthesize(unary_request)
    assert deployment.engine.calls[0].request.max_frame_count == 1000


@pytest.mark.parametrize(
    ("encoding", "rate", "longest_s"),
    [(PCM, 48_000, 40), (WAV, 44_100, 43.52), (PCM, 8_000, 240), (MULAW, 24_000, 160), (ALAW, 8_000, 300)]
    + [(OPUS, rate, 300) for rate in (8_000, 48_000)],
)
async def test_unary_limit_follows_the_size_of_the_format(encoding: int, rate: int, longest_s: float) -> None:
    async with fake_deployment(max_stream_audio_seconds=300) as deployment:
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


async def test_wrong_rate_is_told_with_the_rates_of_the_encoding(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    audio_format(OPUS, 44_100)(stream_request)
    (violation,) = await violations(tts.StreamSynthesize(stream_request).read())
    assert violation.description == (
        "is 44100; with AUDIO_ENCODING_OGG_OPUS it must be one of 8000, 12000, 16000, 24000, 48000, or 0 for 24000."
    )


@pytest.mark.parametrize(
    "change",
    [
        *(sampling("temperature", 0), sampling("temperature", 2), sampling("top_k", 1), sampling("top_k", 2048)),
        *(sampling("seed", 2**63 - 1), seconds(0.08), seconds(90), chunk(0.01), chunk(90), rate(24000)),
        *(text("x" * 2000), speaker(99), labels(8), turns(64), recording(GOOD_WAV, WAV), codes(7)),
        request_id("0B4A7B1E-3F47-4A4E-9F51-2F1F0A5A8F11"),
    ],
)
async def test_values_at_the_limit_pass(tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, change: Any) -> None:
    change(stream_request)
    messages = [message async for message in tts.StreamSynthesize(stream_request)]
    assert messages[-1].HasField("summary")


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
    request = watermark_pb2.DetectWatermarkRequest(key_ids=["key-2", *100_000 * ["key-1"], "key-2"])
    request.recording.audio_content = GOOD_WAV
    request.recording.audio_format.audio_encoding = WAV
    await watermark.DetectWatermark(request)
    (sent,) = deployment.codec.detected
    assert list(sent.key_ids) == ["key-2", "key-1"]
