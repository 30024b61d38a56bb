"""Engines and codecs as processes, two of each, frozen under paced streams: nobody hears more than a short gap."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from bench.deployment.process import StageProcess
from services.gateway.settings import GatewaySettings
from services.gateway.stage import GatewayStage, start_gateway
from tests.support.fake_deployment import target_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 8.0
LEAD_S = 1.0  # the engine holds frames back beyond it, so a stream lasts as long as its audio
LONGEST_GAP_S = 4.0


@dataclass
class Deployment:
    engines: list[StageProcess]
    codecs: list[StageProcess]
    gateway: GatewayStage
    stub: Any
    ids: list[str] = field(default_factory=list)  # of a conversation at either engine

    async def find_ids(self) -> None:
        """Fills `ids`: tries conversations until one has been made at each engine."""
        found = dict[int, str]()
        for number in range(32):
            before = self._num_calls()
            await listen(self.stub, 0, f"conversation {number}", seconds=0.08)
            while (after := self._num_calls()) == before:  # the line comes after the answer
                await asyncio.sleep(0.05)
            index = [count > earlier for count, earlier in zip(after, before, strict=True)].index(True)
            found.setdefault(index, f"conversation {number}")
            if len(found) == len(self.engines):
                break
        self.ids = [found[index] for index in sorted(found)]

    def _num_calls(self) -> list[int]:
        """Sequences that have ended, by engine."""
        return [engine.log.read_text().count("EngineService/Generate") for engine in self.engines]


@pytest.fixture
async def deployment(bundle: Path, keyring: Path, tmp_path: Path) -> AsyncIterator[Deployment]:
    common = ["--bundle", str(bundle), "--threads", "1", "--slots", "2"]
    async with AsyncExitStack() as stack:

        async def start(stage: str, number: int, *options: str) -> StageProcess:
            process = StageProcess(stage, number, [*common, *options], tmp_path)
            stack.push_async_callback(process.kill)
            await process.start()
            return process

        pacing = ("--max-lead", str(LEAD_S), "--max-batch-frames", "2")
        started = await asyncio.gather(
            *(start("engine", number, *pacing) for number in range(2)),
            *(start("codec", number, "--watermark-keyring", str(keyring)) for number in range(2)),
        )
        engines, codecs = started[:2], started[2:]
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "health_port": 0,
            "metrics_port": -1,
            "drain_seconds": 0.0,
            "engine_target": target_of([stage.api_port for stage in engines]),
            "engine_health_target": target_of([stage.health_port for stage in engines]),
            "codec_target": target_of([stage.api_port for stage in codecs]),
            "codec_health_target": target_of([stage.health_port for stage in codecs]),
        }
        gateway = await start_gateway(GatewaySettings(**settings))
        stack.push_async_callback(gateway.stop)
        await asyncio.wait_for(gateway.wait_ready(), 60)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{gateway.server.port}")
        stack.push_async_callback(channel.close, None)
        deployment = Deployment(engines, codecs, gateway, tts_pb2_grpc.TextToSpeechServiceStub(channel))
        await deployment.find_ids()
        yield deployment


@dataclass
class Heard:
    samples: bytes
    gap_s: float  # the longest between two messages of audio


async def listen(stub: Any, seed: int, conversation_id: str, seconds: float = SECONDS) -> Heard:
    asked = tts_pb2.StreamSynthesizeRequest(
        input=tts_pb2.SynthesisInput(text="A story that goes on."),
        audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
        sampling_params=tts_pb2.SamplingParams(seed=seed),
        conversation_id=conversation_id,
    )
    asked.max_audio_duration.FromMilliseconds(round(seconds * 1000))
    samples, times = bytearray(), []
    async for message in stub.StreamSynthesize(asked, timeout=60):
        if message.WhichOneof("event") == "audio_chunk":
            assert message.audio_chunk.sample_offset == len(samples) // 2
            samples += message.audio_chunk.audio_content
            times.append(time.monotonic())
    assert len(samples) == 2 * round(seconds * 24_000)
    return Heard(bytes(samples), max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0))


async def listen_to_two(deployment: Deployment, meanwhile: Callable[[], Any] = lambda: None) -> list[Heard]:
    """One stream at each replica of the stages. meanwhile: called when both have sent audio."""
    named = zip((11, 12), deployment.ids, strict=True)
    streams = [asyncio.create_task(listen(deployment.stub, seed, name)) for seed, name in named]
    await asyncio.sleep(LEAD_S + 1.0)
    assert not any(stream.done() for stream in streams), "the engine does not hold frames back"
    meanwhile()
    return await asyncio.gather(*streams)


def failovers(deployment: Deployment, stage: str) -> float:
    value = deployment.gateway.server.metrics.registry.get_sample_value
    return value("tts_failovers_total", {"stage": stage, "outcome": "resumed"}) or 0.0


@pytest.mark.parametrize("stage", ["engine", "codec"])
async def test_a_frozen_replica_costs_its_streams_a_short_gap_and_no_sample(deployment: Deployment, stage: str) -> None:
    undisturbed = await listen_to_two(deployment)
    assert failovers(deployment, stage) == 0, "a stream that is held back was taken for a frozen one"

    frozen = (deployment.engines if stage == "engine" else deployment.codecs)[0]
    disturbed = await listen_to_two(deployment, frozen.freeze)
    print(f"{stage}: gaps {[round(heard.gap_s, 2) for heard in disturbed]} s")
    assert [heard.samples for heard in disturbed] == [heard.samples for heard in undisturbed]
    assert failovers(deployment, stage) == 1
    assert max(heard.gap_s for heard in disturbed) <= LONGEST_GAP_S

    while_frozen = await listen_to_two(deployment)
    assert [heard.samples for heard in while_frozen] == [heard.samples for heard in undisturbed]
    assert failovers(deployment, stage) == 1, "new calls went to the frozen replica"
    assert max(heard.gap_s for heard in while_frozen) <= 1.5

    frozen.thaw()
    other = (deployment.engines if stage == "engine" else deployment.codecs)[1]
    async with asyncio.timeout(30):
        await asyncio.sleep(7)  # longer than the longest backoff between two connection attempts
    other.freeze()
    thawed = await listen_to_two(deployment)
    assert [heard.samples for heard in thawed] == [heard.samples for heard in undisturbed], "it gets no calls again"
