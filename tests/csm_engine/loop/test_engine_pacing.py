"""An engine with a limit on the playout lead: the same codes, with pauses in between."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from csm_engine.config import EngineConfig
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.weights import pack
from csm_engine.loop.engine import Engine, Output
from csm_engine.loop.engine_thread import EngineThread
from csm_engine.model.csm import CSM
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.types import Codes, GenerationRequest, SamplingParams, Segment

FRAME_SECONDS = 0.08


class Clock:
    """A clock that stands still until the test sets it."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


def engine(model: CSM, tokenizer: TextTokenizer, clock: Clock | None = None, **settings: float) -> Engine:
    config = EngineConfig(slots=4, **settings)
    step = PackedFrameStep(pack(model), config.total_slots)
    return Engine(step, tokenizer, config, clock or time.monotonic)


def request(name: str, frames: int = 40, *, live: bool = True) -> GenerationRequest:
    return GenerationRequest(name, [Segment(0, f"Hello {name}.")], frames, SamplingParams(seed=len(name)), live=live)


def frames_of(outputs: list[Output], name: str) -> list[Codes]:
    return [out.frame for out in outputs if out.frame is not None and out.sequence.request.request_id == name]


def run_until_idle(engine: Engine) -> list[Output]:
    outputs = []
    while engine.next_wakeup() == 0:
        outputs += engine.step()
    return outputs


@pytest.mark.parametrize("lag", [0, 1])
def test_a_paced_live_sequence_gives_the_same_codes(lag: int, model: CSM, tokenizer: TextTokenizer) -> None:
    clock = Clock()
    paced = engine(model, tokenizer, clock, max_playout_lead_seconds=1.0, pipeline_depth=lag)
    paced.add_request(request("a"))
    outputs = run_until_idle(paced)
    assert len(frames_of(outputs, "a")) == 7  # 0.56 s, the first count that is half a second
    assert paced.next_wakeup() == pytest.approx(0.06)
    while paced.has_work:
        clock.now += paced.next_wakeup() or 0.0
        clock.now += 1e-6  # timers fire a little late
        made = run_until_idle(paced)
        assert made, "woken without work"
        outputs += made
    free = engine(model, tokenizer)
    free.add_request(request("a"))
    np.testing.assert_array_equal(np.stack(frames_of(outputs, "a")), np.stack(frames_of(run_until_idle(free), "a")))
    assert clock.now - Clock.now == pytest.approx((40 - 7) * FRAME_SECONDS, abs=0.03)


def test_offline_sequences_run_while_live_ones_have_enough_lead(model: CSM, tokenizer: TextTokenizer) -> None:
    paced = engine(model, tokenizer, Clock(), max_playout_lead_seconds=1.0)
    paced.add_request(request("a"))
    paced.add_request(request("offline", live=False))
    outputs = run_until_idle(paced)
    assert len(frames_of(outputs, "offline")) == 40
    assert len(frames_of(outputs, "a")) == 13  # steps that others need take it up to the limit


def test_a_new_sequence_runs_at_once_while_the_others_are_paused(model: CSM, tokenizer: TextTokenizer) -> None:
    paced = engine(model, tokenizer, Clock(), max_playout_lead_seconds=1.0)
    paced.add_request(request("a"))
    run_until_idle(paced)
    paced.add_request(request("bb"))
    assert len(frames_of(run_until_idle(paced), "bb")) == 7


def test_the_thread_sleeps_while_all_sequences_are_paused(model: CSM, tokenizer: TextTokenizer) -> None:
    """Frames beyond the lead come in real time, with hardly more steps than frames: it neither spins nor oversleeps."""
    num_frames, lead_s = 70, 4.8  # the lead leaves room for delays on a busy machine
    paced = engine(model, tokenizer, max_playout_lead_seconds=lead_s)
    steps, ended, arrivals = 0, threading.Event(), []
    run_step = paced.step

    def counted() -> list[Output]:
        nonlocal steps
        steps += 1
        return run_step()

    def deliver(outputs: list[Output]) -> None:
        for output in outputs:
            if output.frame is not None:
                arrivals.append(time.monotonic())
            if output.finish_reason is not None:
                ended.set()

    paced.step = counted  # type: ignore[method-assign]
    thread = EngineThread(paced, deliver, fail=lambda error: ended.set())
    thread.start()
    try:
        thread.add(paced.prepare(replace(request("a"), max_frames=num_frames))).result(20)
        assert ended.wait(60)
    finally:
        thread.stop()
    assert len(arrivals) == num_frames and steps <= 1.5 * num_frames
    assert arrivals[-1] - arrivals[0] >= (num_frames - 1) * FRAME_SECONDS - lead_s
    late = [at - arrivals[0] - FRAME_SECONDS * index for index, at in enumerate(arrivals)]
    assert max(late) <= 0.0, "a listener would have heard a gap"
