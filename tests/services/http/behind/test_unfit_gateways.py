"""A gateway that runs and does not serve, beside one that does: no call goes to it, whatever its reason is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from starlette.datastructures import Headers

from services.http.api.upstream import Upstream
from services.http.settings import HttpSettings
from services.http.stage import HttpStage, start_http
from tests.support.fake_deployment import FakeDeployment, fake_deployment, target_of
from tests.support.fake_stages import numbered_audio
from tests.support.waits import eventually

SPEECH = "/v1/audio/speech"
SYNTHESIS, WATCH = "/csm.v1.TextToSpeechService/StreamSynthesize", "/grpc.health.v1.Health/Watch"
IN_TURN = 12  # calls, of which each of two gateways would have got half


@dataclass
class Door:
    """An HTTP server of two gateways, each with stages of its own."""

    stage: HttpStage
    behind: list[FakeDeployment]
    client: httpx.AsyncClient

    async def is_ready(self) -> bool:
        return (await self.client.get("/readyz")).status_code == 200


def num_calls(deployment: FakeDeployment, method: str) -> int:
    """Those of the gateway's API port that have begun, refused ones too. method: a path"""
    _, service, name = method.split("/")
    labels = {"grpc_type": "server_stream", "grpc_service": service, "grpc_method": name}
    registry = deployment.gateway.server.metrics.registry
    return int(registry.get_sample_value("grpc_server_started_total", labels) or 0)


@asynccontextmanager
async def door_of_two() -> AsyncIterator[Door]:
    """It knows the health of both."""
    async with AsyncExitStack() as stack:
        behind = [await stack.enter_async_context(fake_deployment()) for _ in range(2)]
        servers = [each.gateway.server for each in behind]
        settings: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "metrics_port": -1, "drain_seconds": 0.0}
        settings["gateway_target"] = target_of([server.port for server in servers])
        settings["gateway_health_target"] = target_of([server.health_port for server in servers])
        stage = await start_http(HttpSettings(**settings))
        stack.push_async_callback(stage.stop)
        for each in behind:
            await each.gateway.wait_ready()
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60, trust_env=False, verify=False))
        client.base_url = httpx.URL(stage.url)
        door = Door(stage, behind, client)
        stage.door.upstream.channels.get_state(try_to_connect=True)
        await eventually(lambda: all(num_calls(each, WATCH) for each in behind))
        yield door


async def loses_its_engine(deployment: FakeDeployment) -> None:
    await deployment.engine_server.drain(0)


async def gets_a_codec_of_another_bundle(deployment: FakeDeployment) -> None:
    deployment.codec.info.codec.weights_digest = "other"
    deployment.gateway._on_health()


@pytest.mark.parametrize("happens", [loses_its_engine, gets_a_codec_of_another_bundle])
async def test_every_call_goes_to_the_gateway_that_serves(
    body: dict[str, Any], happens: Callable[[FakeDeployment], Awaitable[None]]
) -> None:
    async with door_of_two() as door:
        _, other = door.behind
        await happens(other)
        await eventually(lambda: not other.gateway.server.is_ready)
        async with asyncio.timeout(60):  # until the change has reached the HTTP server, calls may still go there
            before = -1
            while num_calls(other, SYNTHESIS) != before:
                before = num_calls(other, SYNTHESIS)
                for _ in range(2):
                    await door.client.post(SPEECH, json=body)
        for _ in range(IN_TURN):
            answer = await door.client.post(SPEECH, json=body)
            assert (answer.status_code, answer.content) == (200, numbered_audio(range(10)))
            assert await door.is_ready()
        assert num_calls(other, SYNTHESIS) == before


async def test_a_gateway_that_serves_again_gets_calls_again(body: dict[str, Any]) -> None:
    async with door_of_two() as door:
        one, other = door.behind
        other.gateway.server.set_serving(False)
        for _ in range(IN_TURN):
            assert (await door.client.post(SPEECH, json=body)).status_code == 200
        one.gateway.server.set_serving(False)
        async with asyncio.timeout(60):
            while await door.is_ready():
                await asyncio.sleep(0.01)
        other.gateway.server.set_serving()
        other.engine.calls.clear()
        async with asyncio.timeout(60):
            while not (await door.is_ready() and (await door.client.post(SPEECH, json=body)).status_code == 200):
                await asyncio.sleep(0.01)
        assert other.engine.calls


async def test_a_gateway_that_drains_ends_its_streams_and_gets_no_further_ones(body: dict[str, Any]) -> None:
    async with door_of_two() as door:
        for deployment in door.behind:
            deployment.engine.script.pause_at = 3
        asked = [asyncio.create_task(door.client.post(SPEECH, json=body)) for _ in range(2)]
        await eventually(lambda: all(deployment.engine.calls for deployment in door.behind))
        one, other = door.behind
        draining = asyncio.create_task(other.gateway.server.drain(60))
        one.engine.script.resume.set()
        for _ in range(IN_TURN):
            assert (await door.client.post(SPEECH, json=body)).status_code == 200
            assert await door.is_ready()
        assert len(other.engine.calls) == 1
        other.engine.script.resume.set()
        assert [(await answer).content for answer in asked] == [numbered_audio(range(10))] * 2
        await draining


async def test_without_a_gateway_that_serves_calls_are_refused_and_no_address_is_named(body: dict[str, Any]) -> None:
    async with door_of_two() as door:
        for deployment in door.behind:
            deployment.gateway.server.set_serving(False)
        async with asyncio.timeout(60):
            while (answer := await door.client.post(SPEECH, json=body)).status_code == 200:
                await asyncio.sleep(0.01)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
        assert error["message"].startswith("No gateway is ready") and "127.0.0.1" not in error["message"]
        assert not await door.is_ready()


async def test_a_gateway_that_answers_no_health_on_its_api_port_gets_calls() -> None:
    """As those of version 0.1."""

    class Older(tts_pb2_grpc.TextToSpeechServiceServicer):
        async def GetServerInfo(
            self, request: tts_pb2.GetServerInfoRequest, context: Any
        ) -> tts_pb2.GetServerInfoResponse:
            return tts_pb2.GetServerInfoResponse(model_version="older")

    server = grpc.aio.server()
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(Older(), server)  # type: ignore[no-untyped-call]
    upstream = Upstream(HttpSettings(gateway_target=f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"))
    await server.start()
    client = upstream.client(upstream.caller(Headers()))
    assert (await client.server_info()).model_version == "older"
    await upstream.close()
    await server.stop(0)
