"""Errors in OpenAI's shape, of requests that are refused: status, type and field."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.services.http.test_websocket import talking
from tests.support.cost.shared import SHARED
from tests.support.door.fake_door import FakeDoor, fake_door

SPEECH = "/v1/audio/speech"
pytestmark = SHARED


@pytest.fixture
def door(shared_door: FakeDoor) -> FakeDoor:
    """Requests that are refused leave it as it was."""
    return shared_door


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"input": ""}, "input", "there is nothing to say"),
        ({"input": "x" * 5000}, "input", "4096"),
        ({"input": 5}, "input", "valid string"),
        ({"speed": 9.0}, "speed", "is 9; it must be 0.25 to 4"),
        ({"speed": 0}, "speed", "is 0; it must be 0.25 to 4"),
        ({"max_audio_seconds": -1}, "max_audio_seconds", "is -1 s; it must be at least"),
        ({"max_audio_seconds": 1e12}, "max_audio_seconds", "is 1e+12; it must be less than"),
        ({"seed": 2**64 - 1}, "seed", "is 18446744073709551615; it must be less than"),
        ({"temperature": 5.0}, "temperature", "0 to 2"),
        ({"temperature": 1e39}, "temperature", "is 1e+39; it must be 0 to 2"),
        ({"temperature": -1e300}, "temperature", "is -1e+300; it must be 0 to 2"),
        ({"temperature": float("nan")}, "temperature", "is nan; it must be a finite number"),
        ({"temperature": True}, "temperature", "is true; it must be a valid number"),
        ({"speed": float("inf")}, "speed", "is inf; it must be a finite number"),
        ({"speed": 1e39}, "speed", "is 1e+39; it must be 0.25 to 4"),
        ({"seed": 1e3}, "seed", "is 1000.0; it must be a whole number, without a point"),
        ({"top_k": 1.5}, "top_k", "is 1.5; it must be a whole number"),
        ({"top_k": False}, "top_k", "is false; it must be a valid integer"),
        ({"top_k": 10**30}, "top_k", f"is {10**30}; it must be less than or equal to 2147483647"),
        ({"top_k": 0}, "top_k", "1"),
        ({"seed": -1}, "seed", "0"),
        ({"seed": 2**70}, "seed", "less than"),
        ({"sample_rate": 12345}, "sample_rate", "12345"),
        ({"response_format": "midi"}, "response_format", "midi"),
        ({"response_format": "opus", "sample_rate": 44100}, "sample_rate", "44100"),
        ({"max_audio_seconds": 1000.0}, "max_audio_seconds", "300"),
        ({"voice": {"name": "ada"}}, "voice", '{"id": name}'),
        ({"voice": 7}, "voice", "string"),
        ({"stream_format": "mp4"}, "stream_format", "audio"),
        ({"return_codes": True}, "return_codes", "sse"),
        ({"colour": "blue"}, "colour", "knows"),
        ({"response_format": "x" * 9000}, "response_format", "'; this server makes mp3, "),
        ({"context": ["Hello."]}, "context[0]", "context[0]: must be a JSON object."),
        ({"context": [{"speaker": 0}]}, "context[0].text", "missing"),
        ({"context": [{"text": "a"}, {"text": ""}]}, "context[1].text", ""),
        ({"context": [{"text": "a", "audio": "?"}]}, "context[0].audio", "base64"),
        ({"context": [{"text": "a", "audio": "AAAA"}]}, "context[0].audio", ""),
        ({"context": [{"text": "a", "codes": "AAAA"}]}, "context[0].codes", ""),
        ({"input": "\ud800"}, "input", ""),
    ],
)
async def test_wrong_field_is_named(
    door: FakeDoor, body: dict[str, Any], change: dict[str, Any], param: str, words: str
) -> None:
    answer = await door.client.post(
        SPEECH, content=json.dumps(body | change), headers={"content-type": "application/json"}
    )
    error = answer.json()["error"]
    assert answer.status_code == 400, error
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and error["param"] == param, error
    assert words in error["message"] and "audio_config" not in error["message"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"speed": 9.0}, "speed_out_of_range"),
        ({"max_audio_seconds": 1e9}, "audio_too_long"),
        ({"max_audio_seconds": -1.0}, "invalid_request"),
    ],
)
async def test_a_wrong_number_has_the_code_of_the_gateway_s_reason(
    door: FakeDoor, body: dict[str, Any], change: dict[str, Any], code: str
) -> None:
    assert (await door.client.post(SPEECH, json=body | change)).json()["error"]["code"] == code


async def test_a_long_unknown_model_name_does_not_hide_the_known_names(door: FakeDoor, body: dict[str, Any]) -> None:
    answer = await door.client.post(SPEECH, json=body | {"model": "x" * 9000})
    assert answer.status_code == 404 and "'; the models are csm, tts-1, " in answer.json()["error"]["message"]


async def test_a_token_in_a_message_may_be_as_long_as_one_in_a_header(door: FakeDoor) -> None:
    """Longer metadata breaks gRPC calls with an error that does not mention the token."""
    for length, kind in ((4096, "session.created"), (4097, "error")):
        async with talking(door) as talk:
            await talk.say(type="session.config", token="x" * length)
            answer = await talk.next()
            assert answer["type"] == kind
    assert answer["error"]["message"] == "token: has 4097 characters; at most 4096 are allowed."


async def test_a_number_of_too_many_digits_is_refused_by_name(door: FakeDoor) -> None:
    content = f'{{"input": "Hello.", "seed": {"9" * 5000}}}'
    answer = await door.client.post(SPEECH, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and "too many digits" in answer.json()["error"]["message"]


async def test_a_number_too_large_for_its_field_is_refused_at_the_websocket(door: FakeDoor) -> None:
    async with talking(door) as talk:
        await talk.say(type="session.config", temperature=1e39)
        error = (await talk.next())["error"]
        assert error["param"] == "temperature" and "is 1e+39; it must be 0 to 2" in error["message"]
        assert await talk.closed() == 1008


async def test_each_wrong_field_has_a_sentence_of_its_own(door: FakeDoor, body: dict[str, Any]) -> None:
    error = (await door.client.post(SPEECH, json=body | {"top_k": 0, "temperature": 5.0})).json()["error"]
    assert error["message"] == "temperature: is 5; it must be 0 to 2. top_k: is 0; it must be 1 to 2048."


async def test_missing_input_is_named(door: FakeDoor) -> None:
    error = (await door.client.post(SPEECH, json={"model": "tts-1"})).json()["error"]
    assert (error["param"], error["code"]) == ("input", "missing_required_parameter")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 10_000, b""])
async def test_body_that_is_no_json_object_is_a_wrong_request(door: FakeDoor, content: bytes) -> None:
    answer = await door.client.post(SPEECH, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["message"]


async def test_the_log_has_the_code_of_every_error(body: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The log has the reason under the request's id, even if the door itself refused it."""
    caplog.set_level("INFO", "csm.http")
    async with fake_door(max_streams=1, max_body_bytes=2000) as door:
        await door.client.post(SPEECH, json=body)
        for change in ({"voice": "nobody"}, {"speed": 9}, {"input": "x" * 3000}):
            await door.client.post(SPEECH, json=body | change)
        await door.client.get("/nowhere")
        async with talking(door, {}) as talk:
            await door.client.post(SPEECH, json=body)
            with pytest.raises(InvalidStatus):
                async with talking(door):
                    pass
            await talk.say(type="input.music")
            await talk.closed()
    async with asyncio.timeout(60):
        while len(ended := [each.__dict__["fields"] for each in caplog.records if each.msg == "request ended"]) < 8:
            await asyncio.sleep(0.01)
    assert [(each["status"], each["reason"]) for each in ended] == [
        ("200", ""),
        ("404", "voice_not_found"),
        ("400", "speed_out_of_range"),
        ("413", "body_too_large"),
        ("404", "not_found"),
        ("503", "too_many_streams"),
        ("503", "too_many_streams"),
        ("101", "invalid_value"),
    ]


async def test_broken_json_has_no_field(door: FakeDoor) -> None:
    answer = await door.client.post(SPEECH, content=b'{"input": hi}', headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert error["param"] is None and error["message"].startswith("The body is no JSON: ")


async def test_a_missing_body_is_named_as_missing(door: FakeDoor) -> None:
    error = (await door.client.post(SPEECH)).json()["error"]
    assert (error["message"], error["param"]) == ("The body is missing.", None)


async def test_json_of_another_content_type_is_refused_by_name(door: FakeDoor, body: dict[str, Any]) -> None:
    answer = await door.client.post(SPEECH, content=json.dumps(body), headers={"content-type": "text/plain"})
    assert answer.status_code == 400 and "Content-Type application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "change", [{"context": [{}] * 500}, {"response_format": "x" * 1_000_000}, {"x" * 1_000_000: 1}]
)
async def test_a_message_with_a_long_value_is_short(
    door: FakeDoor, body: dict[str, Any], change: dict[str, Any]
) -> None:
    answer = await door.client.post(SPEECH, json=body | change)
    assert answer.status_code == 400 and len(answer.content) < 5000
    if "context" in change:
        assert "context[19].text: is missing." in answer.text and "and 480 more." in answer.text
    if "response_format" not in change:
        assert len(answer.json()["error"]["param"]) <= 100


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"voice": "nobody"}, "voice", "voice_not_found"),
        ({"language": "tlh"}, "language", "voice_not_found"),
        ({"model": "gpt-9"}, "model", "model_not_found"),
    ],
)
async def test_unknown_name_is_not_found(
    door: FakeDoor, body: dict[str, Any], change: dict[str, Any], param: str, code: str
) -> None:
    answer = await door.client.post(SPEECH, json=body | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (404, param, code)


async def test_unknown_address_and_method_have_openai_s_error_shape(door: FakeDoor) -> None:
    unknown, wrong = await door.client.get("/v2"), await door.client.get(SPEECH)
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert wrong.headers["allow"] == "POST"
    assert (await door.client.post(SPEECH + "/", json={})).status_code == 404  # and no redirect
    assert unknown.json()["error"]["code"] == "not_found" and wrong.json()["error"]["code"] == "method_not_allowed"


async def test_a_message_that_is_too_large_for_the_gateway_is_413(body: dict[str, Any]) -> None:
    """gRPC's own refusal has a quota's status, but a retry would not help."""
    async with fake_door({"max_receive_message_bytes": 100_000}) as door:
        context = [{"text": "Hi.", "audio": base64.b64encode(bytes(200_000)).decode()}]
        answer = await door.client.post(SPEECH, json=body | {"context": context})
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")
    assert "retry-after" not in answer.headers


async def test_websocket_at_an_unknown_address_is_a_404_too(door: FakeDoor) -> None:
    """OpenAI's clients may connect to /v1/realtime, which does not exist here."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{door.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime"):
            pass
    answer = refused.value.response
    assert answer.status_code == 404 and json.loads(answer.body)["error"]["code"] == "not_found"
