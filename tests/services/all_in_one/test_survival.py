"""Real engines and codecs, two of each: the audio of a stream that loses some is bit-equal to an undisturbed one's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_engine.loop.engine import Output
from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage, start_codec
from services.engine.settings import EngineSettings
from services.engine.stage import EngineStage, start_engine
from services.gateway.settings import GatewaySettings
from services.gateway.stage import GatewayStage, start_gateway
from tests.support.fake_deployment import stage_targets

LOCAL: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "health_port": 0, "metrics_port": -1, "drain_seconds": 0.0}
SECONDS = 2.4


@dataclass
class Deployment:
    engines: list[EngineStage]
    codecs: list[CodecStage]
    gateway: GatewayStage
    stub: Any


@pytest.fixture
async def deployment(bundle: Path, keyring: Path) -> AsyncIterator[Deployment]:
    async with two_of_each(bundle, keyring) as running:
        yield running


@asynccontextmanager
async def two_of_each(
    bundle: Path, keyring: Path, *, stage_settings: dict[str, Any] | None = None, **gateway_settings: Any
) -> AsyncIterator[Deployment]:
    async with AsyncExitStack() as stack:
        model: dict[str, Any] = LOCAL | {"bundle": str(bundle), "threads": 1, "slots": 2} | (stage_settings or {})
        engines, codecs = [], []
        for _ in range(2):
            engines.append(await start_engine(EngineSettings(**(model | {"max_batch_frames": 2}))))
            stack.push_async_callback(engines[-1].stop)
            codecs.append(await start_codec(CodecSettings(**(model | {"watermark_keyring": keyring}))))
            stack.push_async_callback(codecs[-1].stop)
        targets = stage_targets([stage.server for stage in engines], [stage.server for stage in codecs])
        gateway = await start_gateway(
            GatewaySettings(**(LOCAL | targets | {"code_sealing": "open"} | gateway_settings))
        )
        stack.push_async_callback(gateway.stop)
        await gateway.wait_ready()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{gateway.server.port}")
        stack.push_async_callback(channel.close, None)
        yield Deployment(engines, codecs, gateway, tts_pb2_grpc.TextToSpeechServiceStub(channel))


def request(speed: float = 0.0) -> tts_pb2.StreamSynthesizeRequest:
    asked = tts_pb2.StreamSynthesizeRequest(
        input=tts_pb2.SynthesisInput(text="A story that goes on."),
        audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, speed=speed),
        sampling_params=tts_pb2.SamplingParams(seed=11),
        return_codes=True,
    )
    asked.max_audio_duration.FromMilliseconds(round(SECONDS * 1000))
    return asked


def hold(engines: Iterable[EngineStage], num_frames: int) -> threading.Event:
    """Lets the engines make that many frames in all, and more once the event is set. Otherwise they, and the codecs
    too, could have made all that a stream still needs before its caller has read anything.
    """
    goes_on, num_made = threading.Event(), 0

    def held(step: Callable[[], list[Output]]) -> Callable[[], list[Output]]:
        def step_unless_held() -> list[Output]:
            nonlocal num_made
            if num_made >= num_frames and not goes_on.wait(0.002):
                return []
            outputs = step()
            num_made += sum(output.frame is not None for output in outputs)
            return outputs

        return step_unless_held

    for stage in engines:
        engine: Any = stage.async_engine.thread._engine
        engine.step = held(engine.step)
    return goes_on


async def collect(call: Any, after_frames: dict[int, Callable[..., Any]]) -> tuple[bytes, bytes]:
    """(samples, codes). after_frames: what to await once the audio of that many frames has come."""
    samples, summary = bytearray(), None
    while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        if message.WhichOneof("event") == "audio_chunk":
            assert message.audio_chunk.sample_offset == len(samples) // 2
            samples += message.audio_chunk.audio_content
            for num_frames in [count for count in after_frames if len(samples) >= 2 * 1920 * count]:
                await after_frames.pop(num_frames)()
        summary = message.summary
    assert summary is not None
    return bytes(samples), summary.codes.codes


@pytest.mark.parametrize("speed", [0, pytest.param(1.5, marks=pytest.mark.slow)])
async def test_audio_is_bit_equal_after_the_loss_of_an_engine_and_of_a_codec(
    deployment: Deployment, speed: float
) -> None:
    undisturbed = await collect(deployment.stub.StreamSynthesize(request(speed)), {})

    async def kill_engine() -> None:
        busy = next(stage for stage in deployment.engines if sum(stage.async_engine.thread.load()))
        await busy.server.drain(0)
        first.set()

    async def kill_codec() -> None:
        busy = next(stage for stage in deployment.codecs if stage.async_codec.num_streams)
        await busy.server.drain(0)
        second.set()

    first, second = (hold(deployment.engines, num_frames) for num_frames in (8, 24))
    call = deployment.stub.StreamSynthesize(request(speed))
    disturbed = await asyncio.wait_for(collect(call, {1: kill_engine, 8: kill_codec}), 60)
    assert len(undisturbed[0]) == 2 * round(SECONDS * 24_000)
    assert disturbed[1] == undisturbed[1]
    assert disturbed[0] == undisturbed[0]
    value = deployment.gateway.server.metrics.registry.get_sample_value
    for stage in ("engine", "codec"):
        assert value("tts_failovers_total", {"stage": stage, "outcome": "resumed"}) == 1


async def test_audio_is_bit_equal_when_an_engine_and_a_codec_compute_no_numbers(deployment: Deployment) -> None:
    """From a frame on, and for every stream, as broken devices do. Both stay reachable."""
    undisturbed = await collect(deployment.stub.StreamSynthesize(request()), {})

    async def break_engine() -> None:
        busy = next(stage for stage in deployment.engines if sum(stage.async_engine.thread.load()))
        engine: Any = busy.async_engine.thread._engine
        step = engine.step

        def broken() -> list[Output]:
            engine._frame_step.state.next_embedding.fill_(torch.nan)
            return step()  # type: ignore[no-any-return]

        engine.step = broken
        first.set()

    async def break_codec() -> None:
        busy = next(stage for stage in deployment.codecs if stage.async_codec.num_streams)
        decoder: Any = busy.async_codec.threads[0]._codec._decoder
        frame_step = decoder.frame_step
        decoder.frame_step = lambda *arguments: frame_step(*arguments) * torch.nan
        second.set()

    first, second = (hold(deployment.engines, num_frames) for num_frames in (8, 24))
    call = deployment.stub.StreamSynthesize(request())
    assert await asyncio.wait_for(collect(call, {1: break_engine, 8: break_codec}), 60) == undisturbed
    value = deployment.gateway.server.metrics.registry.get_sample_value
    for stage in ("engine", "codec"):
        assert (value("tts_failovers_total", {"stage": stage, "outcome": "resumed"}) or 0) >= 1
        assert not value("tts_failovers_total", {"stage": stage, "outcome": "exhausted"})


async def test_an_engine_that_computes_no_numbers_gets_few_calls(deployment: Deployment) -> None:
    """It ends its calls early, and so would seem to have most room. Before it was left, each stream began there."""
    asked, broken = request(), deployment.engines[0]
    asked.max_audio_duration.FromMilliseconds(240)
    undisturbed = await collect(deployment.stub.StreamSynthesize(asked), {})
    engine: Any = broken.async_engine.thread._engine
    step = engine.step

    def step_without_numbers() -> list[Output]:
        for sequence in engine._scheduler.running:
            if sequence.frames:  # so the engine as a whole does not fail
                engine._frame_step.state.next_embedding[sequence.slot] = torch.nan
        return step()  # type: ignore[no-any-return]

    def faults() -> float:
        labels = {"reason": "invalid_frame"}
        return broken.server.metrics.registry.get_sample_value("engine_sequences_finished_total", labels) or 0

    engine.step = step_without_numbers
    async with asyncio.timeout(100):
        while True:  # the reports take half a second to work
            before = faults()
            for _ in range(12):
                assert await collect(deployment.stub.StreamSynthesize(asked), {}) == undisturbed
            if faults() - before <= 2:
                break
    assert faults() > 0


async def test_a_text_is_bit_equal_after_the_loss_of_a_codec_in_its_third_sentence(bundle: Path, keyring: Path) -> None:
    """The other codec decodes that sentence from its start, and no earlier one. A sentence has ten frames."""
    asked = request()
    asked.input.text = ""
    asked.max_audio_duration.FromSeconds(60)
    text = "The station is closed. Emma is tired. Please wait."
    messages = [
        tts_pb2.StreamSynthesizeTextRequest(config=asked),
        tts_pb2.StreamSynthesizeTextRequest(text=tts_pb2.TextPiece(text=text)),
    ]
    async with two_of_each(bundle, keyring, max_utterance_audio_seconds=0.8) as deployment:
        survivors: list[tuple[CodecStage, int]] = []

        async def collect(kill_in_sentence: int) -> tuple[bytes, list[int]]:
            samples, offsets, killed = b"", list[int](), not kill_in_sentence
            async for message in deployment.stub.StreamSynthesizeText(messages, timeout=100):
                if message.HasField("sentence"):
                    offsets.append(message.sentence.sample_offset)
                samples += message.audio_chunk.audio_content
                if not killed and len(offsets) == kill_in_sentence and message.HasField("audio_chunk"):
                    busy = next(stage for stage in deployment.codecs if stage.async_codec.num_streams)
                    survivors.extend((stage, frames_of(stage)) for stage in deployment.codecs if stage is not busy)
                    await busy.server.drain(0)
                    goes_on.set()
                    killed = True
            return samples, offsets

        def frames_of(stage: CodecStage) -> int:
            return int(stage.server.metrics.registry.get_sample_value("codec_frames_total") or 0)

        undisturbed = await collect(0)
        goes_on = hold(
            deployment.engines, undisturbed[1][2] // 1920 + 3
        )  # in the third sentence, which has no checkpoint
        disturbed = await collect(3)
        assert disturbed == undisturbed
        ((survivor, before),) = survivors
        assert frames_of(survivor) - before == len(undisturbed[0]) // 3840 - undisturbed[1][2] // 1920
    value = deployment.gateway.server.metrics.registry.get_sample_value
    assert value("tts_failovers_total", {"stage": "codec", "outcome": "resumed"}) == 1
