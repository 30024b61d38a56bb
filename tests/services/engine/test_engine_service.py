"""The engine stage over real gRPC: what callers get, and that every way a call can end frees its slot."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from csm.rvq.v1 import rvq_pb2

from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.scheduling.sequence import Sequence
from services.common.rpc import status
from services.common.rpc.load_report import FAULTY
from services.engine.settings import EngineSettings
from services.engine.stage import EngineStage, start_engine
from tests.support.engine_stage import (
    Stub,
    codes_of,
    collect,
    generate_request,
    long_request,
    wait_for_load,
    wait_until_idle,
)
from tests.support.waits import read_event


async def test_stream_is_started_frames_complete(stub: Stub) -> None:
    responses = await collect(stub, generate_request(20, max_batch_frame_count=4))
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds == ["started", *["frames"] * (len(kinds) - 2), "complete"]
    sizes = [r.frames.frame_count for r in responses if r.HasField("frames")]
    assert sizes[0] == 1 and max(sizes) <= 4 and sum(sizes) == 20
    starts = [r.frames.first_frame_index for r in responses if r.HasField("frames")]
    assert starts == [sum(sizes[:i]) for i in range(len(sizes))]
    complete = responses[-1].complete
    assert complete.finish_reason == engine_pb2.FINISH_REASON_MAX_FRAMES and complete.frame_count == 20
    assert complete.decode_duration.ToNanoseconds() >= complete.backbone_duration.ToNanoseconds() > 0
    assert responses[0].started.prompt_token_count == responses[0].started.text_token_count == 2 + len("[0]Hello.")


async def test_many_calls_at_once_get_the_codes_they_get_alone(stub: Stub) -> None:
    requests = [
        generate_request(10, sampling_params=engine_pb2.SamplingParams(seed=seed, temperature=0.9, top_k=10))
        for seed in range(3)
    ]
    alone = [codes_of(await collect(stub, request)) for request in requests]
    together = await asyncio.gather(*(collect(stub, request) for request in requests))
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, codes_of(many))


async def test_resume_frames_continue_the_stream(stub: Stub) -> None:
    whole = codes_of(await collect(stub, generate_request(12)))
    frames = rvq_pb2.CodeFrames(frame_count=5, codebook_count=4, codes=whole[:5].astype("<u2").tobytes())
    responses = await collect(stub, generate_request(12, resume_frames=frames))
    first = next(r for r in responses if r.HasField("frames"))
    assert first.frames.first_frame_index == 5
    np.testing.assert_array_equal(codes_of(responses), whole[5:])
    assert responses[-1].complete.frame_count == 12


async def test_an_invalid_frame_ends_its_call_alone(
    stage: EngineStage, stub: Stub, loads: list[tuple[int, int]]
) -> None:
    """After the frames before it. UNAVAILABLE: the gateway may go on at another engine, and prefers the others."""
    engine = stage.async_engine.engine
    advance, codes = stub.Generate(long_request()), []
    started, sound = await read_event(advance), asyncio.create_task(collect(stub, generate_request(40, live=True)))
    assert started.HasField("started")
    codes.append(await read_event(advance))
    (slot,) = [item.slot for item in engine._scheduler.running if item.request.max_frames == 500]

    def break_slot() -> None:
        engine._frame_step.state.next_embedding[slot] = torch.nan

    stage.async_engine.thread.worker.submit(break_slot)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        while True:
            codes.append(await read_event(advance))
    error = status.from_rpc_error(raised.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_FAULT")
    assert loads == [(FAULTY - 1, 1)]
    assert codes_of(codes).max() < 32
    assert len(codes_of(await sound)) == 40
    await wait_until_idle(stage)


async def test_no_stream_waits_while_the_text_of_another_is_tokenized(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long text takes tenths of a second, in which the engine's thread must go on making frames."""
    threads, encode = set(), TextTokenizer.encode

    def recorded(self: TextTokenizer, speaker: int, text: str) -> list[int]:
        threads.add(threading.current_thread().name)
        return encode(self, speaker, text)

    monkeypatch.setattr(TextTokenizer, "encode", recorded)
    await collect(stub, generate_request())
    assert threads and not threads & {"engine", threading.main_thread().name}


async def test_cancel_frees_slot(stage: EngineStage, stub: Stub) -> None:
    calls = [stub.Generate(long_request()) for _ in range(3)]  # two run, one waits
    await wait_for_load(stage, 2, 1)
    for call in calls:
        call.cancel()
    await wait_until_idle(stage)
    assert len(codes_of(await collect(stub, generate_request()))) == 6


async def test_only_a_call_that_ends_before_its_sequence_wakes_the_engine_again(
    stage: EngineStage, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted, abort = [], stage.async_engine.engine.abort

    def recorded(sequence: Sequence) -> None:
        aborted.append(sequence.request.max_frames)
        abort(sequence)

    monkeypatch.setattr(stage.async_engine.engine, "abort", recorded)
    for _ in range(2):  # the thread runs commands in order: one for the first call would be run before the second call
        await collect(stub, generate_request())
    cancelled = stub.Generate(long_request())
    await read_event(cancelled)
    cancelled.cancel()
    await wait_until_idle(stage)
    assert aborted == [long_request().max_frame_count]


async def test_gauges_are_right_after_cancelled_calls(
    stage: EngineStage, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gauges() -> tuple[float | None, ...]:
        names = ("engine_active_slots", "engine_queue_depth")
        return tuple(stage.server.metrics.registry.get_sample_value(name) for name in names)

    def step_of_a_long_prompt() -> list[Any]:
        time.sleep(0.002)
        return []

    calls = [stub.Generate(long_request()) for _ in range(3)]  # two run, one waits
    await wait_for_load(stage, 2, 1)
    monkeypatch.setattr(stage.async_engine.thread._engine, "step", step_of_a_long_prompt)
    await asyncio.sleep(0.05)
    assert gauges() == (2, 1)
    for call in calls:
        call.cancel()
    await wait_until_idle(stage)
    assert gauges() == (0, 0)


async def test_deadline_frees_slot(stage: EngineStage, stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in stub.Generate(long_request(), timeout=0.05):
            pass
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await wait_until_idle(stage)


async def test_closed_channel_frees_slot(stage: EngineStage) -> None:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}")
    call = engine_pb2_grpc.EngineServiceStub(channel).Generate(long_request())
    await call.read()
    await channel.close(None)
    await wait_until_idle(stage)


async def test_an_answer_ends_with_a_load_report(stub: Stub, loads: list[tuple[int, int]]) -> None:
    await collect(stub, generate_request())
    assert loads in ([(0, 2)], [(1, 2)])  # the slot may not be free yet


UNKNOWN = rvq_pb2.CodeFrames(frame_count=1, codebook_count=4, codes=b"\xff\0" * 4)  # codes of 255; 31 is the largest
SHORT = rvq_pb2.CodeFrames(frame_count=2, codebook_count=4, codes=b"\0" * 15)
WRONG: dict[str, dict[str, Any]] = {
    "sampling_params.temperature": {"sampling_params": engine_pb2.SamplingParams(temperature=-1)},
    "sampling_params.top_k": {"sampling_params": engine_pb2.SamplingParams(top_k=0)},
    "sampling_params.seed": {"sampling_params": engine_pb2.SamplingParams(seed=-4)},
    "max_frame_count": {"max_frame_count": 0},
    "first_batch_frame_count": {"first_batch_frame_count": -5},
    "max_batch_frame_count": {"max_batch_frame_count": -1},
    "segments": {"segments": []},
    "segments[0].codes": {"segments": [engine_pb2.Segment(text="x", codes=SHORT), engine_pb2.Segment(text="y")]},
    "segments[1].codes": {
        "segments": [engine_pb2.Segment(), engine_pb2.Segment(codes=UNKNOWN), engine_pb2.Segment(text="y")]
    },
    "segments[0].speaker_id": {"segments": [engine_pb2.Segment(text="x", speaker_id=-1)]},
    "resume_frames": {"resume_frames": SHORT},
    "resume_frames.first_frame_index": {
        "resume_frames": rvq_pb2.CodeFrames(first_frame_index=3, frame_count=1, codebook_count=4, codes=b"\0" * 8)
    },
    "segments[0].text": {"segments": [engine_pb2.Segment(text="x" * 600)]},
}


@pytest.mark.parametrize("field", WRONG)
async def test_wrong_request_names_the_field(field: str, stage: EngineStage, stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await collect(stub, generate_request(**WRONG[field]))
    error = status.from_rpc_error(raised.value)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.field_violations] == [field]
    await wait_until_idle(stage)


async def test_other_codec_is_refused(stub: Stub) -> None:
    fits = rvq_pb2.CodecIdentity(name="mimi", weights_digest="abc", codebook_count=4)
    assert await collect(stub, generate_request(codec=fits))
    fits.weights_digest = "def"
    with pytest.raises(grpc.aio.AioRpcError, match="weights_digest is abc; the caller's is def") as raised:
        await collect(stub, generate_request(codec=fits))
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_only_live_streams_are_paced(settings: EngineSettings) -> None:

    stage = await start_engine(settings.model_copy(update={"drain_seconds": 0.0, "max_playout_lead_seconds": 1.0}))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
            stub: Stub = engine_pb2_grpc.EngineServiceStub(channel)
            live = stub.Generate(generate_request(400, live=True, max_batch_frame_count=2))
            assert (await read_event(live)).HasField("started")
            other = await collect(stub, generate_request(400, max_batch_frame_count=2))
            assert len(codes_of(other)) == 400
            assert not live.done()  # though it began first: 400 frames of 80 ms without the lead take 31 s
            live.cancel()
    finally:
        await stage.stop()
