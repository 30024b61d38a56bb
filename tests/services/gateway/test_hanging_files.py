"""Files of a gateway in a file system that does not answer: calls go on with what was read before."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common import followed_files
from services.gateway.auth.tokens import digest_of
from services.gateway.stage import GatewayStage
from tests.services.gateway.auth.test_code_sealing import keys_file
from tests.services.gateway.stages.test_stage_tls import READY_S, deployment
from tests.support.authority import Authority
from tests.support.network.hanging_file import hanging
from tests.support.waits import eventually

FILES = {"auth_tokens_file": "tokens.json", "code_sealing_keyring": "keys.json", "stage_tls_ca": "ca.crt"}  # by setting


async def speak(channel: grpc.aio.Channel, request: tts_pb2.StreamSynthesizeRequest) -> bytes:
    """The sealed codes of the answer."""
    stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]
    call = stub.StreamSynthesize(request, metadata=(("authorization", "Bearer t"),))
    return [message async for message in call][-1].summary.sealed_codes


async def is_live(gateway: GatewayStage) -> bool:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.server.health_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.parametrize("setting", FILES)
async def test_calls_go_on_while_a_file_does_not_answer(
    setting: str,
    tmp_path: Path,
    stream_request: tts_pb2.StreamSynthesizeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stopped the event loop: no call was answered, and no probe."""
    monkeypatch.setattr(followed_files, "LOOK_S", 0.05)
    monkeypatch.setattr(followed_files, "MOST_LOOK_S", 0.5)
    ours = Authority()
    files: dict[str, Any] = {name: tmp_path / file for name, file in FILES.items()}
    (tmp_path / "tokens.json").write_text(json.dumps([{"name": "ada", "sha256": digest_of("t")}]))
    keys_file(tmp_path / "keys.json", "a", a="01" * 32)
    ours.write_ca(tmp_path)
    stream_request.return_codes = True
    async with deployment(ours.write(tmp_path / "stages"), code_sealing="sealed", **files) as gateway:
        await asyncio.wait_for(gateway.wait_ready(), READY_S)

        def is_refused(shown: int) -> bool:
            return gateway.server.metrics.registry.get_sample_value("stage_file_refused", {"setting": setting}) == shown

        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.server.port}") as channel:
            assert await speak(channel, stream_request) and is_refused(0)
            with hanging(files[setting]):
                while not is_refused(1):
                    assert await speak(channel, stream_request)
                assert await speak(channel, stream_request) and await is_live(gateway)
            assert await speak(channel, stream_request)
            await eventually(lambda: is_refused(0))
