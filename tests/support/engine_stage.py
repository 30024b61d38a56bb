"""For tests of csm.engine.v1: requests, responses, and waits until a stage has a certain load."""

from __future__ import annotations

from typing import Any

import numpy as np
from csm.engine.v1 import engine_pb2

from services.engine.stage import EngineStage
from tests.support.waits import eventually

Stub = Any


def generate_request(frames: int = 6, **changes: Any) -> engine_pb2.GenerateRequest:
    values: dict[str, Any] = {
        "request_id": "r",
        "segments": [engine_pb2.Segment(speaker_id=0, text="Hello.")],
        "sampling_params": engine_pb2.SamplingParams(temperature=0.9, top_k=10, seed=5),
        "max_frame_count": frames,
    }
    return engine_pb2.GenerateRequest(**(values | changes))


def long_request() -> engine_pb2.GenerateRequest:
    """A request that a stage which holds live streams back, as that of tests/services/engine, takes 40 s for."""
    return generate_request(500, live=True)


async def collect(stub: Stub, request: engine_pb2.GenerateRequest) -> list[engine_pb2.GenerateResponse]:
    """All responses but `progress`, which a busy stage may send at any place."""
    return [response async for response in stub.Generate(request) if not response.HasField("progress")]


def codes_of(responses: list[engine_pb2.GenerateResponse]) -> np.ndarray:
    """(frames, codebooks)"""
    parts = [
        np.frombuffer(r.frames.codes, "<u2").reshape(r.frames.frame_count, r.frames.codebook_count)
        for r in responses
        if r.HasField("frames")
    ]
    return np.concatenate(parts)


async def wait_for_load(stage: EngineStage, running: int, waiting: int) -> None:
    await eventually(lambda: stage.async_engine.thread.load() == (running, waiting))


async def wait_until_idle(stage: EngineStage) -> None:
    await wait_for_load(stage, 0, 0)
