"""Every encoding of a real gateway, over real gRPC, decoded by libsndfile; AAC by FFmpeg."""

from __future__ import annotations

import asyncio
import io
import math
import struct
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from csm.v1 import tts_pb2

from services.common.rpc import status
from services.gateway.audio.encodings import ENCODINGS, sample_rates_hz
from services.gateway.audio.packets.formats import AAC_DELAY_SAMPLES, MP3_DELAY_SAMPLES
from services.gateway.audio.pieces import joined
from tests.support.cost.shared import SHARED
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES, SAMPLE_RATE_HZ
from tests.support.text_streams import messages_of

PCM, WAV, OPUS = tts_pb2.AUDIO_ENCODING_PCM, tts_pb2.AUDIO_ENCODING_WAV, tts_pb2.AUDIO_ENCODING_OGG_OPUS
MP3, AAC, FLAC = tts_pb2.AUDIO_ENCODING_MP3, tts_pb2.AUDIO_ENCODING_AAC, tts_pb2.AUDIO_ENCODING_FLAC
MULAW, ALAW = tts_pb2.AUDIO_ENCODING_MULAW, tts_pb2.AUDIO_ENCODING_ALAW
RAW_SUBTYPES = {PCM: "PCM_16", MULAW: "ULAW", ALAW: "ALAW"}
COMBINATIONS = [(encoding, rate) for encoding in ENCODINGS for rate in sample_rates_hz(encoding, SAMPLE_RATE_HZ)]
DELAYS = {MP3: MP3_DELAY_SAMPLES, AAC: AAC_DELAY_SAMPLES}  # samples that a decoder gives before the speech
# Sample rates, in Hz, at which one frame of the model is too short for a first chunk.
FIRST_HZ = {MP3: 24_000, AAC: 48_000}
TONE_HZ = 1013  # no whole number of periods in a frame or a packet, so a lost one shifts the phase
SECONDS = 0.8  # the fake engine's ten frames


def tone(sample_count: int, rate_hz: int, first: int = 0) -> np.ndarray:
    return 0.25 * np.sin(2 * math.pi * TONE_HZ * np.arange(first, first + sample_count) / rate_hz)


def tone_of(frames: range) -> bytes:
    samples = tone(len(frames) * FRAME_SAMPLES, SAMPLE_RATE_HZ, frames.start * FRAME_SAMPLES)
    return (samples * 32_768).round().astype("<i2").tobytes()


def decoded(content: bytes, encoding: tts_pb2.AudioEncoding, rate_hz: int) -> np.ndarray:
    """The samples after the encoder's delay. Asserts the sample rate."""
    file = io.BytesIO(content)
    if encoding == AAC:
        recording = joined(ENCODINGS[AAC].open_pieces(file, 1, 0), 60)
        assert recording.sample_rate_hz == rate_hz
        return np.frombuffer(recording.samples, "<i2")[AAC_DELAY_SAMPLES:] / 32_768
    if encoding in RAW_SUBTYPES:
        samples, rate = soundfile.read(
            file, format="RAW", subtype=RAW_SUBTYPES[encoding], samplerate=rate_hz, channels=1
        )
    else:
        samples, rate = soundfile.read(file)
    assert rate == rate_hz and samples.ndim == 1
    return samples[DELAYS.get(encoding, 0) :]


def with_lengths(content: bytes, encoding: tts_pb2.AudioEncoding, sample_count: int) -> bytes:
    """A stream of unknown length as a file that libsndfile can read, like the unary call's."""
    if encoding == FLAC:
        (layout,) = struct.unpack_from(">Q", content, 18)
        assert not layout & (2**36 - 1)
        return content[:18] + struct.pack(">Q", layout | sample_count) + content[26:]
    return wav_with_lengths(content) if encoding == WAV else content


def wav_with_lengths(wav: bytes) -> bytes:
    assert wav[4:8] == wav[40:44] == b"\xff" * 4
    return wav[:4] + struct.pack("<I", len(wav) - 8) + wav[8:40] + struct.pack("<I", len(wav) - 44) + wav[44:]


@pytest.mark.parametrize(("encoding", "rate_hz"), COMBINATIONS)
@SHARED
async def test_stream_and_unary_give_the_tone_whole(
    shared_deployment: FakeDeployment,
    shared_tts: Any,
    stream_request: tts_pb2.StreamSynthesizeRequest,
    unary_request: tts_pb2.SynthesizeRequest,
    encoding: tts_pb2.AudioEncoding,
    rate_hz: int,
) -> None:
    shared_deployment.codec.audio_of = tone_of
    for request in (stream_request, unary_request):
        request.audio_config.audio_encoding, request.audio_config.sample_rate_hertz = encoding, rate_hz
        request.sampling_params.seed = 7

    messages = [message async for message in shared_tts.StreamSynthesize(stream_request)]
    header, summary = messages[0].header, messages[-1].summary
    chunks = [message.audio_chunk for message in messages[1:-1]]
    assert header.audio_format == tts_pb2.AudioFormat(
        audio_encoding=encoding, sample_rate_hertz=rate_hz, channel_count=1
    )
    expected_count = math.ceil(10 * FRAME_SAMPLES * rate_hz / SAMPLE_RATE_HZ)
    position = 0
    for chunk in chunks:
        assert chunk.sample_offset == position and chunk.audio_content and chunk.sample_count >= 0
        position += chunk.sample_count
    assert position == summary.stats.sample_count == expected_count
    assert summary.stats.audio_duration.ToTimedelta().total_seconds() == pytest.approx(SECONDS, abs=1e-4)

    content = b"".join(chunk.audio_content for chunk in chunks)
    content = with_lengths(content, encoding, expected_count)
    heard = decoded(content, encoding, rate_hz)
    assert expected_count <= len(heard) <= expected_count + (1728 if encoding in DELAYS else 0)  # padding
    heard = heard[:expected_count]
    ideal = tone(expected_count, rate_hz)
    inner = slice(rate_hz // 20, -rate_hz // 20)
    assert np.corrcoef(heard[inner], ideal[inner])[0, 1] > 0.96  # no gap, no repeat: the phase holds to the end

    response = await shared_tts.Synthesize(unary_request)
    assert response.audio_format == header.audio_format
    assert response.summary.stats.sample_count == expected_count
    assert response.audio_content == content


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_first_chunk_comes_with_the_first_frame(
    deployment: FakeDeployment,
    tts: Any,
    stream_request: tts_pb2.StreamSynthesizeRequest,
    encoding: tts_pb2.AudioEncoding,
) -> None:
    deployment.codec.audio_of = tone_of
    deployment.engine.script.pause_at = 1
    rate_hz = FIRST_HZ.get(encoding, 8_000)
    stream_request.audio_config.audio_encoding, stream_request.audio_config.sample_rate_hertz = encoding, rate_hz
    call = tts.StreamSynthesize(stream_request)
    assert (await call.read()).WhichOneof("event") == "header"
    async with asyncio.timeout(60):
        first = (await call.read()).audio_chunk
    assert deployment.engine.calls[0].frame_count == 1
    assert first.audio_content and first.sample_count >= (1 if encoding in DELAYS else 0.033 * rate_hz)
    call.cancel()


@SHARED
async def test_rate_of_the_model_is_the_default_of_every_encoding(
    shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    for encoding in ENCODINGS:
        stream_request.audio_config.audio_encoding = encoding
        messages = [message async for message in shared_tts.StreamSynthesize(stream_request)]
        assert messages[0].header.audio_format.sample_rate_hertz == SAMPLE_RATE_HZ
        assert messages[-1].summary.stats.sample_count == 10 * FRAME_SAMPLES


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_model_without_speech_gives_no_samples(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, encoding: Any
) -> None:
    deployment.engine.frame_count = 0
    stream_request.audio_config.audio_encoding, stream_request.audio_config.sample_rate_hertz = encoding, 16_000
    messages = [message async for message in tts.StreamSynthesize(stream_request)]
    chunks = [message.audio_chunk for message in messages[1:-1]]
    assert [len(chunk.audio_content) for chunk in chunks] == {WAV: [44], FLAC: [42]}.get(encoding, [])
    assert messages[-1].summary.stats.sample_count == 0


async def test_a_lost_stage_is_reported_with_samples_at_the_caller_s_rate(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.audio_config.sample_rate_hertz = 8_000
    deployment.engine.script.pause_at = 5
    call = tts.StreamSynthesize(stream_request)
    delivered = 0
    while delivered < 4 * 640:
        delivered += (await call.read()).audio_chunk.sample_count
    await deployment.engine_server.drain(0)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass
    assert status.from_rpc_error(failed.value).metadata["delivered_sample_count"] == str(delivered)


@pytest.mark.parametrize("encoding", ENCODINGS)
@SHARED
async def test_synthesized_audio_of_every_format_can_be_context(
    shared_deployment: FakeDeployment, shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, encoding: Any
) -> None:
    shared_deployment.codec.audio_of = tone_of
    stream_request.audio_config.audio_encoding, stream_request.audio_config.sample_rate_hertz = encoding, 8_000
    content = b"".join(
        [message.audio_chunk.audio_content async for message in shared_tts.StreamSynthesize(stream_request)]
    )
    turn = stream_request.context.turns.add(speaker=1, text="Hello.")
    turn.audio.recording.audio_content = content
    turn.audio.recording.audio_format.audio_encoding = encoding
    turn.audio.recording.audio_format.sample_rate_hertz = 8_000
    [message async for message in shared_tts.StreamSynthesize(stream_request)]
    (sent,) = shared_deployment.codec.encoded
    extra_s = len(sent.samples) / 2 / sent.sample_rate_hertz - SECONDS
    assert 0 <= extra_s * 8_000 <= (DELAYS[encoding] + 1728 if encoding in DELAYS else 0)


@SHARED
async def test_ogg_streams_of_other_texts_may_be_joined_though_they_have_one_seed(
    shared_deployment: FakeDeployment, shared_tts: Any, unary_request: tts_pb2.SynthesizeRequest
) -> None:
    """Streams of a chain have different serial numbers (RFC 3533, section 4); a voice may fix its seed."""
    shared_deployment.codec.audio_of = tone_of
    unary_request.audio_config.audio_encoding, unary_request.sampling_params.seed = OPUS, 7
    made = []
    for text in ("Yes.", "No.", "Yes."):
        unary_request.input.text = text
        made.append((await shared_tts.Synthesize(unary_request)).audio_content)
    yes, no, again = made
    assert yes == again
    assert serials(yes).isdisjoint(serials(no))


@SHARED
async def test_ogg_streams_of_texts_in_pieces_that_begin_differently_may_be_joined_too(
    shared_deployment: FakeDeployment, shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    shared_deployment.codec.audio_of = tone_of
    stream_request.audio_config.audio_encoding, stream_request.sampling_params.seed = OPUS, 7
    stream_request.ClearField("input")
    made = []
    for text in ("Yes. Come in.", "No. Come in.", "Yes. Come in."):
        messages = [message async for message in shared_tts.StreamSynthesizeText(messages_of(stream_request, [text]))]
        made.append(b"".join(message.audio_chunk.audio_content for message in messages))
    yes, no, again = made
    assert yes == again and len(serials(yes)) == 1
    assert serials(yes).isdisjoint(serials(no))


@SHARED
async def test_ogg_streams_of_a_conversation_may_be_joined_though_they_begin_with_the_same_sentence(
    shared_deployment: FakeDeployment, shared_tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    shared_deployment.codec.audio_of = tone_of
    stream_request.audio_config.audio_encoding, stream_request.sampling_params.seed = OPUS, 7
    made = []
    for text in ("Yes. Come in.", "Yes. Sit down.", "Yes. Go on."):
        stream_request.input.text = text
        messages = [message async for message in shared_tts.StreamSynthesize(stream_request)]
        made.append(b"".join(message.audio_chunk.audio_content for message in messages))
        stream_request.context.turns.add(speaker=0, text=text)
    assert len(set.union(*map(serials, made))) == 3


def serials(ogg: bytes) -> set[bytes]:
    """Of every page (RFC 3533, section 6)."""
    return {page[10:14] for page in ogg.split(b"OggS")[1:]}
