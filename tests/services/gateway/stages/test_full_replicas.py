"""How often a refused call is made again: what the gateway knows of the replicas bounds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from csm.v1 import tts_pb2_grpc, watermark_pb2, watermark_pb2_grpc
from prometheus_client import CollectorRegistry

from csm_bundle.errors import CodecBusyError, EngineBusyError
from services.common.rpc import replica_id
from services.gateway.metrics import GatewayMetrics
from services.gateway.stages.backends import GrpcCodec, GrpcEngine
from services.gateway.stages.errors import FULL, StageError
from services.gateway.stages.full_replicas import MAX_REFUSALS, FullOutcome, FullReplicas
from services.gateway.stages.known_replicas import KNOWN_S, KnownReplicas
from services.gateway.stages.reloading_channel import ReloadingChannel
from tests.services.gateway.stages.engines import Request, fill, metric, named, recording
from tests.support.clock import Clock
from tests.support.fake_deployment import failure, fake_deployment, serve_stand_in
from tests.support.fake_stages import FakeCodec, FakeEngine, fake_identity


def refusal(replica: str, known: str) -> StageError:
    """known: letters, each the id of a replica"""
    error = StageError("ENGINE", grpc.StatusCode.UNAVAILABLE, FULL, "The queue is full.")
    error.replica, error.known_replicas = replica, frozenset(known)
    return error


@pytest.mark.parametrize(
    ("answers", "known", "num_calls"),
    [
        ("aaaaaaaa", "a", 4),
        ("aaaaaaab", "ab", 8),  # the other one is looked for
        ("abababab", "ab", 7),
        ("aaabaa", "a", 5),  # one that nobody knew is found
        ("aaaabca", "abc", 6),
        ("--------", "", 8),  # of versions that do not say who they are
        ("a-a-a-a-", "a", 8),
    ],
)
def test_a_call_is_made_again_until_all_known_replicas_have_refused_it_and_one_of_them_four_times(
    answers: str, known: str, num_calls: int
) -> None:
    reported: list[FullOutcome] = []
    full = FullReplicas(7, reported.append)
    for replica in answers:
        if not full.moves_on(refusal(replica.strip("-"), known)):
            break
    assert len(reported) == num_calls
    assert reported == ["moved"] * (num_calls - 1) + ["refused"]


def test_a_replica_that_is_gone_is_forgotten(clock: Clock) -> None:
    replicas = KnownReplicas()
    replicas.note(grpc.aio.Metadata((replica_id.KEY, "gone")))
    clock.put_forward(KNOWN_S / 2)
    assert replicas.note(grpc.aio.Metadata((replica_id.KEY, "here"))) == "here"
    assert replicas.note(grpc.aio.Metadata()) == replicas.note(None) == ""
    assert replicas.ids() == {"gone", "here"}
    clock.put_forward(KNOWN_S / 2 + 1)
    assert replicas.ids() == {"here"}


def test_replicas_that_are_gone_take_no_memory_though_no_call_is_refused(clock: Clock) -> None:
    replicas = KnownReplicas()
    for restart in range(100):
        replicas.note(grpc.aio.Metadata((replica_id.KEY, str(restart))))
        clock.put_forward(KNOWN_S / 2)
    assert len(replicas._answered_at_s) <= 3


@asynccontextmanager
async def channel_to(stage: str, servicer: object, stub: Any) -> AsyncIterator[ReloadingChannel[Any]]:
    server = await serve_stand_in(stage, servicer)
    channel = ReloadingChannel(f"127.0.0.1:{server.port}", stub, None)
    yield channel
    await channel.close()
    await server.drain(0)


async def test_an_engine_is_known_as_soon_as_it_accepts_a_call() -> None:
    """One that joins full ones would else be passed over until one of its streams ends."""
    fake = FakeEngine()
    fake.script.pause_at = 0
    metrics = GatewayMetrics(CollectorRegistry())
    async with channel_to("engine", fake, engine_pb2_grpc.EngineServiceStub) as channel:
        engine = GrpcEngine(channel, channel, metrics=metrics, max_full=7, silence_s=0.0)
        async with aclosing(engine.generate(engine_pb2.GenerateRequest(max_frame_count=9), 60.0)) as responses:
            assert (await anext(responses)).HasField("started")
            assert len(engine._replicas.ids()) == 1


@pytest.mark.parametrize("has_recording", [True, False], ids=["recording", "stream"])
async def test_a_codec_is_known_as_soon_as_it_accepts_a_call(has_recording: bool) -> None:
    metrics = GatewayMetrics(CollectorRegistry())
    async with channel_to("codec", FakeCodec(), codec_pb2_grpc.CodecServiceStub) as channel:
        codec = GrpcCodec(channel, metrics=metrics, max_full=7, silence_s=0.0)
        known: list[int] = []

        async def samples() -> Any:
            known.append(len(codec._replicas.ids()))
            yield bytes(2 * 1920)

        async def requests() -> Any:
            yield codec_pb2.StreamDecodeRequest(config=codec_pb2.StreamDecodeConfig(codec=fake_identity()))

        if has_recording:
            config = codec_pb2.StreamEncodeConfig(sample_format=codec_pb2.SAMPLE_FORMAT_S16LE, sample_rate_hertz=24_000)
            await codec.encode(config, samples(), 60.0)
        else:
            async with aclosing(codec.decode(requests(), 60.0)) as responses:
                assert (await anext(responses)).HasField("started")
                known.append(len(codec._replicas.ids()))
        assert known == [1]


@pytest.mark.parametrize("name", ["full", ""], ids=["conversation", "load"])
async def test_a_lone_full_engine_gets_a_refused_call_four_times(stream_request: Request, name: str) -> None:
    async with fake_deployment(max_full_replicas=7) as running, grpc.aio.insecure_channel(running.target) as channel:
        await running.gateway.wait_ready()
        running.engine.refusal = EngineBusyError("The queue is full.")
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        error = await failure(stub.StreamSynthesize(named(stream_request, name), timeout=60))
        assert (error.reason, len(running.engine.calls)) == ("QUEUE_FULL", MAX_REFUSALS)
        by = "conversation" if name else "load"
        assert metric(running, "tts_full_replicas_total", stage="engine", by=by, outcome="refused") == 1


async def test_a_lone_full_codec_gets_a_refused_call_four_times(stream_request: Request) -> None:
    async with fake_deployment(max_full_replicas=7) as running, grpc.aio.insecure_channel(running.target) as channel:
        await running.gateway.wait_ready()
        fill(running.codec)
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        error = await failure(stub.StreamSynthesize(stream_request, timeout=60))
        assert (error.reason, len(running.codec.calls)) == ("QUEUE_FULL", MAX_REFUSALS)


async def test_a_lone_full_codec_gets_a_refused_recording_four_times() -> None:
    async with fake_deployment(max_full_replicas=7) as running, grpc.aio.insecure_channel(running.target) as channel:
        await running.gateway.wait_ready()
        running.codec.refusal = CodecBusyError("The queue is full.")
        stub: Any = watermark_pb2_grpc.WatermarkServiceStub(channel)
        request = watermark_pb2.DetectWatermarkRequest(recording=recording())
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.DetectWatermark(request, timeout=60)
        for outcome, count in (("moved", MAX_REFUSALS - 1), ("refused", 1)):
            assert metric(running, "tts_full_replicas_total", stage="codec", by="load", outcome=outcome) == count
