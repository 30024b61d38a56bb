"""StreamSynthesizeText: a text that is spoken sentence by sentence while it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc
from google.protobuf import duration_pb2

from csm_bundle.errors import WatermarkError
from services.common.rpc.status import StatusError
from services.gateway.stages.catalog import Catalog
from services.gateway.voices.directory import of_model
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES, fake_frames
from tests.support.text_streams import Message, messages_of
from tests.support.waits import eventually

Code = grpc.StatusCode
SENTENCES = ["Good morning.", "How are you?", "I am fine."]
WAIT_S = 60.0


async def collect(call: Any) -> Any:
    """(header, [(text, offset)], audio, summary)"""
    messages = [message async for message in call]
    kinds = [message.WhichOneof("event") for message in messages]
    assert kinds[:2] == ["header", "sentence"] and kinds[-1] == "summary"
    sentences = [(m.sentence.text, m.sentence.sample_offset) for m in messages if m.HasField("sentence")]
    chunks = [message.audio_chunk for message in messages if message.HasField("audio_chunk")]
    position = 0
    for chunk in chunks:
        assert chunk.sample_offset == position
        position += chunk.sample_count
    return messages[0].header, sentences, b"".join(chunk.audio_content for chunk in chunks), messages[-1].summary


@pytest.mark.parametrize(
    ("heard_frames", "live"),
    [(0, [True] * 3), (10, [False, True, True]), (10.1, [False, False, True]), (1000, [False] * 3)],
)
async def test_sentences_received_before_a_loss_are_generated_without_pacing(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest, heard_frames: float, live: list[bool]
) -> None:
    config.audio_config.speed = 2.0  # half of a frame's samples are sent
    config.stream_config.heard_sample_count = round(heard_frames * FRAME_SAMPLES / 2)
    _, sentences, _, _ = await collect(tts.StreamSynthesizeText(messages_of(config)))
    assert [text for text, _ in sentences] == SENTENCES
    assert [call.request.live for call in deployment.engine.calls] == live


async def test_each_sentence_has_the_earlier_ones_as_context(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    config.input.speaker, config.sampling_params.seed, config.return_codes = 1, 7, True
    config.context.turns.add(speaker=0, text="Hello?")
    header, sentences, audio, summary = await collect(tts.StreamSynthesizeText(messages_of(config)))

    length = 10 * FRAME_SAMPLES
    assert sentences == [(text, index * length) for index, text in enumerate(SENTENCES)]
    assert len(audio) == 2 * 3 * length
    requests = [call.request for call in deployment.engine.calls]
    for index, request in enumerate(requests):
        assert [segment.text for segment in request.segments] == ["Hello?", *SENTENCES[: index + 1]]
        assert [segment.codes.frame_count for segment in request.segments] == [0, *[10] * index, 0]
        assert [segment.speaker_id for segment in request.segments] == [0, *[1] * (index + 1)]
        assert request.sampling_params.seed == 7 + index
    assert requests[2].segments[1].codes == fake_frames(0, 10)
    assert header.seed == 7 and len(deployment.codec.calls) == 3
    assert summary.stats.frame_count == summary.codes.frame_count == 30
    assert summary.codes.codes == 3 * fake_frames(0, 10).codes
    assert summary.stats.sample_count == 3 * length
    assert summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH


async def test_earlier_sentences_are_context_beside_the_caller_s_turns(
    config: tts_pb2.StreamSynthesizeRequest,
) -> None:
    """A recording is encoded once."""
    turn = config.context.turns.add(speaker=0, text="Hello?")
    turn.audio.recording.audio_content = bytes(4800)
    turn.audio.recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    turn.audio.recording.audio_format.sample_rate_hertz = 24_000
    async with (
        fake_deployment(max_remembered_sentences=2) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        await collect(tts.StreamSynthesizeText(messages_of(config, ["One. Two. Three. Four. Five."])))
    said = [[segment.text for segment in call.request.segments] for call in deployment.engine.calls]
    assert said == [
        ["Hello?", "One."],
        ["Hello?", "One.", "Two."],
        ["Hello?", "One.", "Two.", "Three."],
        ["Hello?", "Three.", "Four."],
        ["Hello?", "Three.", "Four.", "Five."],
    ]
    assert len(deployment.codec.encoded) == 1


async def test_sentences_end_as_in_the_language_that_is_asked_for(
    tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    text = ["Wir treffen uns am 3. Oktober. Ende."]
    _, as_english, *_ = await collect(tts.StreamSynthesizeText(messages_of(config, text)))
    assert len(as_english) == 3
    config.voice.language_code = "de-AT"
    _, as_german, *_ = await collect(tts.StreamSynthesizeText(messages_of(config, text)))
    assert [text for text, _ in as_german] == ["Wir treffen uns am 3. Oktober.", "Ende."]


def test_a_voice_speaks_its_first_language() -> None:
    karl = engine_pb2.Voice(name="karl", language_codes=["de", "en"])
    model = engine_pb2.GetModelInfoResponse(voices=[engine_pb2.Voice(name="nobody"), karl])
    catalog = Catalog(model, codec_pb2.GetCodecInfoResponse())
    chosen = [of_model(catalog, tts_pb2.VoiceSelection(name=name), None) for name in ("karl", "nobody", "")]
    assert [voice.language_code for voice in chosen] == ["de", "", ""]


async def test_a_sentence_is_spoken_before_the_next_is_written(
    tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    written: asyncio.Queue[Message | None] = asyncio.Queue()

    async def writer() -> AsyncIterator[Message]:
        while (message := await written.get()) is not None:
            yield message

    call = tts.StreamSynthesizeText(writer())
    for message in messages_of(config, ["Good morning. H"]):
        written.put_nowait(message)
    answers, heard = aiter(call), 0
    while heard < 10 * FRAME_SAMPLES:
        heard += (await asyncio.wait_for(anext(answers), WAIT_S)).audio_chunk.sample_count
    written.put_nowait(Message(text=tts_pb2.TextPiece(text="ow are", flush=True)))
    assert (await asyncio.wait_for(anext(answers), WAIT_S)).sentence.text == "How are"
    written.put_nowait(None)
    rest = [message async for message in answers]
    assert rest[-1].HasField("summary")


async def test_the_engine_works_ahead_and_the_codec_one_after_the_other(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    """The engine makes all sentences while the codec still holds back the first. A caller needs one slot only."""
    deployment.codec.script.pause_at = 3
    call = tts.StreamSynthesizeText(messages_of(config))
    await asyncio.wait_for(deployment.codec.script.paused.wait(), WAIT_S)
    await eventually(lambda: sum(call.ended.is_set() for call in deployment.engine.calls) >= 3)
    assert len(deployment.codec.calls) == 1
    deployment.codec.script.pause_at = None
    deployment.codec.script.resume.set()
    _, sentences, *_ = await collect(call)
    assert [text for text, _ in sentences] == SENTENCES


async def test_the_longest_audio_counts_for_all_sentences(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    config.max_audio_duration.CopyFrom(duration_pb2.Duration(seconds=2))
    config.stream_config.chunk_duration.CopyFrom(duration_pb2.Duration(seconds=1))
    deployment.engine.frame_count = 100
    _, sentences, audio, summary = await collect(tts.StreamSynthesizeText(messages_of(config)))
    assert len(sentences) == 1 and len(audio) == 2 * 25 * FRAME_SAMPLES
    assert summary.finish_reason == tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION

    deployment.engine.frame_count = 10
    *_, summary = await collect(tts.StreamSynthesizeText(messages_of(config)))
    requests = [call.request for call in deployment.engine.calls[1:]]
    assert [request.max_frame_count for request in requests] == [25, 15, 5]
    assert [request.first_batch_frame_count for request in requests] == [13, 13, 5]
    assert summary.stats.frame_count == 25
    assert summary.finish_reason == tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION


async def test_a_sentence_begins_where_its_audio_does_at_the_rate_of_the_caller(
    tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    config.audio_config.sample_rate_hertz = 8_000
    _, sentences, _, _ = await collect(tts.StreamSynthesizeText(messages_of(config)))
    assert [offset for _, offset in sentences] == [0, 10 * FRAME_SAMPLES // 3, 20 * FRAME_SAMPLES // 3]


async def test_the_seed_after_the_largest_is_the_least(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    config.sampling_params.seed = 2**63 - 1
    await collect(tts.StreamSynthesizeText(messages_of(config)))
    assert [call.request.sampling_params.seed for call in deployment.engine.calls] == [2**63 - 1, 0, 1]


async def test_all_sentences_are_one_clip_for_the_codec(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    """Each sentence continues the clip of the one before; the last one's coverage is that of the whole clip."""
    partial, full = codec_pb2.WATERMARK_COVERAGE_PARTIAL, codec_pb2.WATERMARK_COVERAGE_FULL
    deployment.codec.coverages = [partial, partial, full]
    *_, summary = await collect(tts.StreamSynthesizeText(messages_of(config)))
    assert summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL
    requests = [call.request for call in deployment.codec.calls]
    assert [(request.resume, request.clip_continues) for request in requests] == [(b"", 1), (b".", 1), (b"..", 1)]


async def test_a_clip_that_is_partly_marked_is_closed_so_that_the_codec_may_refuse_it(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    partial = codec_pb2.WATERMARK_COVERAGE_PARTIAL
    deployment.codec.coverages = [codec_pb2.WATERMARK_COVERAGE_FULL, partial, partial, partial]
    *_, summary = await collect(tts.StreamSynthesizeText(messages_of(config)))
    assert summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_PARTIAL
    last = deployment.codec.calls[-1]
    assert (last.request.resume, last.request.clip_continues, last.frame_count) == (b"...", False, 0)

    deployment.codec.coverages = [partial] * 3
    deployment.codec.refusals = [None, None, None, WatermarkError("too short")]
    error = await failure(tts.StreamSynthesizeText(messages_of(config)))
    assert (error.code, error.reason) == (Code.INTERNAL, "WATERMARK_FAILED")


async def test_one_utterance_is_a_clip_that_ends(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    _ = [message async for message in tts.StreamSynthesize(stream_request)]
    (call,) = deployment.codec.calls
    assert (call.request.resume, call.request.clip_continues) == (b"", False)


async def test_a_sentence_without_audio_is_reported_and_is_no_context(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.frame_counts = [0, 10, 10]
    _, sentences, audio, _ = await collect(tts.StreamSynthesizeText(messages_of(config)))
    length = 10 * FRAME_SAMPLES
    assert sentences == list(zip(SENTENCES, (0, 0, length), strict=True))
    assert len(audio) == 2 * 2 * length
    assert [segment.text for segment in deployment.engine.calls[2].request.segments] == SENTENCES[1:]


async def test_later_sentences_wait_where_the_engine_is_full(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    """Its caller already has audio. The first sentence is refused at once."""
    full = StatusError(Code.UNAVAILABLE, "QUEUE_FULL", "full", retry_delay_s=0.05)
    deployment.engine.refusal = full
    error = await failure(tts.StreamSynthesizeText(messages_of(config)))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "QUEUE_FULL")

    deployment.engine.refusal = None
    deployment.engine.refusals = [None, full, full]
    _, sentences, *_ = await collect(tts.StreamSynthesizeText(messages_of(config)))
    assert [text for text, _ in sentences] == SENTENCES


async def test_a_loss_in_a_later_sentence_is_not_retryable(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    """Unlike a failure before any audio."""
    lost = StatusError(Code.UNAVAILABLE, "DRAINING", "gone")
    deployment.engine.refusals = [None, *[lost] * 8]
    error = await failure(tts.StreamSynthesizeText(messages_of(config), timeout=30))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "ENGINE_LOST")
    assert error.metadata["delivered_sample_count"] == str(10 * FRAME_SAMPLES)


async def test_a_cancel_ends_the_calls_of_both_stages(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.script.pause_at = 3
    call = tts.StreamSynthesizeText(messages_of(config))
    await asyncio.wait_for(deployment.engine.script.paused.wait(), WAIT_S)
    call.cancel()
    await asyncio.wait_for(deployment.engine.calls[0].ended.wait(), WAIT_S)
    assert deployment.engine.calls[0].error == "CancelledError"
    assert len(deployment.engine.calls) == 1


async def test_a_text_counts_as_one_stream_of_its_caller(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    await collect(tts.StreamSynthesizeText(messages_of(config)))
    registry = deployment.gateway.server.metrics.registry
    labels = {"grpc_type": "bidi_stream", "grpc_method": "StreamSynthesizeText", "grpc_code": "OK"}
    labels |= {"grpc_service": "csm.v1.TextToSpeechService"}
    assert registry.get_sample_value("grpc_server_handled_total", labels) == 1
    assert registry.get_sample_value("tts_first_audio_seconds_count") == 1
