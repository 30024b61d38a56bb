"""Requests that wait together are prefilled together, and get the same codes as alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from csm_engine.loop.engine import Engine
from csm_engine.types import GenerationRequest, SamplingParams, Segment
from tests.support.generation import run_all

MakeEngine = Callable[..., Engine]
WIDE = {"slots": 8, "max_waiting": 16, "prefill_chunk": 256}
VOICE = Segment(1, "Who?", np.random.default_rng(0).integers(1, 64, (9, 8), dtype=np.int16))


def requests(*, voice: bool) -> list[GenerationRequest]:
    """Texts that differ from the first letter on, some after a common voice prompt."""
    return [
        GenerationRequest(
            str(i),
            [VOICE] * (voice and i % 2) + [Segment(i % 3, chr(65 + i) * (1 + 6 * i))],
            5 + i,
            SamplingParams(seed=i),
        )
        for i in range(6)
    ]


@pytest.mark.parametrize("voice", [False, True], ids=["unlike", "some of one voice"])
def test_prompts_prefilled_together_equal_each_alone(make_engine: MakeEngine, voice: bool) -> None:
    together = run_all(make_engine(**WIDE), requests(voice=voice))
    for item in requests(voice=voice):
        alone = run_all(make_engine(slots=1, spare_slots=0, prefill_chunk=7), [item])
        np.testing.assert_array_equal(together[item.request_id], alone[item.request_id])


def test_one_step_admits_and_prefills_all_that_fit(make_engine: MakeEngine) -> None:
    engine = make_engine(**WIDE)
    sequences = [engine.add_request(item) for item in requests(voice=False)]
    admitted = engine.step()
    assert [output.sequence for output in admitted] == sequences and engine.num_waiting == 0
    outputs = engine.step() + engine.step()
    assert {output.sequence for output in outputs if output.frame is not None} == set(sequences)
    while engine.has_work:
        engine.step()
    assert all(item.prefill_seconds > 0 for item in sequences)


def test_abort_of_one_that_is_prefilled_together_leaves_the_others(make_engine: MakeEngine) -> None:
    """It is cancelled before, during or after its prefill, which takes several passes of 16 rows."""
    expected = run_all(make_engine(**WIDE), requests(voice=False))
    for steps in range(4):
        engine = make_engine(**{**WIDE, "prefill_chunk": 16})
        sequences = [engine.add_request(item) for item in requests(voice=False)]
        for _ in range(steps):
            engine.step()
        for item in sequences[1::2]:
            engine.abort(item)
        while engine.has_work:
            engine.step()
        assert engine.num_running == 0
        for item in sequences[::2]:
            np.testing.assert_array_equal(np.stack(item.frames), expected[item.request.request_id])


def test_prompts_that_are_cancelled_in_prefill_are_not_kept(make_engine: MakeEngine) -> None:
    """No frame step comes by which the passes' times would be read."""
    engine = make_engine(**{**WIDE, "prefill_chunk": 16})
    for _ in range(5):
        sequences = [engine.add_request(item) for item in requests(voice=True)]
        engine.step()
        for item in sequences:
            engine.abort(item)
    assert len(engine._prefill_timer.take()) <= 1, "the last pass at most"
