"""A text of 4,096 characters, the limit of OpenAI's API, is spoken to its end with the default settings."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client.async_client import DEFAULT_TIMEOUT_S

from services.gateway.settings import GatewaySettings
from services.http.settings import HttpSettings
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES, SAMPLE_RATE_HZ
from tests.support.text_streams import messages_of

CHARACTERS_A_SECOND = 15.5  # of the built-in voice
SENTENCE = "The ferry had left the harbour long before the rain began to fall on the roofs. "
TEXT = (SENTENCE * 100)[:4096]
Request = tts_pb2.StreamSynthesizeRequest


@pytest.fixture
def asked(stream_request: Request) -> Request:
    stream_request.input.text = TEXT
    stream_request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_MULAW
    stream_request.audio_config.sample_rate_hertz = 8000
    stream_request.stream_config.chunk_duration.FromSeconds(2)  # most of what a message costs is not its samples
    return stream_request


def speak_at_usual_pace(deployment: FakeDeployment) -> int:
    """The number of frames of the whole text."""
    frames_a_sentence = round(len(SENTENCE) / CHARACTERS_A_SECOND * SAMPLE_RATE_HZ / FRAME_SAMPLES)
    deployment.engine.frame_count = frames_a_sentence
    return frames_a_sentence * -(-len(TEXT) // len(SENTENCE))


@pytest.mark.parametrize("is_whole", [True, False])
async def test_the_longest_text_is_spoken_to_its_end(
    deployment: FakeDeployment, tts: Any, asked: Request, is_whole: bool
) -> None:
    num_frames = speak_at_usual_pace(deployment)
    assert num_frames * FRAME_SAMPLES / SAMPLE_RATE_HZ > 250
    if is_whole:
        call = tts.StreamSynthesize(asked)
    else:
        asked.input.text = ""
        call = tts.StreamSynthesizeText(messages_of(asked, [TEXT]))
    (*_, last) = [message async for message in call]
    assert last.summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH
    assert last.summary.stats.frame_count == num_frames


async def test_one_message_holds_the_longest_text_in_mu_law(
    deployment: FakeDeployment, tts: Any, asked: Request
) -> None:
    num_frames = speak_at_usual_pace(deployment)
    whole = await tts.Synthesize(tts_pb2.SynthesizeRequest(input=asked.input, audio_config=asked.audio_config))
    assert whole.summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH
    assert whole.summary.stats.frame_count == num_frames


async def test_an_endless_utterance_is_cut_and_the_text_continues(asked: Request) -> None:
    """A sentence that the model does not end uses up neither the text's limit nor the sentences after it."""
    asked.input.text = "One is first. Two has no end. Three is last."
    async with (
        fake_deployment(max_utterance_audio_seconds=4.0) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        deployment.engine.frame_counts = [10, 10_000, 10]
        (*_, last) = [message async for message in tts.StreamSynthesize(asked)]
        assert last.summary.stats.frame_count == 10 + 50 + 10
        assert last.summary.finish_reason == tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION
        assert finished(deployment) == {"end_of_speech": 0, "max_audio_duration": 1, "context_window": 0}
        assert [call.request.max_frame_count for call in deployment.engine.calls] == [50] * 3
        for speed, most in ((2.0, 50), (0.5, 25)):  # of the model's speech, and of what is sent
            asked.audio_config.speed = speed
            deployment.engine.frame_counts = [10_000, 1, 1]
            (*_, last) = [message async for message in tts.StreamSynthesize(asked)]
            assert last.summary.stats.frame_count == most + 2
        asked.audio_config.speed, asked.input.as_one_utterance = 1, True
        deployment.engine.frame_count = 10_000
        (*_, last) = [message async for message in tts.StreamSynthesize(asked)]
        assert last.summary.stats.frame_count == 50
        limits = (await tts.GetServerInfo(tts_pb2.GetServerInfoRequest())).limits
        assert limits.max_utterance_audio_duration.seconds == 4 and limits.max_stream_audio_duration.seconds == 300


def finished(deployment: FakeDeployment) -> dict[str, float]:
    (family,) = (each for each in deployment.gateway.server.metrics.registry.collect() if each.name == "tts_finished")
    return {each.labels["finish_reason"]: each.value for each in family.samples if each.name.endswith("_total")}


def test_every_other_limit_leaves_room_for_the_longest_audio() -> None:
    """The text is made at the speed of playback. A drain waits as long."""
    gateway, door = GatewaySettings(), HttpSettings()
    longest_s = gateway.max_stream_audio_seconds
    assert len(TEXT) / CHARACTERS_A_SECOND < longest_s and len(TEXT) == gateway.max_text_length
    for limit_s in (gateway.default_deadline_seconds, door.deadline_seconds, DEFAULT_TIMEOUT_S):
        assert limit_s >= 2 * longest_s
    assert gateway.max_deadline_seconds >= gateway.default_deadline_seconds
    assert gateway.drain_seconds > longest_s and door.drain_seconds > longest_s
