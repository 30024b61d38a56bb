"""Synthesize and StreamSynthesize: a text is spoken sentence by sentence, as by StreamSynthesizeText."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.status import FieldViolation, StatusError
from tests.services.gateway.rpc.checkpoints.sealing_gateway import ENCODINGS, without_times
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES
from tests.support.text_streams import messages_of
from tests.support.waits import eventually

Code = grpc.StatusCode
TEXT = " Good morning. How are you?  I am fine. "
SENTENCES = ["Good morning.", "How are you?", "I am fine."]
Request = tts_pb2.StreamSynthesizeRequest


@pytest.fixture
def asked(stream_request: Request) -> Request:
    stream_request.input.text, stream_request.input.speaker = TEXT, 1
    stream_request.sampling_params.seed, stream_request.return_codes = 7, True
    stream_request.context.turns.add(speaker=0, text="Hello?")
    return stream_request


def in_pieces(request: Request) -> list[tts_pb2.StreamSynthesizeTextRequest]:
    config = Request()
    config.CopyFrom(request)
    config.input.text = ""
    return messages_of(config, [request.input.text])


async def heard(call: Any) -> tuple[bytes, tts_pb2.SynthesisSummary]:
    content, messages = b"", [message async for message in call]
    for message in messages:
        content += message.audio_chunk.audio_content
    return content, without_times(messages[-1].summary)


def asked_of_engine(deployment: FakeDeployment) -> list[engine_pb2.GenerateRequest]:
    """By the calls since the last time."""
    requests = [call.request for call in deployment.engine.calls]
    deployment.engine.calls.clear()
    for request in requests:
        request.ClearField("request_id")
        request.ClearField("playout_lead")
        request.ClearField("is_followed")  # of a text in pieces nobody knows which sentence is the last
    return requests


@pytest.mark.parametrize("encoding", ["pcm", "wav", "ogg_opus", "mp3", "flac"])
async def test_a_text_is_the_same_whole_and_in_pieces(
    deployment: FakeDeployment, tts: Any, asked: Request, encoding: str
) -> None:
    """From the same requests to the engine: seeds, contexts, limits, and `has_listener`."""
    asked.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    asked.max_audio_duration.FromSeconds(2)
    in_parts = await heard(tts.StreamSynthesizeText(in_pieces(asked)))
    requests = asked_of_engine(deployment)
    assert [request.segments[-1].text for request in requests] == SENTENCES
    assert [len(request.segments) for request in requests] == [2, 3, 4]
    assert [request.sampling_params.seed for request in requests] == [7, 8, 9]
    assert await heard(tts.StreamSynthesize(asked)) == in_parts
    assert asked_of_engine(deployment) == requests


async def test_one_message_has_the_same_speech(deployment: FakeDeployment, tts: Any, asked: Request) -> None:
    content, summary = await heard(tts.StreamSynthesize(asked))
    requests = asked_of_engine(deployment)
    whole = await tts.Synthesize(
        tts_pb2.SynthesizeRequest(
            input=asked.input,
            audio_config=asked.audio_config,
            context=asked.context,
            sampling_params=asked.sampling_params,
            return_codes=True,
        )
    )
    assert whole.audio_content == content and whole.seed == 7
    assert whole.summary.codes == summary.codes and whole.summary.codes.frame_count == 30
    assert whole.summary.watermark == summary.watermark and whole.summary.finish_reason == summary.finish_reason
    again = asked_of_engine(deployment)
    assert [request.segments for request in again] == [request.segments for request in requests]
    assert not any(request.live for request in again) and all(request.live for request in requests)


async def test_one_utterance_is_not_cut_into_sentences(deployment: FakeDeployment, tts: Any, asked: Request) -> None:
    asked.input.as_one_utterance = True
    _, summary = await heard(tts.StreamSynthesize(asked))
    (request,) = asked_of_engine(deployment)
    assert [segment.text for segment in request.segments] == ["Hello?", TEXT]
    assert summary.stats.frame_count == 10


async def test_a_text_of_one_sentence_is_one_utterance(deployment: FakeDeployment, tts: Any, asked: Request) -> None:
    """Without parts that have no words, as in every text."""
    asked.input.text = "  Dr. Smith is here! :) "
    await heard(tts.StreamSynthesize(asked))
    (request,) = asked_of_engine(deployment)
    assert request.segments[-1].text == "Dr. Smith is here!"
    await heard(tts.StreamSynthesizeText(in_pieces(asked)))
    assert [each.segments for each in asked_of_engine(deployment)] == [request.segments]


async def test_sentences_end_as_in_the_language_that_is_asked_for(
    deployment: FakeDeployment, tts: Any, asked: Request
) -> None:
    asked.input.text = "Wir treffen uns am 3. Oktober. Ende."
    asked.voice.language_code = "de-AT"
    await heard(tts.StreamSynthesize(asked))
    assert [each.segments[-1].text for each in asked_of_engine(deployment)] == [
        "Wir treffen uns am 3. Oktober.",
        "Ende.",
    ]


async def test_sentences_go_to_the_engine_of_their_call(tts: Any, deployment: FakeDeployment, asked: Request) -> None:
    """That engine still has the keys and values of the earlier sentences. A single utterance may go to any engine."""
    asked.ClearField("context")
    await heard(tts.StreamSynthesize(asked))
    several = {call.metadata.get("csm-conversation") for call in deployment.engine.calls}
    deployment.engine.calls.clear()
    asked.input.as_one_utterance = True
    await heard(tts.StreamSynthesize(asked))
    assert len(several) == 1 and None not in several
    assert [call.metadata.get("csm-conversation") for call in deployment.engine.calls] == [None]


async def test_engines_keep_a_place_for_the_next_sentence(tts: Any, deployment: FakeDeployment, asked: Request) -> None:
    """After the last one only if the text came in pieces: its end is known too late."""

    def followed() -> list[bool]:
        told = [call.request.is_followed for call in deployment.engine.calls]
        deployment.engine.calls.clear()
        return told

    await heard(tts.StreamSynthesize(asked))
    assert followed() == [True, True, False]
    await tts.Synthesize(tts_pb2.SynthesizeRequest(input=asked.input, audio_config=asked.audio_config))
    assert followed() == [True, True, False]
    await heard(tts.StreamSynthesizeText(in_pieces(asked)))
    assert followed() == [True, True, True]
    asked.input.as_one_utterance = True
    await heard(tts.StreamSynthesize(asked))
    assert followed() == [False]


@pytest.mark.parametrize(
    ("heard_frames", "live"),
    [(0, [True] * 3), (10, [False, True, True]), (10.1, [False, False, True]), (1000, [False] * 3)],
)
async def test_audio_received_before_a_loss_is_generated_without_pacing(
    deployment: FakeDeployment, tts: Any, asked: Request, heard_frames: float, live: list[bool]
) -> None:
    asked.stream_config.heard_sample_count = round(heard_frames * FRAME_SAMPLES)
    await heard(tts.StreamSynthesize(asked))
    assert [call.request.live for call in deployment.engine.calls] == live


async def test_times_count_from_the_arrival_of_the_call(deployment: FakeDeployment, tts: Any, asked: Request) -> None:
    deployment.engine.may_start.clear()
    call = tts.StreamSynthesize(asked)
    await eventually(lambda: bool(deployment.engine.calls))
    since_s = time.monotonic()  # the call has arrived
    await asyncio.sleep(0.2)
    waited_s = time.monotonic() - since_s
    deployment.engine.may_start.set()
    stats = [message async for message in call][-1].summary.stats
    queue_s, first_s, total_s = (
        duration.ToTimedelta().total_seconds()
        for duration in (stats.queue_duration, stats.first_audio_latency, stats.total_duration)
    )
    assert waited_s < queue_s <= first_s <= total_s


async def test_a_sentence_that_the_engine_refuses_is_the_text_of_the_request(
    deployment: FakeDeployment, tts: Any, asked: Request
) -> None:
    refused = StatusError(
        Code.INVALID_ARGUMENT,
        "TEXT_TOO_LONG",
        "It is too long.",
        field_violations=(FieldViolation("segments[2].text", "is too long.", "TEXT_TOO_LONG"),),
    )
    deployment.engine.refusals = [None, refused]
    error = await failure(tts.StreamSynthesize(asked))
    assert [violation.field for violation in error.field_violations] == ["input.text"]


async def test_the_limit_of_the_audio_holds_for_all_sentences(
    deployment: FakeDeployment, tts: Any, asked: Request
) -> None:
    asked.max_audio_duration.FromMilliseconds(960)
    content, summary = await heard(tts.StreamSynthesize(asked))
    assert len(content) == 2 * 12 * FRAME_SAMPLES
    assert summary.finish_reason == tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION
    assert len(asked_of_engine(deployment)) == 2


async def test_a_text_whose_words_no_sentence_keeps_is_refused(tts: Any, asked: Request) -> None:
    """Cutting a long sentence can leave an emoticon as its last part."""
    asked.input.text = "!" * 300 + ":D"
    for call in (tts.StreamSynthesize(asked), tts.StreamSynthesizeText(in_pieces(asked))):
        error = await failure(call)
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "TEXT_EMPTY")


async def test_a_text_in_pieces_is_never_one_utterance(tts: Any, asked: Request) -> None:
    asked.input.as_one_utterance = True
    error = await failure(tts.StreamSynthesizeText(in_pieces(asked)))
    assert error.code is Code.INVALID_ARGUMENT
    assert [violation.field for violation in error.field_violations] == ["config.input.as_one_utterance"]


async def test_a_cancel_between_sentences_ends_the_calls_of_both_stages(
    deployment: FakeDeployment, tts: Any, asked: Request
) -> None:
    deployment.engine.frame_counts = [3, 300]
    deployment.engine.script.pause_at = 5
    call = tts.StreamSynthesize(asked)
    async for message in call:
        if message.audio_chunk.sample_offset >= 3 * FRAME_SAMPLES:
            break
    call.cancel()
    for stage in (deployment.engine, deployment.codec):
        await stage.calls[-1].ended.wait()
    assert len(deployment.engine.calls) == 2


async def test_a_lost_engine_is_replaced_within_any_sentence(asked: Request) -> None:
    async with (
        fake_deployment(failover_wait_seconds=20.0) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        whole = await heard(tts.StreamSynthesize(asked))
        lost = StatusError(Code.UNAVAILABLE, "LEAVING", "Another one goes on.")
        for number in (1, 2):
            deployment.engine.calls.clear()
            deployment.engine.refusals = [None] * number + [lost]
            assert await heard(tts.StreamSynthesize(asked)) == whole
            assert len(deployment.engine.calls) == 4
