"""Conversations find their engine: one replica for every turn, whichever the gateway, while that replica serves."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from csm.v1 import tts_pb2, tts_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]

from csm_bundle.errors import EngineBusyError
from services.gateway.auth.tokens import digest_of
from services.gateway.stage import start_gateway
from services.gateway.stages.conversations import conversation_key
from services.gateway.synthesis.plan import ContextTurn
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FakeEngine, fake_frames, numbered_audio

REPLICAS = 3
FULL = EngineBusyError("The queue is full.")
Request = tts_pb2.StreamSynthesizeRequest
SPOKEN = ContextTurn(0, "Hello.", codes=fake_frames(0, 3))


@pytest.fixture
async def deployment() -> AsyncIterator[FakeDeployment]:
    async with fake_deployment(replica_count=REPLICAS, failover_wait_seconds=5.0, max_full_engines=3) as running:
        await running.gateway.wait_ready()
        yield running


def named(request: Request, conversation_id: str) -> Request:
    asked = Request()
    asked.CopyFrom(request)
    asked.conversation_id = conversation_id
    return asked


async def say(tts: Any, request: Request, metadata: Any = None) -> bytes:
    messages = [message async for message in tts.StreamSynthesize(request, timeout=60, metadata=metadata)]
    return b"".join(message.audio_chunk.audio_content for message in messages)


def counts(engines: Sequence[FakeEngine]) -> list[int]:
    return [len(engine.calls) for engine in engines]


async def engine_of(tts: Any, deployment: FakeDeployment, request: Request) -> int:
    """Index of the engine that makes the whole of it."""
    before = counts(deployment.engines)
    assert await say(tts, request) == numbered_audio(range(10))
    more = [after - earlier for after, earlier in zip(counts(deployment.engines), before, strict=True)]
    assert sum(more) == 1
    return more.index(1)


def metric(deployment: FakeDeployment, name: str, **labels: str) -> float:
    return deployment.gateway.server.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_turns_of_a_conversation_go_to_one_engine(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    for name in ("a", "b", "c", "d"):
        assert len({await engine_of(tts, deployment, named(stream_request, name)) for _ in range(5)}) == 1
    assert metric(deployment, "tts_engine_calls_total", by="conversation") == 20


async def test_conversations_go_to_all_engines(deployment: FakeDeployment, tts: Any, stream_request: Request) -> None:
    """Of 60 keys, each engine's number differs from 20 by less than four standard deviations (3.7 each)."""
    asked = [named(stream_request, f"conversation {number}") for number in range(60)]
    found = Counter([await engine_of(tts, deployment, request) for request in asked])
    assert sorted(found) == list(range(REPLICAS)) and min(found.values()) > 20 - 4 * 3.7


async def test_gateways_agree(deployment: FakeDeployment, tts: Any, stream_request: Request) -> None:
    other = await start_gateway(deployment.gateway.settings)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{other.server.port}") as channel:
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        for number in range(8):
            asked = named(stream_request, f"conversation {number}")
            assert await engine_of(tts, deployment, asked) == await engine_of(stub, deployment, asked)
    await other.stop()


async def test_the_first_turn_with_codes_stands_for_the_conversation(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    stream_request.context.turns.add(speaker=0, text="A voice's prompt.")
    for number in range(6):
        asked = Request()
        asked.CopyFrom(stream_request)
        asked.context.turns.add(speaker=1, text=f"Hello {number}.").audio.codes.CopyFrom(fake_frames(number, 3))
        first = await engine_of(tts, deployment, asked)
        asked.context.turns.add(speaker=1, text="And then?").audio.codes.CopyFrom(fake_frames(9, 2))
        assert await engine_of(tts, deployment, asked) == first
    assert metric(deployment, "tts_engine_calls_total", by="conversation") == 12


async def test_calls_without_a_conversation_are_spread(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    """A prompt that every conversation of a voice begins with is not the key of one."""
    stream_request.context.turns.add(speaker=0, text="A voice's prompt.")
    for _ in range(4 * REPLICAS):
        await say(tts, stream_request)
    assert min(counts(deployment.engines)) > 0
    assert metric(deployment, "tts_engine_calls_total", by="load") == 4 * REPLICAS


async def test_sentences_of_a_text_go_to_one_engine(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    stream_request.input.text = ""
    message = tts_pb2.StreamSynthesizeTextRequest
    text = tts_pb2.TextPiece(text=" ".join(f"This is sentence {number}." for number in range(8)))
    async for _ in tts.StreamSynthesizeText([message(config=stream_request), message(text=text)], timeout=60):
        pass
    assert sorted(counts(deployment.engines)) == [0, 0, 8]


async def test_a_full_engine_holds_no_conversation(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    asked = named(stream_request, "full")
    home = await engine_of(tts, deployment, asked)
    deployment.engines[home].refusal = FULL
    elsewhere = set()
    for _ in range(4):
        before = counts(deployment.engines)
        assert await say(tts, asked) == numbered_audio(range(10))
        elsewhere |= {
            index
            for index, (count, earlier) in enumerate(zip(counts(deployment.engines), before, strict=True))
            if index != home and count > earlier
        }
    assert len(elsewhere) == 1  # so that the turns made there are found again
    assert metric(deployment, "tts_full_engines_total", by="conversation", outcome="moved") >= 4
    deployment.engines[home].refusal = None
    assert await engine_of(tts, deployment, asked) == home


@pytest.mark.parametrize("name", ["full", ""], ids=["conversation", "load"])
async def test_engines_that_are_all_full_are_asked_a_bounded_number_of_times(
    deployment: FakeDeployment, tts: Any, stream_request: Request, name: str
) -> None:
    for engine in deployment.engines:
        engine.refusal = FULL
    error = await failure(tts.StreamSynthesize(named(stream_request, name), timeout=60))
    assert (error.code, error.reason, error.retry_delay_s) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL", 1.0)
    assert sum(counts(deployment.engines)) == 4
    by = "conversation" if name else "load"
    assert metric(deployment, "tts_full_engines_total", by=by, outcome="moved") == 3
    assert metric(deployment, "tts_full_engines_total", by=by, outcome="refused") == 1


async def test_a_lost_engine_moves_its_conversations_alone(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    asked = [named(stream_request, f"conversation {number}") for number in range(24)]
    homes = [await engine_of(tts, deployment, request) for request in asked]
    lost = homes[0]
    for engine in deployment.engines:
        engine.script.pause_at = 5
    call = asyncio.create_task(say(tts, asked[0]))
    await asyncio.wait_for(deployment.engines[lost].script.paused.wait(), 10)
    for engine in deployment.engines:
        engine.script.pause_at = None
    await deployment.engine_servers[lost].drain(0)
    assert await call == numbered_audio(range(10))
    for request, home in zip(asked, homes, strict=True):
        now = [await engine_of(tts, deployment, request) for _ in range(2)]
        assert now[0] == now[1] != lost
        assert home in (lost, now[0])


@pytest.mark.parametrize("name", ["a", ""], ids=["conversation", "load"])
async def test_the_only_engine_comes_back_and_goes_on(stream_request: Request, name: str) -> None:
    async with (
        fake_deployment(failover_wait_seconds=20.0) as running,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        await running.gateway.wait_ready()
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        running.engine.script.pause_at = 5
        call = asyncio.create_task(say(stub, named(stream_request, name)))
        await asyncio.wait_for(running.engine.script.paused.wait(), 10)
        running.engine.script.pause_at = None
        port = running.engine_server.port
        await running.engine_server.drain(0)
        await asyncio.sleep(0.5)
        again = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        engine_pb2_grpc.add_EngineServiceServicer_to_server(running.engine, again)
        again.add_insecure_port(f"127.0.0.1:{port}")
        await again.start()
        assert await call == numbered_audio(range(10))
        await again.stop(0)


async def test_an_engine_that_is_not_serving_gets_no_conversation(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    """By the health service on the API port, which its gateway watches."""
    engines, servers, healths = [FakeEngine() for _ in range(2)], [], []
    for engine in engines:
        server, health = grpc.aio.server(), health_aio.HealthServicer()
        engine_pb2_grpc.add_EngineServiceServicer_to_server(engine, server)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        await health.set("csm.engine.v1.EngineService", health_pb2.HealthCheckResponse.SERVING)
        servers.append((server, server.add_insecure_port("127.0.0.1:0")))
        healths.append(health)
        await server.start()
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for _, port in servers)
    gateway = await start_gateway(deployment.gateway.settings.model_copy(update={"engine_target": target}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.server.port}") as channel:
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        asked = named(stream_request, "a")
        await say(stub, asked)
        home = counts(engines).index(1)
        await healths[home].set("csm.engine.v1.EngineService", health_pb2.HealthCheckResponse.NOT_SERVING)
        async with asyncio.timeout(10):
            while not engines[1 - home].calls:
                await say(stub, asked)
    await gateway.stop()
    for server, _ in servers:
        await server.stop(0)


async def test_a_busier_engine_gets_fewer_calls_without_a_conversation(
    deployment: FakeDeployment, tts: Any, stream_request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the load reports in the trailing metadata of its calls."""
    busy, generate = deployment.engines[0], FakeEngine.Generate

    async def reporting(self: FakeEngine, request: Any, context: Any) -> None:
        await generate(self, request, context)
        utilization = 10.0 if self is busy else 0.1
        report = engine_pb2.LoadReport(rps_fractional=1, application_utilization=utilization)
        context.set_trailing_metadata((("endpoint-load-metrics-bin", report.SerializeToString()),))

    monkeypatch.setattr(FakeEngine, "Generate", reporting)
    async with fake_deployment(replica_count=2) as running, grpc.aio.insecure_channel(running.target) as channel:
        await running.gateway.wait_ready()
        busy = running.engines[0]
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        async with asyncio.timeout(30):
            while True:
                before = counts(running.engines)
                for _ in range(12):
                    await say(stub, stream_request)
                more = [after - earlier for after, earlier in zip(counts(running.engines), before, strict=True)]
                if more[0] <= 2:
                    return


async def test_two_callers_with_one_id_have_two_keys(tmp_path: Path, stream_request: Request) -> None:
    entries = [{"name": name, "sha256": digest_of(f"token-of-{name}")} for name in ("ada", "bo")]
    (tmp_path / "tokens.json").write_text(json.dumps(entries))
    async with (
        fake_deployment(auth_tokens_file=tmp_path / "tokens.json") as running,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        for name in ("ada", "bo", "ada"):
            asked = named(stream_request, "one id")
            await say(stub, asked, metadata=(("authorization", f"Bearer token-of-{name}"),))
        keys = [call.metadata["csm-conversation"] for call in running.engine.calls]
    assert keys[0] == keys[2] != keys[1]
    assert "one id" not in "".join(keys)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [("x" * 129, "has 129 characters; at most 128 are allowed."), ("a\nb", "has a character that is not printable.")],
)
async def test_a_wrong_id_is_refused(
    deployment: FakeDeployment, tts: Any, stream_request: Request, given: str, complaint: str
) -> None:
    error = await failure(tts.StreamSynthesize(named(stream_request, given)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [(v.field, v.description) for v in error.field_violations] == [("conversation_id", complaint)]
    stream_request.input.text = ""
    config = tts_pb2.StreamSynthesizeTextRequest(config=named(stream_request, given))
    error = await failure(tts.StreamSynthesizeText([config]))
    assert [v.field for v in error.field_violations] == ["config.conversation_id"]


def test_no_two_sources_have_one_key() -> None:
    other = ContextTurn(0, "Hello.", codes=fake_frames(5, 3))
    keys = [
        conversation_key("", "id", []),
        conversation_key("ada", "id", []),
        conversation_key("adai", "d", []),
        conversation_key("ada", "", [SPOKEN]),
        conversation_key("ada", "", [other]),
        conversation_key("bo", "", [SPOKEN]),
        conversation_key("ada", "", [], call_id="id"),
    ]
    assert len(set(keys)) == len(keys) and all(len(key) == 32 for key in keys)


def test_nothing_that_other_conversations_share_is_a_key() -> None:
    prompt = ContextTurn(0, "A voice's prompt.")
    assert conversation_key("ada", "", []) == conversation_key("ada", "", [prompt]) == ""
    assert conversation_key("ada", "", [prompt, SPOKEN]) == conversation_key("ada", "", [SPOKEN, prompt])
