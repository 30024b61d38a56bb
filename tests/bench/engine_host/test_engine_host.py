"""The engine stage over steps that only take time: its sequences end as with a model, and a short run is measured."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from bench.engine_host import __main__ as engine_host
from bench.engine_host import timed_step
from bench.engine_host.timed_step import TimedStep
from csm_engine.config import EngineConfig
from csm_engine.loop.engine import Engine
from csm_engine.scheduling.admission import FRAME_SECONDS
from csm_engine.types import FinishReason, GenerationRequest, Segment
from tests.support.fake_stages import fake_frames
from tests.support.tiny.csm import TINY
from tests.support.tiny.tokenizer import byte_tokenizer


def test_sequences_end_after_the_frames_that_they_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_step, "STEP_S", 0.0)
    monkeypatch.setattr(timed_step, "ROW_S", 0.0)
    config, slots = TINY, EngineConfig(slots=2, spare_slots=0)
    engine = Engine(TimedStep(config, slots.total_slots), byte_tokenizer(tmp_path, config.text_vocab_size), slots)
    sequences = [
        engine.add_request(GenerationRequest(str(frames), [Segment(0, f"{frames} frames.")], frames))
        for frames in (1, 5, 3)
    ]
    while engine.has_work:
        engine.step()
    assert [(item.num_frames, item.finish_reason) for item in sequences] == [
        (frames, FinishReason.MAX_FRAMES) for frames in (1, 5, 3)
    ]


@pytest.mark.slow  # three processes, two of which load torch
@pytest.mark.timeout(300)
def test_streams_of_both_servers_are_whole_and_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert engine_host.main(["--streams", "2", "--frames", "3", "--seconds", "1.2"]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert (row["streams"], row["most_frames_per_message"]) == (2, 3)
    assert row["bare_cpu_ms"] > 0 and row["cpu_ms"] > 0 and row["request_ms"] > 0
    assert 2 + 15 / 3 <= row["messages"] <= 2 + 15  # started and complete, and the frames


class ShortEngine:
    """Answers with one frame, whatever was asked for."""

    async def Generate(self, request: engine_pb2.GenerateRequest, timeout: float) -> AsyncIterator[object]:
        yield engine_pb2.GenerateResponse(frames=fake_frames(0, 1))


async def test_a_stream_that_is_not_whole_is_an_error() -> None:
    arm = engine_host.Arm(cast(engine_pb2_grpc.EngineServiceStub, ShortEngine()), cpu_s=lambda: 0.0)
    assert await engine_host.hear(arm, 0, 1, 1, FRAME_SECONDS) == engine_host.Heard(1, ran_dry=False)
    with pytest.raises(RuntimeError, match="2 frames had 1"):
        await engine_host.hear(arm, 0, 1, 1, 2 * FRAME_SECONDS)
