"""The metrics that the engine stage keeps of sequences and steps."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from csm_engine.loop.engine import Output
from csm_engine.model.prompt import Prompt
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import FinishReason, GenerationRequest, Segment
from services.engine.metrics import EngineMetrics


def new_sequence() -> Sequence:
    prompt = Prompt(np.zeros((3, 5), np.int32), text_token_count=3)
    return Sequence(GenerationRequest("r", [Segment(0, "x")], max_frames=9), prompt)


def test_time_of_a_frame_step_is_the_mean_of_all_steps_the_one_that_ended_the_speech_included() -> None:
    sequence = new_sequence()
    for _ in range(2):
        sequence.count_step(0.02, {})
    sequence.frames.append(np.ones(4, np.int16))  # the other step found the end of speech
    sequence.num_frames = 1
    sequence.finish(FinishReason.END_OF_SPEECH)
    registry = CollectorRegistry()
    EngineMetrics(registry).observe_end(sequence)
    assert registry.get_sample_value("engine_frame_seconds_sum") == pytest.approx(0.02)


def test_sequences_that_are_admitted_together_are_counted_once_a_step() -> None:
    registry = CollectorRegistry()
    metrics = EngineMetrics(registry)
    frame = Output(new_sequence(), np.ones(4, np.int16))
    ended = Output(new_sequence(), finish_reason=FinishReason.END_OF_SPEECH)
    metrics.observe_step([Output(new_sequence()), frame, Output(new_sequence()), ended])
    metrics.observe_step([frame, ended])
    assert registry.get_sample_value("engine_step_admissions_count") == 1
    assert registry.get_sample_value("engine_step_admissions_sum") == 2
    assert registry.get_sample_value("engine_step_frames_count") == 2
