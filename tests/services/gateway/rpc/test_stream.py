"""The order and the contents of the messages of StreamSynthesize and Synthesize when all goes well."""

from __future__ import annotations

import io
import struct
import wave
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2

from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES, fake_frames
from tests.support.text_streams import fake_answer

REQUEST_ID = "0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11"


def expected_samples(frame_count: int) -> bytes:
    return b"".join(struct.pack("<h", number) * FRAME_SAMPLES for number in range(frame_count))


async def collect(call: Any) -> Any:
    """(header, chunks, summary). Asserts that they come in this order."""
    messages = [message async for message in call]
    kinds = [message.WhichOneof("event") for message in messages]
    assert kinds[0] == "header" and kinds[-1] == "summary"
    assert set(kinds[1:-1]) <= {"audio_chunk"}
    assert await call.code() is grpc.StatusCode.OK
    return messages[0].header, [message.audio_chunk for message in messages[1:-1]], messages[-1].summary


async def test_stream_is_header_chunks_without_gaps_summary(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    header, chunks, summary = await collect(tts.StreamSynthesize(stream_request))
    assert header.voice == "ada" and header.model_version == "fake/1"
    assert header.audio_format.sample_rate_hertz == 24_000 and header.audio_format.channel_count == 1
    assert header.seed >= 0
    assert b"".join(chunk.audio_content for chunk in chunks) == expected_samples(10)
    position = 0
    for chunk in chunks:
        assert chunk.sample_offset == position and len(chunk.audio_content) == 2 * chunk.sample_count > 0
        position += chunk.sample_count
    assert summary.stats.frame_count == 10 and summary.stats.sample_count == position == 10 * FRAME_SAMPLES
    assert summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH
    assert summary.watermark.key_id == "key-1"
    assert summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL
    assert not summary.HasField("codes")


async def test_only_streams_are_live_for_the_engine(
    deployment: FakeDeployment,
    tts: Any,
    stream_request: tts_pb2.StreamSynthesizeRequest,
    unary_request: tts_pb2.SynthesizeRequest,
) -> None:
    await collect(tts.StreamSynthesize(stream_request))
    await tts.Synthesize(unary_request)
    assert [call.request.live for call in deployment.engine.calls] == [True, False]


@pytest.mark.parametrize("heard", [1, 5 * FRAME_SAMPLES, 2**63 - 1])
async def test_audio_received_before_a_loss_is_generated_again_without_pacing(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, heard: int
) -> None:
    stream_request.stream_config.heard_sample_count = heard
    _, chunks, _ = await collect(tts.StreamSynthesize(stream_request))
    assert not deployment.engine.calls[0].request.live
    resumed = deployment.gateway.server.metrics.registry.get_sample_value
    assert resumed("tts_resumed_streams_total", {"kind": "utterance", "at": "start"}) == 1
    assert chunks[0].sample_offset == 0 and sum(chunk.sample_count for chunk in chunks) == 10 * FRAME_SAMPLES


async def test_first_chunk_is_one_frame(tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    _, chunks, _ = await collect(tts.StreamSynthesize(stream_request))
    assert chunks[0].sample_count == FRAME_SAMPLES
    assert max(chunk.sample_count for chunk in chunks) > FRAME_SAMPLES


@pytest.mark.parametrize(("milliseconds", "frames"), [(80, 1), (81, 2), (200, 3), (240, 3)])
async def test_chunk_duration_is_rounded_up_to_frames(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, milliseconds: int, frames: int
) -> None:
    stream_request.stream_config.chunk_duration.FromMilliseconds(milliseconds)
    _, chunks, _ = await collect(tts.StreamSynthesize(stream_request))
    counts = [chunk.sample_count for chunk in chunks]
    assert set(counts[:-1]) == {frames * FRAME_SAMPLES}
    assert counts[-1] <= frames * FRAME_SAMPLES and sum(counts) == 10 * FRAME_SAMPLES


async def test_chunk_longer_than_the_decode_window_still_comes(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.frame_count = 300
    stream_request.stream_config.chunk_duration.FromSeconds(60)
    _, chunks, _ = await collect(tts.StreamSynthesize(stream_request))
    assert sum(chunk.sample_count for chunk in chunks) == 300 * FRAME_SAMPLES


async def test_chunk_never_exceeds_what_a_default_client_can_receive(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.frame_count = 60 * 25 // 2
    stream_request.audio_config.sample_rate_hertz = 48_000
    stream_request.stream_config.chunk_duration.FromSeconds(60)
    _, chunks, _ = await collect(tts.StreamSynthesize(stream_request))
    assert sum(chunk.sample_count for chunk in chunks) == 60 * 48_000
    assert len(chunks[0].audio_content) > 3_800_000  # and no smaller than it must be


async def test_a_codec_that_holds_back_audio_gets_more_frames(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.frame_count = 200
    deployment.codec.info.latency_sample_count = 100 * FRAME_SAMPLES
    _, chunks, _ = await collect(tts.StreamSynthesize(stream_request))
    assert b"".join(chunk.audio_content for chunk in chunks) == expected_samples(200)


async def test_wav_stream_starts_with_a_header_of_unknown_length(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_WAV
    _, chunks, summary = await collect(tts.StreamSynthesize(stream_request))
    content = b"".join(chunk.audio_content for chunk in chunks)
    assert content[:4] == b"RIFF" and content[4:8] == content[40:44] == b"\xff\xff\xff\xff"
    assert content[44:] == expected_samples(10)
    assert sum(chunk.sample_count for chunk in chunks) == summary.stats.sample_count


async def test_unary_wav_has_exact_lengths(tts: Any, unary_request: tts_pb2.SynthesizeRequest) -> None:
    unary_request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_WAV
    response = await tts.Synthesize(unary_request)
    with wave.open(io.BytesIO(response.audio_content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert file.readframes(file.getnframes()) == expected_samples(10)
        assert file.getnframes() == 10 * FRAME_SAMPLES
    assert response.summary.stats.frame_count == 10


async def test_a_model_without_speech_gives_header_and_summary(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.frame_count = 0
    _, chunks, summary = await collect(tts.StreamSynthesize(stream_request))
    assert chunks == [] and summary.stats.sample_count == 0


async def test_request_id_is_echoed_and_travels_to_both_stages(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.request_id = REQUEST_ID
    header, _, _ = await collect(tts.StreamSynthesize(stream_request))
    assert header.request_id == REQUEST_ID
    engine_call, codec_call = deployment.engine.calls[0], deployment.codec.calls[0]
    assert engine_call.request.request_id == codec_call.request.request_id == REQUEST_ID
    assert engine_call.metadata["x-request-id"] == codec_call.metadata["x-request-id"] == REQUEST_ID


async def test_an_unset_seed_is_drawn_and_returned(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    seeds = {(await collect(tts.StreamSynthesize(stream_request)))[0].seed for _ in range(3)}
    assert len(seeds) == 3
    assert {call.request.sampling_params.seed for call in deployment.engine.calls} == seeds


async def test_zero_is_a_value_of_sampling(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.sampling_params.temperature = 0
    stream_request.sampling_params.seed = 0
    header, _, _ = await collect(tts.StreamSynthesize(stream_request))
    sent = deployment.engine.calls[0].request.sampling_params
    assert (sent.temperature, sent.top_k, sent.seed, header.seed) == (0, 50, 0, 0)


async def test_defaults_are_those_of_the_model_card(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    await collect(tts.StreamSynthesize(stream_request))
    sent = deployment.engine.calls[0].request
    assert sent.sampling_params.temperature == pytest.approx(0.9)
    assert sent.sampling_params.top_k == 50
    assert sent.max_frame_count == 1125  # 90 s


async def test_bundle_recommends_the_sampling_of_requests_that_set_none(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.info.recommended_sampling_params.temperature = 0.5
    await collect(tts.StreamSynthesize(stream_request))
    sent = deployment.engine.calls[0].request.sampling_params
    assert (sent.temperature, sent.top_k) == (0.5, 50)
    told = (await tts.GetServerInfo(tts_pb2.GetServerInfoRequest())).default_sampling_params
    assert (told.temperature, told.top_k, told.HasField("seed")) == (0.5, 50, False)


async def test_voice_gives_the_speaker_unless_one_is_named(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.voice.name = "bo"
    header, _, _ = await collect(tts.StreamSynthesize(stream_request))
    stream_request.input.speaker = 0
    await collect(tts.StreamSynthesize(stream_request))
    spoken = [call.request.segments[-1].speaker_id for call in deployment.engine.calls]
    assert header.voice == "bo" and spoken == [1, 0]


@pytest.mark.parametrize(("speaker", "voice"), [(0, "ada"), (1, "bo"), (7, "")])
async def test_a_speaker_without_a_voice_uses_the_voice_of_that_speaker(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, speaker: int, voice: str
) -> None:
    stream_request.input.speaker = speaker
    header, _, _ = await collect(tts.StreamSynthesize(stream_request))
    assert header.voice == voice


async def test_returned_codes_are_context_of_the_next_turn(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.return_codes = True
    _, _, summary = await collect(tts.StreamSynthesize(stream_request))
    assert summary.codes == fake_answer(("Hello from the other side.", 10))
    turn = stream_request.context.turns.add(speaker=1, text="Hello.")
    turn.audio.codes.CopyFrom(summary.codes)
    await collect(tts.StreamSynthesize(stream_request))
    segments = deployment.engine.calls[1].request.segments
    assert segments[0].codes == fake_frames(0, 10) and segments[0].speaker_id == 1
    assert not segments[1].HasField("codes")
    assert deployment.codec.encoded == []


async def test_context_recording_is_encoded_at_its_own_rate(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    turn = stream_request.context.turns.add(speaker=1, text="How are you?")
    turn.audio.recording.audio_content = bytes(3200)
    turn.audio.recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    turn.audio.recording.audio_format.sample_rate_hertz = 16_000
    await collect(tts.StreamSynthesize(stream_request))
    assert deployment.codec.encoded[0].sample_rate_hertz == 16_000
    assert len(deployment.codec.encoded[0].samples) == 3200
    assert deployment.engine.calls[0].request.segments[0].codes == fake_frames(0, 3)


async def test_max_audio_duration_cuts_the_audio_and_sets_the_finish_reason(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.max_audio_duration.FromMilliseconds(400)
    _, _, summary = await collect(tts.StreamSynthesize(stream_request))
    assert summary.finish_reason == tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION
    assert summary.stats.frame_count == 5


async def test_unary_makes_80_seconds_that_a_default_client_can_receive(
    deployment: FakeDeployment, tts: Any, unary_request: tts_pb2.SynthesizeRequest
) -> None:
    deployment.engine.frame_count = 5000
    unary_request.return_codes = True
    response = await tts.Synthesize(unary_request)
    assert response.summary.stats.audio_duration.seconds == 80
    assert response.ByteSize() < 4 * 2**20
