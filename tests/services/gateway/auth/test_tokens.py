"""Bearer tokens at a real gateway: which are accepted, the errors of the others, and where none may appear."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc, watermark_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.rpc import status
from services.gateway import new_token
from services.gateway.auth.tokens import TokensFileError, digest_of
from services.gateway.settings import GatewaySettings
from services.gateway.stage import start_gateway
from tests.support.fake_deployment import FakeDeployment, fake_deployment

ADA, BO = "token-of-ada", "token-of-bo"
METHODS = [
    method
    for file in (tts_pb2, watermark_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def entries(**tokens: str) -> str:
    return json.dumps([{"name": name, "sha256": digest_of(token)} for name, token in tokens.items()])


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[tuple[FakeDeployment, grpc.aio.Channel]]:
    """A gateway that accepts a token of Ada's."""
    (folder / "tokens.json").write_text(entries(ada=ADA))
    async with fake_deployment(auth_tokens_file=folder / "tokens.json") as running:
        async with grpc.aio.insecure_channel(running.target) as channel:
            yield running, channel


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def call(channel: grpc.aio.Channel, method: Any, request: bytes, metadata: Any) -> str:
    """Calls any method with bytes. Returns the reason for which it failed, or "OK"."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    streaming = "stream" if method.server_streaming else "unary"
    asked = "stream" if method.client_streaming else "unary"
    start = getattr(channel, f"{asked}_{streaming}")(path)
    running = start(iter([request]) if method.client_streaming else request, metadata=metadata, timeout=20)
    try:
        if method.server_streaming:
            async for _ in running:
                pass
        else:
            await running
    except grpc.aio.AioRpcError as error:
        answer = status.from_rpc_error(error)
        assert (answer.code is grpc.StatusCode.UNAUTHENTICATED) == answer.reason.startswith("CREDENTIAL_")
        return answer.reason
    return "OK"


async def test_no_method_is_answered_without_a_known_token(tmp_path: Path) -> None:
    assert {method.name for method in METHODS} >= {"Synthesize", "StreamSynthesize", "ListVoices", "DetectWatermark"}
    async with guarded(tmp_path) as (running, channel):
        for method in METHODS:
            assert await call(channel, method, b"", None) == "CREDENTIAL_MISSING", method.name
            assert await call(channel, method, b"", bearer(BO)) == "CREDENTIAL_INVALID", method.name
            assert not (await call(channel, method, b"", bearer(ADA))).startswith("CREDENTIAL_"), method.name
        seen = running.gateway.server.metrics.registry.get_sample_value
        assert seen("tts_refused_calls_total", {"reason": "CREDENTIAL_MISSING"}) == len(METHODS)
        assert seen("tts_refused_calls_total", {"reason": "CREDENTIAL_INVALID"}) == len(METHODS)
        labels = {"grpc_service": "csm.v1.TextToSpeechService", "grpc_method": "StreamSynthesize"}
        labels |= {"grpc_type": "server_stream", "grpc_code": "UNAUTHENTICATED"}
        assert seen("grpc_server_handled_total", labels) == 2


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((("authorization", f"bearer {ADA}"),), "OK"),
        ((("authorization", ADA),), "CREDENTIAL_INVALID"),
        ((("authorization", "Bearer "),), "CREDENTIAL_INVALID"),
        ((("authorization", f"Basic {ADA}"),), "CREDENTIAL_INVALID"),
        ((("authorization", f"Bearer {digest_of(ADA)}"),), "CREDENTIAL_INVALID"),
        ((*bearer(BO), *bearer(ADA)), "CREDENTIAL_INVALID"),
        ((*bearer(ADA), *bearer(ADA)), "CREDENTIAL_INVALID"),
    ],
)
async def test_credential_is_one_bearer_token(metadata: Any, reason: str, tmp_path: Path) -> None:
    info = tts_pb2.DESCRIPTOR.services_by_name["TextToSpeechService"].methods_by_name["GetServerInfo"]
    async with guarded(tmp_path) as (_, channel):
        assert await call(channel, info, b"", metadata) == reason


async def test_call_is_refused_before_its_message_is_read(tmp_path: Path) -> None:
    unary = tts_pb2.DESCRIPTOR.services_by_name["TextToSpeechService"].methods_by_name["Synthesize"]
    async with guarded(tmp_path) as (_, channel):
        no_message = b"\xff\xff\xff"
        assert await call(channel, unary, no_message, bearer(BO)) == "CREDENTIAL_INVALID"
        assert await call(channel, unary, no_message, bearer(ADA)) not in ("OK", "CREDENTIAL_INVALID")


async def test_a_call_with_a_token_succeeds_and_its_owner_is_logged(
    tmp_path: Path, stream_request: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with guarded(tmp_path) as (running, channel):
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        messages = [m async for m in stub.StreamSynthesize(stream_request, metadata=bearer(ADA), timeout=20)]
        assert messages[-1].HasField("summary")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetServerInfo(tts_pb2.GetServerInfoRequest(), metadata=bearer(BO), timeout=20)
        passed_on = [call.metadata for call in (*running.engine.calls, *running.codec.calls)]
    ended = [r.__dict__["fields"] for r in caplog.records if r.getMessage() == "call ended"]
    callers = {(f["method"].rsplit("/")[-1], f["code"]): f.get("caller") for f in ended}
    assert callers["StreamSynthesize", "OK"] == "ada"
    assert callers["GetServerInfo", "UNAUTHENTICATED"] is None
    written = repr([record.__dict__ for record in caplog.records])
    assert ADA not in written and BO not in written
    assert len(passed_on) == 2 and all("authorization" not in metadata for metadata in passed_on)


async def test_reflection_and_health_ask_for_no_token(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (running, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (answer,) = [answer async for answer in stub.ServerReflectionInfo(asked, timeout=20)]
        assert "csm.v1.TextToSpeechService" in {service.name for service in answer.list_services_response.service}
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.gateway.server.health_port}") as health:
            liveness = health_pb2.HealthCheckRequest(service="liveness")
            for asked_port in (health, channel):
                assert (await health_pb2_grpc.HealthStub(asked_port).Check(liveness, timeout=20)).status == 1


async def test_changed_file_counts_and_a_wrong_one_does_not(
    tmp_path: Path, look_at_files: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    info = tts_pb2.DESCRIPTOR.services_by_name["TextToSpeechService"].methods_by_name["GetServerInfo"]
    file = tmp_path / "tokens.json"
    async with guarded(tmp_path) as (_, channel):
        file.write_text(entries(ada=ADA, bo=BO))
        look_at_files()
        assert await call(channel, info, b"", bearer(BO)) == "OK"
        file.write_text(entries(bo=BO) + "]")
        look_at_files()
        assert await call(channel, info, b"", bearer(ADA)) == "OK"
        assert "what was read before stays in use: --auth-tokens-file" in caplog.text
        file.unlink()
        look_at_files()
        assert await call(channel, info, b"", bearer(ADA)) == "OK"
        file.write_text(entries(bo=BO))
        look_at_files()
        assert await call(channel, info, b"", bearer(ADA)) == "CREDENTIAL_INVALID"
        assert await call(channel, info, b"", bearer(BO)) == "OK"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('[{"SECRET": 1, "SECRET": 2}]', "has a key twice"),
        ('[{"name": "a", "sha256": "' + "0" * 64 + '", "max_streams": 9, "max_streams": 1}]', "has a key twice"),
        ("{}", "must be a list"),
        ('["SECRET"]', "entry 1 must be an object with name, sha256 and perhaps max_streams, and nothing else"),
        ('[{"name": "ada", "token": "SECRET"}]', "entry 1 must be an object with name, sha256"),
        ('[{"name": "ada", "sha256": "SECRET"}]', "entry 1: sha256 must be 64 hexadecimal digits"),
        (json.dumps([{"name": "a b", "sha256": "0" * 64}]), "entry 1: name must be"),
        (json.dumps([{"name": "a", "sha256": "0" * 64}, {"name": "b", "sha256": "0" * 64}]), "has a digest twice"),
        (json.dumps([{"name": "a", "sha256": "0" * 64, "max_streams": 0}]), "max_streams must be a whole number"),
        (json.dumps([{"name": "a", "sha256": "0" * 64, "max_streams": True}]), "max_streams must be a whole number"),
        (
            json.dumps([{"name": "a", "sha256": "0" * 64}, {"name": "a", "sha256": "1" * 64, "max_streams": 2}]),
            "gives a more than one max_streams",
        ),
    ],
)
async def test_an_unusable_token_file_stops_the_start_without_showing_secrets(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "tokens.json").write_text(content)
    with pytest.raises(TokensFileError, match=message) as failed:
        await start_gateway(GatewaySettings(auth_tokens_file=tmp_path / "tokens.json"))
    assert "--auth-tokens-file" in str(failed.value) and "SECRET" not in str(failed.value)


async def test_a_new_token_is_accepted_with_its_printed_entry(
    tmp_path: Path, look_at_files: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    info = tts_pb2.DESCRIPTOR.services_by_name["TextToSpeechService"].methods_by_name["GetServerInfo"]
    assert new_token.main(["ada"]) == 0
    token, entry = capsys.readouterr().out.splitlines()
    assert token not in entry and json.loads(entry)["name"] == "ada"
    async with guarded(tmp_path) as (_, channel):
        (tmp_path / "tokens.json").write_text(f"\ufeff[{entry}]", encoding="utf-8")  # some editors write a mark
        look_at_files()
        assert await call(channel, info, b"", bearer(token)) == "OK"
    assert new_token.main(["ada"]) == 0
    assert capsys.readouterr().out.splitlines()[0] != token


@pytest.mark.parametrize("arguments", [[], ["a b"], ["ada", "bo"]])
def test_a_new_token_requires_one_name(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert new_token.main(arguments) == 2
    assert "usage: python -m services.gateway.new_token NAME" in capsys.readouterr().err
