"""LiteLLM's speech against the HTTP door. Run by `make test-plugins`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks GitHub for prices when it is imported
litellm: Any = pytest.importorskip("litellm")

SPOKEN_BYTES = 10 * 2 * 1920


def asked(gateway: Any, **changed: Any) -> dict[str, Any]:
    """The arguments of a call."""
    right = {"model": "openai/tts-1", "voice": "alloy", "input": "Hello.", "response_format": "pcm", "max_retries": 0}
    return right | {"api_base": f"{gateway.url}/v1", "api_key": gateway.token or "sk-any"} | changed


@pytest.mark.parametrize("response_format", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
async def test_every_format_comes_whole(gateway: Any, response_format: str) -> None:
    answer = await litellm.aspeech(**asked(gateway, response_format=response_format))
    assert len(answer.content) > 500
    assert response_format != "pcm" or len(answer.content) == SPOKEN_BYTES


async def test_a_blocking_call_reports_ignored_options(gateway: Any) -> None:
    more = {"speed": 1.5, "instructions": "Cheerful.", "user": "ann", "metadata": {"a": 1}}
    answer = await asyncio.to_thread(litellm.speech, **asked(gateway, **more))
    assert answer.response.headers["x-ignored-parameters"] == "instructions"
    assert len(answer.content) == SPOKEN_BYTES


async def test_errors_of_litellm_are_typed(gateway: Any) -> None:
    with pytest.raises(litellm.NotFoundError, match="voice: is 'nobody'"):
        await litellm.aspeech(**asked(gateway, voice="nobody"))
    with pytest.raises(litellm.NotFoundError, match="model: is 'gpt-9'"):
        await litellm.aspeech(**asked(gateway, model="openai/gpt-9"))
    with pytest.raises(litellm.BadRequestError, match="speed: is 9"):
        await litellm.aspeech(**asked(gateway, speed=9))
    with pytest.raises(litellm.BadRequestError, match="input: is empty"):
        await litellm.aspeech(**asked(gateway, input=""))


async def test_wrong_token_is_an_authentication_error(guarded: Any) -> None:
    with pytest.raises(litellm.AuthenticationError):
        await litellm.aspeech(**asked(guarded, api_key="sk-wrong"))
    assert len((await litellm.aspeech(**asked(guarded))).content) == SPOKEN_BYTES


async def test_broken_answer_is_an_error(gateway: Any) -> None:
    gateway.tell("pause 5")
    gateway.tell("fail 5")
    asking = asyncio.create_task(litellm.aspeech(**asked(gateway)))
    await asyncio.to_thread(gateway.wait_until_begun)
    gateway.tell("resume")
    with pytest.raises(litellm.APIConnectionError):
        await asking


async def test_cancelled_call_ends_at_the_engine(gateway: Any) -> None:
    gateway.tell("pause 5")
    asking = asyncio.create_task(litellm.aspeech(**asked(gateway)))
    await asyncio.to_thread(gateway.wait_until_called)
    asking.cancel()
    assert await asyncio.to_thread(gateway.wait_until_ended) == [("Hello.", "ended CancelledError")]


def test_models_are_listed_to_it(gateway: Any) -> None:
    found = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_key="sk-any", api_base=gateway.url
    )
    assert {"fake/1", "tts-1"} <= set(found)
