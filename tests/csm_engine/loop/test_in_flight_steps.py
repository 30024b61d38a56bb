"""A step that is read after the next one is launched changes no code, holds no slot and leaves no wrong state.

The model has so few codes that the all-zero frame comes up by chance, somewhere in the middle of a batch.
"""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from csm_engine.config import EngineConfig
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.weights import pack
from csm_engine.loop.engine import Engine
from csm_engine.loop.in_flight_steps import InFlightSteps
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.reference.frame_step import ReferenceFrameStep
from csm_engine.scheduling.outcome import Outcome
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import Codes, FinishReason, GenerationRequest, SamplingParams, Segment
from tests.support.clock import Clock

SHORT_SPOKEN = ModelConfig(
    backbone=TransformerConfig(num_layers=2, dim=32, num_heads=4, num_kv_heads=2, ffn_dim=64, max_seq_len=64),
    depth_decoder=TransformerConfig(num_layers=1, dim=16, num_heads=2, num_kv_heads=1, ffn_dim=32, max_seq_len=8),
    text_vocab_size=320,
    audio_vocab_size=8,
    num_codebooks=2,
    codebook_size=5,
)
Ended = tuple[Codes, FinishReason | None, int]  # (frames, why the sequence ended, prompt rows that were reused)


@pytest.fixture(scope="module")
def model() -> CSM:
    return random_model(SHORT_SPOKEN, seed=1)


def engine(model: CSM, tokenizer: TextTokenizer, lag: int, **settings: int) -> Engine:
    config = EngineConfig(pipeline_depth=lag, max_waiting=99, prefill_chunk=8, reserved_frames=10, **settings)
    return Engine(PackedFrameStep(pack(model), config.total_slots), tokenizer, config)


def request(seed: int, frames: int = 1000, resume: Codes | None = None) -> GenerationRequest:
    """A request that ends by chance, by its limit of frames or by the window, depending on `frames`."""
    return GenerationRequest(
        str(seed), [Segment(0, "Hi" * (1 + seed % 3))], frames, SamplingParams(seed=seed), resume=resume
    )


def staggered(engine: Engine, requests: list[GenerationRequest], cancel_at: dict[str, int]) -> dict[str, Ended]:
    """Adds a request every other step. cancel_at: after how many frames a request is cancelled."""
    waiting = list(requests)
    running: dict[str, Sequence] = {}
    frames: dict[str, list[Codes]] = {item.request_id: [] for item in requests}
    for step in range(10_000):
        if waiting and step % 2 == 0:
            item = waiting.pop(0)
            running[item.request_id] = engine.add_request(item)
        for output in engine.step():
            name = output.sequence.request.request_id
            assert output.sequence.status.value != "finished" or output.finish_reason is not None
            if output.frame is not None:
                frames[name].append(output.frame)
            if len(frames[name]) == cancel_at.get(name):
                engine.abort(output.sequence)
        if not waiting and not engine.has_work:
            break
    return {
        name: (np.array(frames[name]), sequence.finish_reason, sequence.reused) for name, sequence in running.items()
    }


@pytest.mark.parametrize("slots", [1, 3])
def test_pipelined_steps_give_the_codes_of_unpipelined_ones(slots: int, model: CSM, tokenizer: TextTokenizer) -> None:
    requests = [request(seed, 12 if seed % 4 == 0 else 1000) for seed in range(12)]
    cancel_at = {"3": 4, "9": 2, "10": 1}
    at_once, later = (
        staggered(engine(model, tokenizer, lag, slots=slots, spare_slots=0), requests, cancel_at) for lag in (0, 1)
    )
    ways = set(FinishReason) - {FinishReason.INVALID_FRAME}
    assert {reason for _, reason, _ in at_once.values()} == ways, "every way to end must come up"
    for name, (frames, reason, _) in at_once.items():  # reused rows may differ: slots are freed a step later
        np.testing.assert_array_equal(frames, later[name][0])
        assert reason is later[name][1]


@pytest.mark.parametrize("lag", [0, 1])
def test_the_next_turn_reuses_spoken_rows_and_none_of_a_dead_step(
    lag: int, model: CSM, tokenizer: TextTokenizer
) -> None:
    running = engine(model, tokenizer, lag, slots=1, spare_slots=0)
    endings = set()
    for seed in range(8):
        first = request(seed, 24)
        ((said, ending, _),) = staggered(running, [first], {}).values()
        endings.add(ending)
        answer = Segment(0, first.segments[0].text, said.reshape(-1, 2))
        turn = GenerationRequest("next", [answer, Segment(1, "So?")], 6)
        (spoken, _, reused) = staggered(running, [turn], {})["next"]
        fed = len(said) if ending is FinishReason.END_OF_SPEECH else len(said) - 1
        assert reused == len("[0]" + first.segments[0].text) + 2 + fed
        fresh = staggered(engine(model, tokenizer, 0, slots=1, spare_slots=0), [turn], {})["next"]
        np.testing.assert_array_equal(spoken, fresh[0])
    assert endings == {FinishReason.END_OF_SPEECH, FinishReason.MAX_FRAMES}


def test_a_resumed_request_gives_the_remaining_frames(model: CSM, tokenizer: TextTokenizer) -> None:
    whole = staggered(engine(model, tokenizer, 1, slots=2), [request(5, 12)], {})["5"][0]
    assert len(whole) > 4
    rest = staggered(engine(model, tokenizer, 1, slots=2), [request(5, 12, resume=whole[:3])], {})["5"][0]
    np.testing.assert_array_equal(rest, whole[3:])


@pytest.mark.parametrize("kind", ["reference", "packed"])
@pytest.mark.parametrize("why", [Outcome.MAX_FRAMES, Outcome.CONTEXT_WINDOW, Outcome.END_OF_SPEECH])
@torch.inference_mode()
def test_a_dead_step_of_an_ended_row_changes_nothing(kind: str, why: Outcome, model: CSM) -> None:
    step = ReferenceFrameStep(model, 2) if kind == "reference" else PackedFrameStep(pack(model), 2)
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randn(7, SHORT_SPOKEN.backbone.dim, generator=generator)
    cap = 3 if why is Outcome.MAX_FRAMES else 10_000
    sampling = SamplingParams(
        temperature=0.0 if why is Outcome.CONTEXT_WINDOW else 0.9
    )  # greedy sampling never ends the speech
    step.backbone.prefill(prompt[:-1], 0, 0)
    step.state.start(0, prompt[-1], position=6, frame=0, sampling=sampling, max_frames=cap)
    outcomes: list[Outcome] = []
    while not outcomes or outcomes[-1] is Outcome.FRAME:
        outcomes.append(Outcome(int(step(torch.tensor([0]))[0, -1])))
    assert outcomes[-1] is why
    before = [(cache.keys[:2].clone(), cache.values[:2].clone()) for cache in step.backbone.cache.layers]
    state = [tensor[0].clone() for tensor in (step.state.position, step.state.frame, step.state.next_embedding)]
    for _ in range(3):
        assert step(torch.tensor([0]))[0, -1] == Outcome.NOTHING
    for cache, (keys, values) in zip(step.backbone.cache.layers, before, strict=True):
        assert torch.equal(cache.keys[:2], keys) and torch.equal(cache.values[:2], values)
    for tensor, was in zip((step.state.position, step.state.frame, step.state.next_embedding), state, strict=True):
        assert torch.equal(tensor[0], was)


def test_dead_steps_do_not_count_for_admission(model: CSM, tokenizer: TextTokenizer) -> None:
    """The last step of the first request is read when the next request comes. Nothing in it was computed for a row."""
    running = engine(model, tokenizer, 1, slots=2)
    observed = []
    running._scheduler.frame_budget.observe = lambda rows, seconds: observed.append(rows)  # type: ignore[method-assign]
    for seed in (5, 6):
        frames, reason, _ = staggered(running, [request(seed, 4)], {})[str(seed)]
        assert len(frames) == 4 and reason is FinishReason.MAX_FRAMES and len(running._steps) == 1
    assert observed == 8 * [1]


def test_an_idle_engine_keeps_no_sequence(model: CSM, tokenizer: TextTokenizer) -> None:
    """A dead step of the last sequences is read before the engine waits for the next request."""
    running = engine(model, tokenizer, 1, slots=2)
    rows = weakref.ref(running.add_request(request(5, 4)).prompt.rows)
    while running.next_wakeup() == 0.0:
        running.step()
    assert rows() is None and not running.has_work


def test_a_step_lasts_as_long_as_itself_however_late_it_is_read(clock: Clock) -> None:
    """Neither prefill passes between two steps nor waits of the host count."""

    def step(slots: torch.Tensor) -> torch.Tensor:
        clock.put_forward(0.25)
        return torch.zeros(len(slots), 3, dtype=torch.int16)

    steps = InFlightSteps(step, num_rows=1, num_codebooks=2, depth=1, device=torch.device("cpu"))
    sequence = SimpleNamespace(slot=0)
    for _ in range(2):
        clock.put_forward(5.0)
        steps.launch([sequence])  # type: ignore[list-item]
    clock.put_forward(5.0)
    assert [steps.read().seconds for _ in range(2)] == pytest.approx([0.25, 0.25], abs=0.1)
