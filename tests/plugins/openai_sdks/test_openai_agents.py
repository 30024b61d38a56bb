"""The voice pipeline of OpenAI's Agents SDK with the HTTP door as its speech model. Run by `make test-plugins`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

voice: Any = pytest.importorskip("agents.voice")
np = pytest.importorskip("numpy")

import httpx2  # noqa: E402  # what OpenAI's client is made of
import openai  # noqa: E402

SPOKEN_SAMPLES = 10 * 1920


class Heard(voice.STTModel):
    """A recogniser that heard a question."""

    model_name = "heard"

    async def transcribe(self, *_: Any) -> str:
        return "How are you?"

    async def create_session(self, *_: Any) -> Any:
        raise NotImplementedError


class Answer(voice.VoiceWorkflowBase):
    """An agent that says what it was made with."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens

    async def run(self, transcription: str) -> AsyncIterator[str]:
        for token in self._tokens:
            yield token


def provider(gateway: Any) -> Any:
    """With a client of its own: the SDK's is for the whole process, and so for one event loop."""
    client = openai.AsyncOpenAI(api_key=gateway.token or "sk-any", base_url=f"{gateway.url}/v1", max_retries=0)
    return voice.OpenAIVoiceModelProvider(openai_client=client)


async def answered(gateway: Any, *tokens: str, model: str | None = None, **settings: Any) -> Any:
    """The result of a turn."""
    config = voice.VoicePipelineConfig(
        model_provider=provider(gateway), tts_settings=voice.TTSModelSettings(**settings), tracing_disabled=True
    )
    pipeline = voice.VoicePipeline(workflow=Answer(*tokens), stt_model=Heard(), tts_model=model, config=config)
    return await pipeline.run(voice.AudioInput(buffer=np.zeros(2400, np.int16)))


async def heard(result: Any) -> int:
    """Samples."""
    return sum([len(event.data) async for event in result.stream() if event.type == "voice_stream_event_audio"])


async def test_sentences_of_an_answer_are_spoken_in_order(gateway: Any) -> None:
    result = await answered(gateway, "Good morning to you all. ", "How are you?", voice="bo", speed=1.5)
    assert await heard(result) == 2 * SPOKEN_SAMPLES
    assert sorted(gateway.calls()) == [("Good morning to you all.", "ended"), ("How are you?", "ended")]


async def test_first_audio_comes_before_the_end_with_a_buffer_of_one(gateway: Any) -> None:
    gateway.tell("pause 8")
    result = await answered(gateway, "Hello.", buffer_size=1)
    async with asyncio.timeout(20):
        async for event in result.stream():
            if event.type == "voice_stream_event_audio":
                break
    assert gateway.calls() == [("Hello.", "open")]
    gateway.tell("resume")
    await asyncio.to_thread(gateway.wait_until_ended)


async def test_closed_stream_ends_the_call_at_the_engine(gateway: Any) -> None:
    gateway.tell("pause 8")
    pieces = provider(gateway).get_tts_model("tts-1").run("Hello.", voice.TTSModelSettings())
    assert await anext(pieces)
    await pieces.aclose()
    assert await asyncio.to_thread(gateway.wait_until_ended) == [("Hello.", "ended CancelledError")]


@pytest.mark.parametrize(
    ("settings", "error", "param"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "model"),
        ({"voice": "nobody"}, openai.NotFoundError, "voice"),
        ({"speed": 9.0}, openai.BadRequestError, "speed"),
    ],
)
async def test_wrong_setting_is_a_typed_error(gateway: Any, settings: dict[str, Any], error: Any, param: str) -> None:
    with pytest.raises(error) as caught:
        await heard(await answered(gateway, "Hello.", **settings))
    assert caught.value.param == param and caught.value.request_id


async def test_answer_without_words_is_silent_and_ends_no_turn(gateway: Any) -> None:
    assert await heard(await answered(gateway, "\N{THUMBS UP SIGN}")) == 1920
    assert gateway.calls() == []


async def test_broken_stream_is_an_error(gateway: Any) -> None:
    gateway.tell("pause 8")
    gateway.tell("fail 8")
    result = await answered(gateway, "Hello.", buffer_size=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        async for event in result.stream():
            if event.type == "voice_stream_event_audio":
                gateway.tell("resume")


async def test_wrong_token_is_an_authentication_error(guarded: Any) -> None:
    assert await heard(await answered(guarded, "Hello.")) == SPOKEN_SAMPLES
    with pytest.raises(openai.AuthenticationError):
        await heard(await answered(dataclasses.replace(guarded, token="sk-wrong"), "Hello."))


async def test_speech_recognition_is_refused_as_not_found(gateway: Any) -> None:
    recogniser = provider(gateway).get_stt_model(None)
    audio, settings = voice.AudioInput(buffer=np.zeros(2400, np.int16)), voice.STTModelSettings()
    with pytest.raises(openai.NotFoundError, match="nothing at this address"):
        await recogniser.transcribe(audio, settings, False, False)
