"""The engine stage as a whole: what it loads, what it reports, how it fails and stops."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from csm.engine.v1 import engine_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from csm_bundle.errors import BundleError, EngineFaultError
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.weights import pack
from csm_engine.loop.in_flight_steps import InFlightSteps
from csm_engine.model.loader import load_model
from csm_engine.types import GenerationRequest, Segment
from services.engine import load
from services.engine.load import load_engine
from services.engine.settings import EngineSettings
from services.engine.stage import SERVICE, EngineStage, start_engine
from tests.support.clock import Clock
from tests.support.engine_stage import Stub, collect, generate_request, long_request, wait_until_idle
from tests.support.tiny.csm import save_original
from tests.support.waits import read_event


async def test_the_weights_identity_includes_quantization(settings: EngineSettings) -> None:
    """A stream must not be resumed by a replica that makes other codes from the same weights."""
    choices: list[dict[str, object]] = [
        {},
        {"quantization": "float8"},
        {"kv_cache_dtype": "float8"},
        {"fused_products": True},  # rounds the product of a norm's and a matrix's weights once
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "fused_products": True},
        {"dtype": "bfloat16", "depth_kernel": True},
        {"dtype": "bfloat16", "depth_kernel": True, "fused_products": True},
    ]
    choices.append({"dtype": "bfloat16", "quantization": "int8"})
    choices.append({"dtype": "bfloat16", "quantization": "int8", "depth_kernel": True})  # rounds rows too
    loaded = [await asyncio.to_thread(load_engine, settings.model_copy(update=choice)) for choice in choices]
    assert len({engine.weights_digest for engine in loaded}) == len(choices)


async def test_the_weights_identity_includes_the_type(settings: EngineSettings, tmp_path: Path) -> None:
    shutil.copytree(settings.bundle, tmp_path / "bundle")
    rounded = load_model(tmp_path / "bundle" / "model")
    save_original(tmp_path / "bundle" / "model", rounded, dtype=torch.bfloat16)
    changed = settings.model_copy(update={"bundle": str(tmp_path / "bundle")})
    dtypes = ("float32", "bfloat16")
    loaded = [await asyncio.to_thread(load_engine, changed.model_copy(update={"dtype": dtype})) for dtype in dtypes]
    assert loaded[0].weights_digest != loaded[1].weights_digest


async def test_the_weights_identity_says_whether_compiled_kernels_run(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = await asyncio.to_thread(load_engine, settings)
    monkeypatch.setattr(load, "pack", partial(pack, compiled=False))
    plain = await asyncio.to_thread(load_engine, settings)
    assert compiled.weights_digest != plain.weights_digest


def test_slow_first_steps_of_a_process_hold_no_stream_back(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps load libraries. If they counted, streams would be admitted one at a time for seconds."""
    read = InFlightSteps.read
    monkeypatch.setattr(InFlightSteps, "read", lambda steps: replace(read(steps), seconds=3.0))
    engine = load_engine(settings.model_copy(update={"real_time_share": 0.7})).engine
    for name in ("a", "b"):
        engine.add_request(GenerationRequest(name, [Segment(0, "Hello.")], 5))
    engine.step()
    assert (engine.num_running, engine.num_waiting) == (2, 0)


def test_int8_requires_bfloat16() -> None:
    with pytest.raises(ValidationError, match="--quantization int8 needs --dtype bfloat16"):
        EngineSettings(bundle="any", quantization="int8")


def test_the_depth_kernel_requires_bfloat16() -> None:
    with pytest.raises(ValidationError, match="--depth-kernel needs --dtype bfloat16; given is float32"):
        EngineSettings(bundle="any", depth_kernel=True)
    assert EngineSettings(bundle="any", depth_kernel=True, dtype="bfloat16", quantization="float8").depth_kernel


def test_experimental_kernels_are_off_by_default_and_logged_when_on(
    caplog: pytest.LogCaptureFixture, settings: EngineSettings
) -> None:
    assert not settings.depth_kernel and not settings.fused_products
    load_engine(settings.model_copy(update={"depth_kernel": True, "dtype": "bfloat16"}))
    assert "depth kernel is on: it is experimental and has not run on a GPU" in caplog.text


def test_an_engine_that_computes_no_numbers_does_not_start(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are sound: what they are multiplied by is not."""
    prefill = PackedFrameStep.prefill_pass

    def broken(step: PackedFrameStep, table: torch.Tensor) -> None:
        prefill(step, table)
        step.state.next_embedding.fill_(torch.nan)

    monkeypatch.setattr(PackedFrameStep, "prefill_pass", broken)
    with pytest.raises(EngineFaultError, match="invalid frame in its warm-up"):
        load_engine(settings)


async def test_info_and_load_are_right(clock: Clock, stage: EngineStage, stub: Stub) -> None:
    info = await stub.GetModelInfo(engine_pb2.GetModelInfoRequest())
    assert (info.model_version, info.notice, info.context_window_size) == ("tiny/1", "untrained", 512)
    assert [(voice.name, voice.speaker_id) for voice in info.voices] == [("anna", 1)]
    assert len(info.weights_digest) == 16
    idle = await stub.GetLoad(engine_pb2.GetLoadRequest())
    assert not idle.HasField("silence_duration") and idle.running_sequence_count == 0
    call = stub.Generate(long_request())
    for _ in range(3):
        await read_event(call)
    busy = await stub.GetLoad(engine_pb2.GetLoadRequest())
    assert busy.running_sequence_count == 1 and busy.frame_rate > 0 and 0 < busy.cache_usage_ratio < 1
    call.cancel()
    await wait_until_idle(stage)
    clock.put_forward(6.0)
    assert (await stub.GetLoad(engine_pb2.GetLoadRequest())).frame_rate == 0


async def health_of(stage: EngineStage, service: str) -> Any:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.health_port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_a_failed_engine_stops_the_stage_and_its_calls(
    stage: EngineStage, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await health_of(stage, SERVICE) == health_pb2.HealthCheckResponse.SERVING
    call = stub.Generate(long_request())
    await call.read()

    def broken() -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(stage.async_engine.thread._engine, "step", broken)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass
        raise AssertionError("the call must not end well")
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert str(await asyncio.wait_for(stage.server.wait_failed(), 60)) == "device lost"
    assert await health_of(stage, SERVICE) == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError, match="the engine has failed"):
        await collect(stub, generate_request())


async def test_drain_lets_running_calls_finish(settings: EngineSettings) -> None:
    from csm.engine.v1 import engine_pb2_grpc

    stage = await start_engine(settings)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        call = engine_pb2_grpc.EngineServiceStub(channel).Generate(generate_request(30))
        await call.read()
        stopping = asyncio.create_task(stage.stop())
        responses = []
        while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            responses.append(response)
        assert responses[-1].complete.frame_count == 30
        await stopping


async def test_random_weights_only_when_asked_for(settings: EngineSettings, tmp_path: Any) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(settings.bundle, broken)
    (broken / "model" / "model.safetensors").unlink()
    changed = settings.model_copy(update={"bundle": str(broken)})
    with pytest.raises(Exception, match="holds no weights"):
        await start_engine(changed)
    stage = await start_engine(changed.model_copy(update={"random_weights": True}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        from csm.engine.v1 import engine_pb2_grpc

        info = await engine_pb2_grpc.EngineServiceStub(channel).GetModelInfo(engine_pb2.GetModelInfoRequest())
    assert "random" in info.notice
    await stage.stop()


async def test_a_stage_that_cannot_listen_leaves_no_thread(settings: EngineSettings) -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="the port may be taken"):
            await start_engine(settings.model_copy(update={"port": taken.getsockname()[1]}))
    assert {"engine", "text reader"}.isdisjoint(thread.name for thread in set(threading.enumerate()) - before)


async def test_missing_bundle_is_an_error(settings: EngineSettings, tmp_path: Any) -> None:
    with pytest.raises(BundleError, match="There is no folder"):
        await start_engine(settings.model_copy(update={"bundle": str(tmp_path / "nowhere")}))


def test_slots_for_which_the_memory_may_not_suffice_are_named(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the kernel ends the process without a word, and perhaps only when all slots are in use."""
    engine = load_engine(settings).engine
    one_slot = engine._frame_step.config.max_seq_len * engine._frame_step.backbone.cache.bytes_per_position  # type: ignore[attr-defined]
    needed = (settings.total_slots + 1) * one_slot
    monkeypatch.setattr(load, "memory_bytes", lambda: needed)
    load_engine(settings)
    assert "for keys and values" not in caplog.text
    monkeypatch.setattr(load, "memory_bytes", lambda: needed - 1)
    load_engine(settings)
    assert f"{settings.slots} --slots and {settings.spare_slots} --spare-slots may take" in caplog.text
