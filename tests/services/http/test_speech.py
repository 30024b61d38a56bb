"""POST /v1/audio/speech: formats, streaming, what goes on to the gateway, what comes back."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import Any

import av
import httpx
import pytest
from csm.rvq.v1 import rvq_pb2
from csm_client import AsyncClient
from csm_client.tables.encodings import ENCODINGS

from services.gateway.audio.wav import wav_header
from services.gateway.stages.conversations import conversation_key
from services.http.api.formats import CONTENT_TYPES
from tests.services.http.test_websocket import talking
from tests.support.clock import Clock
from tests.support.cost.shared import SHARED
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_stages import fake_frames, numbered_audio

SPEECH = "/v1/audio/speech"
STARTS = {"wav": b"RIFF", "opus": b"OggS", "flac": b"fLaC"}


def test_every_format_of_the_client_has_a_content_type() -> None:
    assert set(ENCODINGS) <= set(CONTENT_TYPES)


@pytest.mark.parametrize("response_format", [name for name in CONTENT_TYPES if name in ENCODINGS])
@SHARED
async def test_every_format_is_streamed(shared_door: FakeDoor, body: dict[str, Any], response_format: str) -> None:
    answer = await shared_door.client.post(SPEECH, json=body | {"response_format": response_format})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == CONTENT_TYPES[response_format]
    assert answer.headers["transfer-encoding"] == "chunked" and answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"  # else nginx keeps audio back
    assert answer.content.startswith(STARTS.get(response_format, b""))
    if response_format == "pcm":
        assert answer.content == numbered_audio(range(10))


async def test_first_audio_comes_before_the_last_frame_is_made(door: FakeDoor, body: dict[str, Any]) -> None:
    script = door.behind.engine.script
    script.pause_at = 5
    async with door.client.stream("POST", SPEECH, json=body) as answer:
        pieces = answer.aiter_raw()
        first = await anext(pieces)
        assert first == numbered_audio(range(10))[: len(first)]
        assert not script.resume.is_set()
        script.resume.set()
        rest = b"".join([piece async for piece in pieces])
    assert first + rest == numbered_audio(range(10))


async def test_a_paragraph_is_spoken_by_sentence(door: FakeDoor, body: dict[str, Any]) -> None:
    """Each sentence has the earlier ones as context; the usage and the codes are of all sentences."""
    door.behind.engine.frame_count = 4
    text = "One is first. Two is next! Is three last?"
    more = {"input": text, "seed": 7, "stream_format": "sse", "return_codes": True}
    async with door.client.stream("POST", SPEECH, json=body | more) as answer:
        *deltas, done = await events(answer)
    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert len(audio) == 3 * len(numbered_audio(range(4)))
    requests = [call.request for call in door.behind.engine.calls]
    said = ["One is first.", "Two is next!", "Is three last?"]
    assert [[segment.text for segment in request.segments] for request in requests] == [said[:1], said[:2], said]
    assert [request.sampling_params.seed for request in requests] == [7, 8, 9]
    assert done["usage"]["output_tokens"] == 12 and done["seed"] == 7
    async with AsyncClient(door.behind.target) as client:
        speech = await client.stream_synthesize_text(text, seed=7, return_codes=True).read_all()
    assert isinstance(speech.codes, rvq_pb2.CodeFrames)
    assert speech.samples == audio and speech.codes.SerializeToString() == base64.b64decode(done["codes"])
    door.behind.engine.calls.clear()
    at_once = await door.client.post(SPEECH, json=body | {"input": text, "as_one_utterance": True})
    assert len(at_once.content) == len(numbered_audio(range(4)))
    (request,) = [call.request for call in door.behind.engine.calls]
    assert request.segments[-1].text == text


async def test_the_longest_text_of_openai_s_api_is_spoken_to_its_end(door: FakeDoor, body: dict[str, Any]) -> None:
    """The gateway's tests say it of audio as long as the text's; the door knows no length of it."""
    text = ("The ferry had left the harbour long before the rain began to fall on the roofs. " * 60)[:4096]
    door.behind.engine.frame_count = 5
    more = {"input": text, "response_format": "mulaw", "sample_rate": 8000, "stream_format": "sse"}
    async with door.client.stream("POST", SPEECH, json=body | more) as answer:
        done = (await events(answer))[-1]
    assert done["finish_reason"] == "end_of_speech" and done["audio_seconds"] == pytest.approx(52 * 5 * 0.08)


@pytest.mark.parametrize("response_format", CONTENT_TYPES)
@SHARED
async def test_a_text_without_words_is_a_short_silence_in_every_format(
    shared_door: FakeDoor, body: dict[str, Any], response_format: str
) -> None:
    """A language model may answer with only an emoji. An error would end its agent's turn."""
    more = {"input": "\N{THUMBS UP SIGN}", "response_format": response_format, "seed": 7, "return_codes": True}
    plain = await shared_door.client.post(SPEECH, json=body | more | {"return_codes": False})
    assert plain.status_code == 200 and plain.headers["x-seed"] == "7"
    assert plain.headers["content-type"] == CONTENT_TYPES[response_format]
    if response_format not in ("pcm", "mulaw", "alaw"):  # which are no files
        with av.open(io.BytesIO(plain.content), "r") as file:
            seconds = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
        assert 0.079 < seconds < 0.25  # MP3 and AAC have a beginning and an end of their own
    async with shared_door.client.stream("POST", SPEECH, json=body | more | {"stream_format": "sse"}) as answer:
        *deltas, done = await events(answer)
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == plain.content
    assert done["finish_reason"] == "end_of_speech" and done["audio_seconds"] == 0.08 and "codes" not in done
    assert done["watermark"] == {"scheme": "", "key_id": ""}
    assert not shared_door.behind.engine.calls


@SHARED
async def test_every_option_reaches_the_engine(shared_door: FakeDoor, body: dict[str, Any]) -> None:
    more = {"voice": {"id": "bo"}, "seed": 7, "temperature": 0.5, "top_k": 3, "max_audio_seconds": 0.24, "speaker": 4}
    answer = await shared_door.client.post(SPEECH, json=body | more)
    assert answer.content == numbered_audio(range(3))
    request = shared_door.behind.engine.calls[0].request
    assert request.sampling_params.seed == 7 and request.sampling_params.top_k == 3
    assert request.sampling_params.temperature == 0.5
    assert request.segments[-1].speaker_id == 4
    assert answer.headers["x-seed"] == "7" and answer.headers["x-sample-rate"] == "24000"


async def test_the_conversation_s_id_reaches_the_gateway(door: FakeDoor, body: dict[str, Any]) -> None:
    """So all turns go to one engine, whatever their context."""
    answer = await door.client.post(SPEECH, json=body | {"conversation_id": "call 17"})
    assert answer.status_code == 200
    async with talking(door, {"conversation_id": "call 17"}) as talk:
        await talk.say(type="input.text", text="Hello.")
        await talk.say(type="input.done")
        await talk.until("session.done")
    keys = [call.metadata["csm-conversation"] for call in door.behind.engine.calls]
    assert keys == [conversation_key("", "call 17", [])] * 2
    answer = await door.client.post(SPEECH, json=body | {"conversation_id": 129 * "x"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "conversation_id")
    assert error["message"] == "conversation_id: has 129 characters; at most 128 are allowed."


@SHARED
async def test_speed_reaches_the_codec(shared_door: FakeDoor, body: dict[str, Any]) -> None:
    await shared_door.client.post(SPEECH, json=body | {"speed": 2.0})
    assert shared_door.behind.codec.calls[0].request.speed == 2.0


@SHARED
async def test_a_header_names_the_used_voice(shared_door: FakeDoor, body: dict[str, Any]) -> None:
    named = await shared_door.client.post(SPEECH, json=body | {"voice": "bo"})
    aliased = await shared_door.client.post(SPEECH, json=body | {"voice": "shimmer"})
    assert (named.headers["x-voice"], aliased.headers["x-voice"]) == ("bo", "ada")
    assert named.headers["x-model-version"] == "fake/1"


@SHARED
async def test_instructions_are_answered_as_ignored(shared_door: FakeDoor, body: dict[str, Any]) -> None:
    plain = await shared_door.client.post(SPEECH, json=body)
    told = await shared_door.client.post(SPEECH, json=body | {"instructions": "Whisper."})
    assert "x-ignored-parameters" not in plain.headers
    assert told.status_code == 200 and told.headers["x-ignored-parameters"] == "instructions"


@SHARED
async def test_request_id_and_trace_reach_the_gateway(shared_door: FakeDoor, body: dict[str, Any]) -> None:
    own = "11111111-2222-4333-8444-555555555555"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await shared_door.client.post(SPEECH, json=body, headers={"x-request-id": own, "traceparent": trace})
    assert answer.headers["x-request-id"] == own
    assert shared_door.behind.engine.calls[0].metadata["x-request-id"] == own
    wav = wav_header(24_000, None) + bytes(9600)
    await shared_door.client.post("/v1/audio/watermark", content=wav, headers={"x-request-id": own})
    assert shared_door.behind.codec.searches[0].metadata["x-request-id"] == own


@SHARED
async def test_deadline_header_shortens_the_deadline(shared_door: FakeDoor, body: dict[str, Any]) -> None:
    header = {"x-timeout-seconds": "5"}
    await shared_door.client.post(SPEECH, json=body, headers=header)
    wav = wav_header(24_000, None) + bytes(9600)
    await shared_door.client.post("/v1/audio/watermark", content=wav, headers=header)
    async with talking(shared_door, {}, additional_headers=header) as talk:
        await talk.say(type="input.text", text="Hello.")
        await talk.say(type="input.done")
        await talk.until("session.done")
    calls = [*shared_door.behind.engine.calls, *shared_door.behind.codec.searches]
    assert len(calls) == 3
    for call in calls:
        assert call.remaining_s is not None and call.remaining_s <= 5.5  # gRPC rounds it up on its way


async def test_deadline_header_does_not_lengthen_the_deadline(body: dict[str, Any]) -> None:
    async with fake_door(deadline_seconds=5) as door:
        await door.client.post(SPEECH, json=body, headers={"x-timeout-seconds": "100"})
        remaining_s = door.behind.engine.calls[0].remaining_s
        assert remaining_s is not None and remaining_s <= 5.5  # gRPC rounds it up on its way


async def test_the_deadline_is_that_of_all_calls_for_a_request(
    clock: Clock, door: FakeDoor, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, list_voices, timeouts_s = AsyncClient.server_info, AsyncClient.list_voices, list[float]()

    async def slow(client: AsyncClient) -> Any:
        timeouts_s.append(client._timeout_s)
        clock.put_forward(10)
        return await asked(client)

    async def slow_list(client: AsyncClient, language: str) -> Any:
        clock.put_forward(10)
        return await list_voices(client, language)

    monkeypatch.setattr(AsyncClient, "server_info", slow)
    monkeypatch.setattr(AsyncClient, "list_voices", slow_list)
    model = (await door.client.get("/v1/models")).json()["data"][0]["id"]
    own, header = body | {"model": model}, {"x-timeout-seconds": "50"}
    assert (await door.client.post(SPEECH, json=own, headers=header)).status_code == 200
    remaining_s = door.behind.engine.calls[0].remaining_s
    assert remaining_s is not None and remaining_s <= 41
    await door.client.get("/v1/audio/voices", headers=header)
    assert timeouts_s[-1] <= 40


async def test_context_is_recordings_and_codes(door: FakeDoor, body: dict[str, Any]) -> None:
    wav = (await door.client.post(SPEECH, json=body | {"response_format": "wav"})).content
    codes = fake_frames(0, 3).SerializeToString()
    context = [
        {"speaker": 1, "text": "One.", "audio": base64.b64encode(wav).decode()},
        {"speaker": 0, "text": "Two.", "codes": base64.b64encode(codes).decode()},
        {"text": "Three."},
    ]
    answer = await door.client.post(SPEECH, json=body | {"context": context})
    assert answer.status_code == 200, answer.text
    segments = door.behind.engine.calls[-1].request.segments
    assert [segment.text for segment in segments[:3]] == ["One.", "Two.", "Three."]


async def events(answer: httpx.Response) -> list[dict[str, Any]]:
    found = []
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
    return found


async def test_events_hold_the_audio_and_end_with_done(door: FakeDoor, body: dict[str, Any]) -> None:
    more = {"stream_format": "sse", "return_codes": True, "seed": 3}
    async with door.client.stream("POST", SPEECH, json=body | more) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = await events(answer)
    *deltas, done = found
    assert len(deltas) > 1 and {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == numbered_audio(range(10))
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {"input_tokens": 5, "output_tokens": 10, "total_tokens": 15}
    assert done["seed"] == 3 and done["finish_reason"] == "end_of_speech"
    codes = base64.b64decode(done["codes"])
    context = [{"text": "Before.", "codes": base64.b64encode(codes).decode()}]
    assert (await door.client.post(SPEECH, json=body | {"context": context})).status_code == 200


async def test_a_returned_paragraph_is_context_sentence_by_sentence(door: FakeDoor, body: dict[str, Any]) -> None:
    text = "One is first. Two is next!"
    more = {"input": text, "stream_format": "sse", "return_codes": True}
    async with door.client.stream("POST", SPEECH, json=body | more) as answer:
        codes = (await events(answer))[-1]["codes"]
    door.behind.engine.calls.clear()
    await door.client.post(SPEECH, json=body | {"context": [{"text": text, "codes": codes}]})
    segments = door.behind.engine.calls[0].request.segments
    assert [segment.text for segment in segments[:-1]] == ["One is first.", "Two is next!"]
    assert all(segment.codes == fake_frames(0, 10) for segment in segments[:-1])


async def test_codes_of_very_many_utterances_are_refused_unread(door: FakeDoor, body: dict[str, Any]) -> None:
    codes = base64.b64encode(rvq_pb2.CodeFrames(utterances=[rvq_pb2.Utterance()] * 30_000).SerializeToString())
    answer = await door.client.post(SPEECH, json=body | {"context": [{"text": "Hi.", "codes": codes.decode()}]})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "context[0].codes"


async def test_utterance_without_audio_is_an_empty_success(door: FakeDoor, body: dict[str, Any]) -> None:
    door.behind.engine.frame_count = 0
    answer = await door.client.post(SPEECH, json=body)
    assert (answer.status_code, answer.content) == (200, b"")
    metrics = (await door.client.get("/metrics")).text
    assert "http_first_audio_seconds_count 0.0" in metrics


async def test_many_streams_at_once_do_not_mix(door: FakeDoor, body: dict[str, Any]) -> None:
    answers = await asyncio.gather(*(door.client.post(SPEECH, json=body) for _ in range(20)))
    assert {answer.content for answer in answers} == {numbered_audio(range(10))}
