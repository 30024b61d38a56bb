"""OpenAI's own Python client against the door: it cannot tell it from OpenAI's."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from csm_client.tables.encodings import ENCODINGS

from tests.support.clock import Clock
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_stages import numbered_audio
from tests.support.waits import eventually, settle

if TYPE_CHECKING:
    from openai import AsyncOpenAI

SPEECH: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "coral", "input": "Hello.", "response_format": "pcm"}
FORMATS = [name for name in ("mp3", "opus", "aac", "flac", "wav", "pcm") if name in ENCODINGS]


def openai_client(door: FakeDoor, **options: Any) -> AsyncOpenAI:
    """As it is, but for the system's certificates: reading them takes longer than most tests do."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # takes a second

    usual: dict[str, Any] = {"api_key": "sk-any", "max_retries": 0, "timeout": 30}
    return AsyncOpenAI(base_url=f"{door.url}/v1", http_client=DefaultAsyncHttpxClient(verify=False), **usual | options)


@pytest.fixture
async def client(door: FakeDoor) -> AsyncIterator[AsyncOpenAI]:
    async with openai_client(door) as opened:
        yield opened


async def test_an_answer_of_an_emoji_alone_is_a_silence_and_no_error(client: AsyncOpenAI) -> None:
    import openai  # takes a second

    answer = await client.audio.speech.create(**SPEECH | {"input": "\N{THUMBS UP SIGN}"})
    assert answer.content == bytes(2 * 1920)
    with pytest.raises(openai.BadRequestError) as caught:  # as OpenAI refuses a text that is not there
        await client.audio.speech.create(**SPEECH | {"input": ""})
    assert (caught.value.param, caught.value.code) == ("input", "text_empty")


@pytest.mark.parametrize("response_format", FORMATS)
async def test_every_format_comes_whole(client: AsyncOpenAI, response_format: str) -> None:
    answer = await client.audio.speech.create(**SPEECH | {"response_format": response_format})
    assert len(answer.content) > 100
    if response_format == "pcm":
        assert answer.content == numbered_audio(range(10))


async def test_the_openai_client_streams_audio(client: AsyncOpenAI, door: FakeDoor) -> None:
    script = door.behind.engine.script
    script.pause_at = 5
    async with client.audio.speech.with_streaming_response.create(**SPEECH) as answer:
        pieces = answer.iter_bytes(1024)
        found = await anext(pieces)
        script.resume.set()
        found += b"".join([piece async for piece in pieces])
    assert found == numbered_audio(range(10))


async def test_the_openai_client_streams_events(client: AsyncOpenAI) -> None:
    async with client.audio.speech.with_streaming_response.create(**SPEECH, stream_format="sse") as answer:
        lines = [line async for line in answer.iter_lines()]
    assert sum("speech.audio.delta" in line for line in lines) > 1 and "speech.audio.done" in lines[-2]


async def test_more_than_openai_has_goes_in_the_body(client: AsyncOpenAI, door: FakeDoor) -> None:
    context = [{"speaker": 1, "text": "Hi."}]
    await client.audio.speech.create(**SPEECH, extra_body={"seed": 9, "context": context})
    request = door.behind.engine.calls[0].request
    assert request.sampling_params.seed == 9 and request.segments[0].text == "Hi."


async def test_voice_may_be_an_object(client: AsyncOpenAI) -> None:
    answer = await client.audio.speech.with_raw_response.create(**SPEECH | {"voice": {"id": "bo"}})
    assert answer.headers["x-voice"] == "bo" and answer.headers["x-request-id"]


async def test_errors_of_the_openai_client_are_typed_and_name_the_field(client: AsyncOpenAI) -> None:
    import openai  # takes a second

    with pytest.raises(openai.BadRequestError) as wrong:
        await client.audio.speech.create(**SPEECH | {"input": ""})
    assert (wrong.value.param, wrong.value.type) == ("input", "invalid_request_error")
    assert wrong.value.request_id
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.audio.speech.create(**SPEECH | {"voice": "nobody"})
    assert (unknown.value.param, unknown.value.code) == ("voice", "voice_not_found")


async def test_the_openai_client_raises_for_a_broken_stream(client: AsyncOpenAI, door: FakeDoor) -> None:
    script = door.behind.engine.script
    script.pause_at = script.fail_at = 5
    with pytest.raises(Exception, match="(?i)incomplete|peer closed"):
        async with client.audio.speech.with_streaming_response.create(**SPEECH) as answer:
            async for _ in answer.iter_bytes(1024):
                script.resume.set()


async def test_the_openai_client_retries_a_full_server(door: FakeDoor) -> None:
    import openai  # takes a second

    door.stage.door.streams._most = 0
    async with openai_client(door) as impatient:
        with pytest.raises(openai.InternalServerError) as refused:
            await impatient.audio.speech.create(**SPEECH)
    assert refused.value.status_code == 503 and refused.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("code", [429, 503])
async def test_a_refused_call_of_the_openai_client_comes_whole_once_there_is_room(
    tmp_path: Path, clock: Clock, code: int
) -> None:
    """By the client's own retry. The refusal has taken no place and has begun no work."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([{"name": "ann", "sha256": hashlib.sha256(b"sesame").hexdigest()}]))
    gateway: dict[str, Any] = {"auth_tokens_file": tokens, "max_streams_per_caller": 1} if code == 429 else {}
    async with fake_door(gateway, max_streams=1 if code == 503 else 8) as door:
        script, calls = door.behind.engine.script, door.behind.engine.calls
        script.pause_at = 3
        async with openai_client(door, api_key="sesame", max_retries=1) as client:
            first = asyncio.create_task(client.audio.speech.create(**SPEECH))
            await script.paused.wait()
            second = asyncio.create_task(client.audio.speech.create(**SPEECH))
            await eventually(lambda: answers(door, code) == 1)
            assert len(calls) == door.stage.door.streams.count == 1
            script.resume.set()
            assert (await first).content == numbered_audio(range(10))
            await eventually(lambda: not door.stage.door.streams.count)
            await settle()
            assert len(calls) == 1
            clock.put_forward(2)
            assert (await second).content == numbered_audio(range(10))
        assert (len(calls), answers(door, code), answers(door, 200)) == (2, 1, 2)


def answers(door: FakeDoor, status: int) -> float:
    """Number of answers to requests for speech with that status."""
    labels = {"route": "/v1/audio/speech", "method": "POST", "status": str(status)}
    return door.stage.door.metrics.registry.get_sample_value("http_requests_total", labels) or 0


async def test_the_openai_client_lists_models(client: AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert "fake/1" in names and (await client.models.retrieve("tts-1")).id == "tts-1"
