"""Pipecat's own service for OpenAI against the HTTP door, in a pipeline. Run by `make test-plugins`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

frames = pytest.importorskip("pipecat.frames.frames")

from pipecat.services.openai.tts import OpenAITTSService  # noqa: E402
from pipecat.tests.utils import SleepFrame, run_test  # noqa: E402

SPOKEN_BYTES, SILENT_BYTES = 10 * 2 * 1920, 2 * 1920


def reply(*tokens: str) -> list[Any]:
    """What a language model's service pushes."""
    return [
        frames.LLMFullResponseStartFrame(),
        *(frames.LLMTextFrame(token) for token in tokens),
        frames.LLMFullResponseEndFrame(),
    ]


async def run(gateway: Any, sent: Sequence[Any], key: str = "sk-any", **settings: Any) -> tuple[list[Any], list[str]]:
    """The frames of audio, and the errors."""
    service = OpenAITTSService(
        api_key=key, base_url=f"{gateway.url}/v1", settings=OpenAITTSService.Settings(**settings)
    )
    down, up = await asyncio.wait_for(run_test(service, frames_to_send=sent, start_timeout=20), 60)
    audio = [frame for frame in down if isinstance(frame, frames.TTSAudioRawFrame)]
    return audio, [frame.error for frame in up if isinstance(frame, frames.ErrorFrame)]


async def test_sentences_become_frames_of_24_khz(gateway: Any) -> None:
    sent = reply("Good ", "morning. ", "How ", "are ", "you?")
    audio, errors = await run(gateway, sent, voice="nova", speed=1.5, instructions="Calm.")
    assert sum(len(frame.audio) for frame in audio) == 2 * SPOKEN_BYTES and not errors
    assert {(frame.sample_rate, frame.num_channels) for frame in audio} == {(24_000, 1)}
    assert gateway.calls() == [("Good morning.", "ended"), ("How are you?", "ended")]


async def test_interruption_ends_the_call_at_the_engine(gateway: Any) -> None:
    gateway.tell("pause 8")
    sent = [*reply("Good morning. ", "How ")[:-1], SleepFrame(sleep=2.0), frames.InterruptionFrame()]
    audio, _ = await run(gateway, sent)
    assert 0 < sum(len(frame.audio) for frame in audio) < SPOKEN_BYTES
    assert gateway.wait_until_ended() == [("Good morning.", "ended CancelledError")]


@pytest.mark.parametrize(
    ("settings", "why"), [({"model": "gpt-9"}, "model: is 'gpt-9'"), ({"speed": 9.0}, "speed: is 9")]
)
async def test_wrong_setting_is_an_error_that_names_it(gateway: Any, settings: dict[str, Any], why: str) -> None:
    audio, errors = await run(gateway, reply("Hello."), **settings)
    assert not audio and why in errors[0]


async def test_turn_without_words_is_silent_and_the_next_one_is_spoken(gateway: Any) -> None:
    sent = [*reply("\N{PARTY POPPER}"), SleepFrame(sleep=1.0), *reply("Hello.")]
    audio, errors = await run(gateway, sent)
    assert not errors
    assert sum(len(frame.audio) for frame in audio) == SILENT_BYTES + SPOKEN_BYTES


async def test_broken_stream_is_an_error(gateway: Any) -> None:
    gateway.tell("pause 8")
    gateway.tell("fail 8")
    asyncio.get_running_loop().call_later(2.0, lambda: gateway.tell("resume"))
    audio, errors = await run(gateway, reply("Hello."))
    assert 0 < sum(len(frame.audio) for frame in audio) < SPOKEN_BYTES and errors


async def test_wrong_token_is_an_error(guarded: Any) -> None:
    audio, errors = await run(guarded, reply("Hello."), key="sk-wrong")
    assert not audio and "401" in errors[0]
    audio, errors = await run(guarded, reply("Hello."), key=guarded.token)
    assert audio and not errors
