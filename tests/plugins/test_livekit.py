"""The plugin of LiveKit Agents over its real base classes, against a real gateway. Run by `make test-plugins`."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

agents = pytest.importorskip("livekit.agents")

from csm_client.plugins.livekit import TTS  # noqa: E402

FRAME_SAMPLES = 1920
SENTENCE_SAMPLES = 10 * FRAME_SAMPLES
MARKER_SAMPLES = 240  # of silence, which LiveKit may put at the end of a segment


async def heard(stream: Any) -> tuple[int, set[tuple[int, int]]]:
    """Samples, and the formats of their frames."""
    samples, formats = 0, set()
    async for event in stream:
        samples += event.frame.samples_per_channel
        formats.add((event.frame.sample_rate, event.frame.num_channels))
    return samples, formats


async def test_a_whole_text_becomes_frames_of_24_khz(gateway: Any) -> None:
    async with TTS(gateway.target, voice="bo", seed=3) as tts:
        assert isinstance(tts, agents.tts.TTS) and tts.capabilities.streaming and tts.sample_rate == 24_000
        async with tts.synthesize("Hello.") as stream:
            samples, formats = await heard(stream)
            assert samples - SENTENCE_SAMPLES in (0, MARKER_SAMPLES) and formats == {(24_000, 1)}
    assert gateway.calls() == [("Hello.", "ended")]


async def test_first_sentence_sounds_before_the_text_is_whole(gateway: Any) -> None:
    async with TTS(gateway.target) as tts, tts.stream() as stream:
        for token in ("Good ", "morning. ", "How "):
            stream.push_text(token)
        first = await asyncio.wait_for(anext(stream), 20)  # before the rest is pushed
        stream.push_text("are you?")
        stream.end_input()
        rest, formats = await heard(stream)
        samples = first.frame.samples_per_channel + rest
        assert samples - 2 * SENTENCE_SAMPLES in (0, MARKER_SAMPLES) and formats == {(24_000, 1)}
    assert [text for text, _ in gateway.calls()] == ["Good morning.", "How are you?"]


async def test_interruption_ends_the_call_at_the_server(gateway: Any) -> None:
    gateway.tell("pause 5")
    async with TTS(gateway.target) as tts:
        stream = tts.stream()
        stream.push_text("Good morning. How ")  # the beginning of a sentence ends the one before
        await asyncio.wait_for(anext(stream), 20)
        assert gateway.calls() == [("Good morning.", "open")]
        await stream.aclose()
        ((text, state),) = await asyncio.to_thread(gateway.wait_until_ended)
        assert text == "Good morning." and state != "ended"


async def test_speech_that_loses_its_gateway_goes_on_with_the_same_samples(gateway: Any) -> None:
    gateway.tell("pause 5")
    async with TTS(gateway.target) as tts, tts.stream() as stream:
        stream.push_text("Good morning.")
        stream.end_input()
        frames = [(await asyncio.wait_for(anext(stream), 20)).frame]
        gateway.tell("cut")
        gateway.tell("resume")
        frames += [event.frame async for event in stream]
    samples = b"".join(bytes(frame.data) for frame in frames)[: 2 * SENTENCE_SAMPLES]
    assert samples == b"".join(struct.pack("<h", number) * FRAME_SAMPLES for number in range(10))
    assert [text for text, _ in gateway.calls()] == ["Good morning."] * 2


async def test_a_stream_without_text_makes_no_call(gateway: Any) -> None:
    async with TTS(gateway.target) as tts, tts.stream() as stream:
        stream.end_input()
        assert await heard(stream) == (0, set())
    assert gateway.calls() == []


@pytest.mark.parametrize("text", ["\N{PARTY POPPER}", "?!"])
@pytest.mark.parametrize("is_fallback", [False, True])
async def test_text_without_words_is_the_shortest_silence_and_no_error(
    gateway: Any, text: str, is_fallback: bool
) -> None:
    """LiveKit takes a text without any audio for a failure."""
    async with TTS(gateway.target) as tts:
        errors: list[Any] = []
        tts.on("error", errors.append)
        speaks = agents.tts.FallbackAdapter([tts], max_retry_per_tts=0) if is_fallback else tts
        async with speaks.synthesize(text) as whole:
            await assert_silent(whole)
        async with speaks.stream() as stream:
            stream.push_text(text)
            stream.end_input()
            await assert_silent(stream)
        assert not errors and gateway.calls() == []


async def assert_silent(stream: Any) -> None:
    frames = [event.frame async for event in stream]
    assert 0 < sum(frame.samples_per_channel for frame in frames) <= 2 * MARKER_SAMPLES
    assert not any(any(bytes(frame.data)) for frame in frames)


async def test_wrong_option_is_refused_once_and_names_the_field(gateway: Any) -> None:
    async with TTS(gateway.target, voice="nobody") as tts, tts.synthesize("Hello.") as stream:
        with pytest.raises(agents.APIStatusError) as caught:
            await heard(stream)
    assert not caught.value.retryable and caught.value.status_code in (400, 404) and "nobody" in str(caught.value)
    assert caught.value.request_id


async def test_an_unreachable_server_is_a_retryable_error() -> None:
    options = agents.APIConnectOptions(max_retry=1, retry_interval=0.1)
    async with TTS("127.0.0.1:1") as tts:
        seen: list[Any] = []
        tts.on("error", lambda error: seen.append(error.recoverable))
        async with tts.synthesize("Hello.", conn_options=options) as stream:
            with pytest.raises(agents.APIConnectionError):
                await heard(stream)
        assert seen == [True, False]


async def test_deadline_is_a_timeout(gateway: Any) -> None:
    gateway.tell("pause 0")
    options = agents.APIConnectOptions(max_retry=0)
    async with TTS(gateway.target, timeout_s=1) as tts, tts.synthesize("Hello.", conn_options=options) as stream:
        with pytest.raises(agents.APITimeoutError):
            await heard(stream)


def test_encoding_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="PCM at 24 kHz"):
        TTS("127.0.0.1:1", encoding="opus")
