"""LiveKit's own plugin for OpenAI against the HTTP door. Run by `make test-plugins`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

agents = pytest.importorskip("livekit.agents")
openai: Any = pytest.importorskip("livekit.plugins.openai")

SPOKEN_SAMPLES = 10 * 1920
ONCE = agents.APIConnectOptions(max_retry=0)


def tts_of(gateway: Any, **options: Any) -> Any:
    return openai.TTS(base_url=f"{gateway.url}/v1", api_key=gateway.token or "sk-any", **options)


async def heard(stream: Any) -> int:
    """Samples."""
    async with stream:
        return sum([event.frame.samples_per_channel async for event in stream])


@pytest.mark.parametrize(
    "options",
    [
        {},  # events with MP3 in them
        {"model": "tts-1"},  # MP3
        {"voice": "bo", "speed": 2.0, "instructions": "Calm."},
        *({"response_format": name} for name in ("pcm", "wav", "opus", "aac", "flac")),
    ],
    ids=str,
)
async def test_speech_comes_whole_at_24_khz(gateway: Any, options: dict[str, Any]) -> None:
    async with tts_of(gateway, **options) as tts:
        assert tts.sample_rate == 24_000
        samples = await heard(tts.synthesize("Hello.", conn_options=ONCE))
    assert abs(samples - SPOKEN_SAMPLES) <= 2 * 1152  # MP3 and AAC have a beginning of their own


async def test_first_audio_comes_before_the_end_and_an_interruption_ends_the_call(gateway: Any) -> None:
    gateway.tell("pause 8")
    async with tts_of(gateway, response_format="pcm") as tts:
        stream = tts.synthesize("Hello.")
        await asyncio.wait_for(anext(stream), 20)
        assert gateway.calls() == [("Hello.", "open")]
        await stream.aclose()
        assert await asyncio.to_thread(gateway.wait_until_ended) == [("Hello.", "ended CancelledError")]


async def test_sentences_of_an_agent_are_one_call_each(gateway: Any) -> None:
    tokenizer = agents.tokenize.basic.SentenceTokenizer(min_sentence_len=5)
    async with tts_of(gateway, response_format="pcm") as tts:
        stream = agents.tts.StreamAdapter(tts=tts, sentence_tokenizer=tokenizer).stream()
        for token in ("Good morning ", "to you. ", "How are you?"):
            stream.push_text(token)
        stream.end_input()
        samples = await heard(stream)
    assert abs(samples - 2 * SPOKEN_SAMPLES) <= 4 * 240
    assert [text for text, _ in gateway.calls()] == ["Good morning to you.", "How are you?"]


@pytest.mark.parametrize(
    ("options", "status"), [({"voice": "nobody"}, 404), ({"model": "gpt-9"}, 404), ({"speed": 9.0}, 400)]
)
async def test_wrong_option_is_not_tried_again(gateway: Any, options: dict[str, Any], status: int) -> None:
    async with tts_of(gateway, **options) as tts:
        with pytest.raises(agents.APIStatusError) as caught:
            await heard(tts.synthesize("Hello."))
    assert caught.value.status_code == status and not caught.value.retryable and caught.value.request_id
    assert gateway.calls() == []


@pytest.mark.parametrize("options", [{}, {"model": "tts-1"}, {"response_format": "pcm"}], ids=str)
async def test_text_without_words_is_silent_and_no_error(gateway: Any, options: dict[str, Any]) -> None:
    async with tts_of(gateway, **options) as tts:
        samples = await heard(tts.synthesize("\N{THUMBS UP SIGN}", conn_options=ONCE))
    assert 1920 <= samples < 3 * 1920 and gateway.calls() == []


async def test_wrong_token_is_a_401(guarded: Any) -> None:
    async with openai.TTS(base_url=f"{guarded.url}/v1", api_key="sk-wrong") as tts:
        with pytest.raises(agents.APIStatusError) as caught:
            await heard(tts.synthesize("Hello."))
    assert caught.value.status_code == 401
    async with tts_of(guarded) as tts:
        assert await heard(tts.synthesize("Hello."))


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts"])
async def test_broken_stream_is_an_error(gateway: Any, model: str) -> None:
    gateway.tell("pause 8")
    gateway.tell("fail 8")
    async with tts_of(gateway, model=model, response_format="pcm") as tts:
        async with tts.synthesize("Hello.", conn_options=ONCE) as stream:
            await asyncio.wait_for(anext(stream), 20)
            gateway.tell("resume")
            with pytest.raises(agents.APIConnectionError):
                async for _ in stream:
                    pass
