"""Voices, models, the watermark's detection, probes, metrics, and the document that describes them all."""

from __future__ import annotations

import tempfile
import threading
from typing import Any

import pytest
from csm.codec.v1 import codec_pb2
from fastapi.routing import APIRoute
from google.protobuf import duration_pb2

from services.http.app import routes_of
from services.http.endpoints import catalog
from tests.support.cost.shared import SHARED
from tests.support.door.fake_door import FakeDoor, fake_door, left_in_search
from tests.support.wav import wav_of

SPEECH, WATERMARK = "/v1/audio/speech", "/v1/audio/watermark"


async def test_voices_have_their_aliases() -> None:
    async with fake_door(voice_aliases="nova=bo, anchor=bo") as door:
        answer = (await door.client.get("/v1/audio/voices")).json()
        assert answer["voices"] == ["ada", "bo"]
        ada, bo = answer["data"]
        assert bo["aliases"] == ["nova", "anchor"] and "alloy" in ada["aliases"] and "nova" not in ada["aliases"]
        assert bo["languages"] == ["en", "de"] and ada["description"] == "the first"
        german = (await door.client.get("/v1/audio/voices", params={"language": "de"})).json()
        assert german["voices"] == ["bo"]
        for alias, voice in (("nova", "bo"), ("anchor", "bo"), ("echo", "ada")):
            body = {"input": "Hello.", "voice": alias, "response_format": "pcm"}
            assert (await door.client.post(SPEECH, json=body)).headers["x-voice"] == voice


async def test_the_list_of_voices_is_written_in_another_thread(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of voices would stop every stream for a moment."""
    threads, describe = set[int](), catalog.described

    def described(voice: Any) -> dict[str, Any]:
        threads.add(threading.get_ident())
        return describe(voice)

    monkeypatch.setattr(catalog, "described", described)
    assert (await door.client.get("/v1/audio/voices")).json()["voices"] == ["ada", "bo"]
    assert len(threads) == 1 and threading.get_ident() not in threads


@SHARED
async def test_the_model_is_listed_under_each_of_its_names(shared_door: FakeDoor) -> None:
    answer = (await shared_door.client.get("/v1/models")).json()
    names = [model["id"] for model in answer["data"]]
    assert names[0] == "fake/1" and "tts-1" in names and answer["object"] == "list"
    for name in names:
        assert (await shared_door.client.get(f"/v1/models/{name}")).json()["id"] == name
        body = {"input": "Hello.", "model": name, "response_format": "pcm"}
        assert (await shared_door.client.post(SPEECH, json=body)).status_code == 200
    assert (await shared_door.client.get("/v1/models/none")).json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    "name", ["tts-1-1106", "gpt-4o-mini-tts-2025-12-15", "fake/1-2025-12-15", "tts-1-11", "tts-1-"]
)
@SHARED
async def test_only_openai_s_model_names_may_have_a_date(shared_door: FakeDoor, name: str) -> None:
    is_known = name in ("tts-1-1106", "gpt-4o-mini-tts-2025-12-15")
    body = {"input": "Hello.", "model": name, "response_format": "pcm"}
    statuses = [(await shared_door.client.post(SPEECH, json=body)).status_code]
    statuses.append((await shared_door.client.get(f"/v1/models/{name}")).status_code)
    assert statuses == [200 if is_known else 404] * 2


def recording() -> bytes:
    return wav_of(b"\1\0" * 24_000)


@pytest.mark.parametrize("is_form", [True, False])
async def test_watermark_is_found_with_its_stretches(door: FakeDoor, is_form: bool) -> None:
    stretch = codec_pb2.WatermarkedStretch(
        start_offset=duration_pb2.Duration(seconds=1),
        end_offset=duration_pb2.Duration(seconds=2, nanos=500_000_000),
        key_id="key-1",
        confidence=0.5,
    )
    door.behind.codec.detection.stretches.append(stretch)
    sent: dict[str, Any] = (
        {"files": {"file": ("a.wav", recording())}}
        if is_form
        else {"content": recording(), "headers": {"content-type": "audio/wav"}}
    )
    answer = await door.client.post(WATERMARK, **sent)
    assert answer.json() == {
        "object": "audio.watermark",
        "detected": True,
        "confidence": 0.75,
        "key_id": "key-1",
        "stretches": [{"start": 1.0, "end": 2.5, "key_id": "key-1", "confidence": 0.5}],
    }
    assert len(door.behind.codec.detected[0].samples) == 48_000


@SHARED
async def test_a_form_is_known_by_its_content_type_in_any_case(shared_door: FakeDoor) -> None:
    """RFC 9110, section 8.3.1."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    headers = {"content-type": "Multipart/Form-Data; boundary=x"}
    answer = await shared_door.client.post(WATERMARK, content=head + recording() + b"\r\n--x--\r\n", headers=headers)
    assert answer.status_code == 200 and answer.json()["detected"], answer.text


@pytest.mark.parametrize(
    "sent",
    [{"content": b""}, {"content": b"no sound"}, {"files": {"other": b"x"}}, {"data": {"file": "x"}}],
)
@SHARED
async def test_watermark_of_no_recording_names_the_file(shared_door: FakeDoor, sent: dict[str, Any]) -> None:
    answer = await shared_door.client.post(WATERMARK, **sent)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file"), answer.text


@pytest.mark.parametrize("sent", [{"content": recording()}, {"files": {"file": ("a.wav", recording())}}])
async def test_a_disconnect_ends_the_search(door: FakeDoor, sent: dict[str, Any]) -> None:
    assert (await left_in_search(door, WATERMARK, **sent)).error == "CancelledError"


@pytest.mark.parametrize("is_form", [True, False])
async def test_a_recording_for_which_the_disk_has_no_room_may_come_again(
    door: FakeDoor, is_form: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: open("/dev/full", "wb+", buffering=0))
    large = recording() * 30
    sent: dict[str, Any] = {"files": {"file": ("a.wav", large)}} if is_form else {"content": large}
    answer = await door.client.post(WATERMARK, **sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_full"), answer.text
    assert answer.headers["retry-after"] == "1"
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert tempfile.gettempdir() in line.getMessage() and not line.exc_info
    assert (await door.client.post(WATERMARK, content=recording())).status_code == 200


async def test_large_recording_is_refused() -> None:
    async with fake_door(max_upload_bytes=1024) as door:
        assert (await door.client.post(WATERMARK, content=recording())).status_code == 413


async def test_readiness_follows_the_gateway(door: FakeDoor) -> None:
    assert (await door.client.get("/readyz")).status_code == 200
    door.behind.gateway.server.set_serving(False)
    assert (await door.client.get("/readyz")).status_code == 503
    await door.behind.gateway.stop()
    assert (await door.client.get("/readyz")).status_code == 503
    assert (await door.client.get("/healthz")).status_code == 200


async def test_metrics_count_requests_and_first_audio(door: FakeDoor, body: dict[str, Any]) -> None:
    await door.client.post(SPEECH, json=body)
    await door.client.get("/nowhere")
    metrics = (await door.client.get("/metrics")).text
    assert 'http_requests_total{method="POST",route="/v1/audio/speech",status="200"} 1.0' in metrics
    assert 'http_requests_total{method="GET",route="unknown",status="404"} 1.0' in metrics
    assert 'http_first_audio_seconds_bucket{le="30.0"} 1.0' in metrics and "http_running_streams 0.0" in metrics


async def test_made_up_methods_make_no_metrics(door: FakeDoor) -> None:
    for number in range(3):
        assert (await door.client.request(f"MADEUP{number}", SPEECH)).status_code == 405
    metrics = (await door.client.get("/metrics")).text
    assert 'http_requests_total{method="other",route="/v1/audio/speech",status="405"} 3.0' in metrics
    assert "MADEUP" not in metrics


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/v1/audio/voices/ada"])
@SHARED
async def test_head_is_get_without_its_body(shared_door: FakeDoor, path: str) -> None:
    whole, head = await shared_door.client.get(path), await shared_door.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))
    assert f'method="HEAD",route="{"/v1/audio/voices/{voice}" if "ada" in path else path}"' in (
        (await shared_door.client.get("/metrics")).text.replace("{model:path}", "")
    )


async def test_metrics_can_be_off_at_the_api_port() -> None:
    async with fake_door(metrics_at_api_port=False, metrics_port=0) as door:
        assert (await door.client.get("/metrics")).status_code == 404
        other = await door.client.get(f"http://127.0.0.1:{door.stage.metrics_port}/metrics")
        assert "http_requests_total" in other.text


async def test_the_openapi_document_has_every_route(door: FakeDoor) -> None:
    document = (await door.client.get("/openapi.json")).json()
    served = {
        (route.path, method.lower())
        for route in routes_of(door.stage.settings)
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == {(path.replace(":path", ""), method) for path, method in served}
    assert len(described) == 13
    for path, method in described:
        answer = await door.client.request(method, path.format(model="tts-1", name="main.js", voice="ada"))
        assert answer.status_code not in (404, 405), path
        assert "ValidationError" not in str(document)
        if path.startswith("/v1/"):
            assert "default" in document["paths"][path][method]["responses"]


@SHARED
async def test_every_described_field_is_taken_and_no_other(shared_door: FakeDoor) -> None:
    document = (await shared_door.client.get("/openapi.json")).json()
    schema = document["components"]["schemas"]["SpeechRequest"]
    assert schema["additionalProperties"] is False and schema["required"] == ["input"]
    defaults = {name: field["default"] for name, field in schema["properties"].items() if "default" in field}
    answer = await shared_door.client.post(SPEECH, json=defaults | {"input": "Hello.", "response_format": "pcm"})
    assert answer.status_code == 200, answer.text
