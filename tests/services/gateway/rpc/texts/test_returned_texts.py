"""A text whose codes were returned is context of the next turn as the sentences it was spoken in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_bundle.errors import InvalidRequestError
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import fake_frames
from tests.support.text_streams import fake_answer, messages_of

TEXT = " Good morning.   How are you?\nI am fine. \N{SMILING FACE WITH SMILING EYES} "
SENTENCES = ["Good morning.", "How are you?", "I am fine."]
FRAMES = 4
Request = tts_pb2.StreamSynthesizeRequest


@pytest.fixture
def asked(deployment: FakeDeployment, stream_request: Request) -> Request:
    deployment.engine.frame_count = FRAMES
    stream_request.input.text, stream_request.input.speaker = TEXT, 1
    stream_request.return_codes = True
    return stream_request


async def returned(tts: Any, asked: Request, method: str) -> tts_pb2.SynthesisSummary:
    match method:
        case "Synthesize":
            given = tts_pb2.SynthesizeRequest(input=asked.input, audio_config=asked.audio_config, return_codes=True)
            return (await tts.Synthesize(given)).summary  # type: ignore[no-any-return]
        case "StreamSynthesize":
            return [message async for message in tts.StreamSynthesize(asked)][-1].summary
        case _:
            config = Request()
            config.CopyFrom(asked)
            config.input.text = ""
            pieces = messages_of(config, [asked.input.text])
            return [message async for message in tts.StreamSynthesizeText(pieces)][-1].summary


def next_turn(asked: Request, text: str, **audio: Any) -> Request:
    later = Request()
    later.CopyFrom(asked)
    later.input.text = "And now?"
    later.context.turns.add(speaker=0, text="Hi.")
    later.context.turns.add(speaker=1, text=text, audio=tts_pb2.TurnAudio(**audio))
    return later


async def context_of(deployment: FakeDeployment, tts: Any, request: Request) -> list[tuple[int, str, int]]:
    """Speaker, text and frames of each segment before the one that is spoken."""
    deployment.engine.calls.clear()
    await tts.StreamSynthesize(request).read()
    segments = deployment.engine.calls[0].request.segments
    assert not any(segment.codes.utterances for segment in segments)
    return [(segment.speaker_id, segment.text, segment.codes.frame_count) for segment in segments[:-1]]


@pytest.mark.parametrize("method", ["Synthesize", "StreamSynthesize", "StreamSynthesizeText"])
async def test_a_returned_text_becomes_a_turn_of_its_sentences(
    deployment: FakeDeployment, tts: Any, asked: Request, method: str
) -> None:
    codes = (await returned(tts, asked, method)).codes
    assert codes == fake_answer(*((sentence, FRAMES) for sentence in SENTENCES))
    found = await context_of(deployment, tts, next_turn(asked, TEXT, codes=codes))
    assert found == [(0, "Hi.", 0), *((1, sentence, FRAMES) for sentence in SENTENCES)]
    segments = deployment.engine.calls[0].request.segments
    assert all(segment.codes == fake_frames(0, FRAMES) for segment in segments[1:4])


@pytest.mark.parametrize("text", ["Dr. Smith is here! :) ", "Here."])
async def test_a_returned_sentence_is_one_segment_as_spoken(
    deployment: FakeDeployment, tts: Any, asked: Request, text: str
) -> None:
    asked.input.text = text
    codes = (await returned(tts, asked, "StreamSynthesize")).codes
    found = await context_of(deployment, tts, next_turn(asked, text, codes=codes))
    assert found[1:] == [(1, text.removesuffix(" :) ").strip(), FRAMES)]


async def test_one_utterance_of_several_sentences_stays_one(
    deployment: FakeDeployment, tts: Any, asked: Request
) -> None:
    asked.input.as_one_utterance = True
    codes = (await returned(tts, asked, "StreamSynthesize")).codes
    assert codes == fake_answer((TEXT, FRAMES))
    assert (await context_of(deployment, tts, next_turn(asked, TEXT, codes=codes)))[1:] == [(1, TEXT, FRAMES)]


@pytest.mark.parametrize("text", ["Good morning. How are you?", "Good day. How are you? I am fine."])
async def test_a_returned_text_under_another_text_is_one_segment(
    deployment: FakeDeployment, tts: Any, asked: Request, text: str
) -> None:
    codes = (await returned(tts, asked, "StreamSynthesize")).codes
    assert (await context_of(deployment, tts, next_turn(asked, text, codes=codes)))[1:] == [(1, text, 3 * FRAMES)]


async def test_sealed_codes_hold_their_sentences(tmp_path: Path, stream_request: Request) -> None:
    sealed: dict[str, Any] = {"code_sealing": "sealed", "code_sealing_keyring": tmp_path / "seal.json"}
    stream_request.input.text, stream_request.return_codes = TEXT, True
    async with fake_deployment(**sealed) as deployment, grpc.aio.insecure_channel(deployment.target) as channel:
        tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]
        codes = (await returned(tts, stream_request, "StreamSynthesize")).sealed_codes
        found = await context_of(deployment, tts, next_turn(stream_request, TEXT, sealed_codes=codes))
    assert found[1:] == [(1, sentence, 10) for sentence in SENTENCES]


async def test_a_dropped_sentence_is_a_dropped_turn_once(deployment: FakeDeployment, tts: Any, asked: Request) -> None:
    codes = (await returned(tts, asked, "StreamSynthesize")).codes
    later = next_turn(asked, TEXT, codes=codes)
    for dropped, turns in ((0, 0), (1, 1), (2, 2), (4, 2)):
        deployment.engine.dropped_segment_count = dropped
        for method in ("StreamSynthesize", "StreamSynthesizeText"):
            assert (await returned(tts, later, method)).stats.dropped_turn_count == turns


async def test_fields_of_its_sentences_are_those_of_the_turn(
    deployment: FakeDeployment, tts: Any, asked: Request
) -> None:
    codes = (await returned(tts, asked, "StreamSynthesize")).codes
    later = next_turn(asked, TEXT, codes=codes)
    for index, field in ((0, "context.turns[0].text"), (3, "context.turns[1].text"), (4, "input.text")):
        deployment.engine.refusal = InvalidRequestError(f"segments[{index}].text", "does not fit.")
        error = await failure(tts.StreamSynthesize(later))
        assert [violation.field for violation in error.field_violations] == [field]


@pytest.mark.parametrize("counts", [(3, 4), (4, 5), (-1, 9), (9, -1)])
async def test_utterances_that_are_not_the_frames_are_refused(
    tts: Any, asked: Request, counts: tuple[int, int]
) -> None:
    codes = fake_frames(0, 8)
    codes.utterances.extend(rvq_pb2.Utterance(text="Hi.", frame_count=count) for count in counts)
    error = await failure(tts.StreamSynthesize(next_turn(asked, "Hi. Hi.", codes=codes)))
    (violation,) = error.field_violations
    assert (violation.field, violation.reason) == ("context.turns[1].audio.codes", "CODES_MALFORMED")
    assert f"{sum(counts)} frames" in violation.description
