"""What the gateway reports becomes an error in OpenAI's shape: status, type, field and Retry-After."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from services.common.rpc.status import StatusError
from services.http.api.errors import body_field, unavailable
from tests.support.door.fake_door import FakeDoor

SPEECH = "/v1/audio/speech"


async def test_full_engine_is_503_with_retry_after(door: FakeDoor, body: dict[str, Any]) -> None:
    door.behind.engine.refusal = StatusError(grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL", "Full.", retry_delay_s=2.5)
    answer = await door.client.post(SPEECH, json=body, headers={"x-timeout-seconds": "3"})
    assert answer.status_code in (503, 504)  # the client's channel tries it again within the deadline
    if answer.status_code == 503:
        assert answer.headers["retry-after"] == "3" and 2500 <= int(answer.headers["retry-after-ms"]) <= 3750
        assert answer.json()["error"]["code"] == "queue_full"


async def test_a_gateway_s_internal_error_is_500_without_its_cause(door: FakeDoor, body: dict[str, Any]) -> None:
    door.behind.engine.script.fail_at = 0
    answer = await door.client.post(SPEECH, json=body)
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
    assert "scripted" not in answer.text


async def test_an_internal_error_of_the_http_server_has_openai_s_error_shape(
    door: FakeDoor, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.http.endpoints.speech.client_options", lambda *_: 1 // 0)
    answer = await door.client.post(SPEECH, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "zero" not in answer.text


async def test_stages_of_two_bundles_are_no_fault_of_the_caller(door: FakeDoor, body: dict[str, Any]) -> None:
    door.behind.engine.refusal = StatusError(grpc.StatusCode.FAILED_PRECONDITION, "CODEC_MISMATCH", "Another codec.")
    answer = await door.client.post(SPEECH, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (503, "server_error", "codec_mismatch")
    assert "retry-after" in answer.headers


async def test_passed_deadline_is_504(door: FakeDoor, body: dict[str, Any]) -> None:
    door.behind.engine.script.pause_at = 0
    answer = await door.client.post(SPEECH, json=body, headers={"x-timeout-seconds": "0.3"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_callers_refused_together_are_told_different_times() -> None:
    error = unavailable("Full.", "too_many_streams")
    told = [error.headers for _ in range(100)]
    assert {each["retry-after"] for each in told} == {"1"}
    times_ms = [int(each["retry-after-ms"]) for each in told]
    assert len(set(times_ms)) > 50 and 1000 <= min(times_ms) < 1250 < max(times_ms) <= 1500


def test_gateways_paths_become_fields_of_the_body() -> None:
    assert body_field("config.audio_config.audio_encoding") == "response_format"
    assert body_field("context.turns[2].audio.codes.frame_count") == "context[2].codes"
    assert body_field("context.turns[0].audio.recording.audio_content") == "context[0].audio"
    assert body_field("sampling_params.seed") == "seed"
    assert body_field("audio_config.speed") == "speed"
