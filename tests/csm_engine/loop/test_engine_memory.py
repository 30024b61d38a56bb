"""Prefixes that slots keep save work and change no code."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from csm_engine.loop.engine import Engine
from csm_engine.types import Codes, GenerationRequest, SamplingParams, Segment
from tests.support.generation import run_all

MakeEngine = Callable[..., Engine]
VOICE = Segment(1, "Who?", np.random.default_rng(0).integers(1, 64, (6, 8), dtype=np.int16))
VOICE_ROWS = len("[1]Who?") + 2 + 6 + 1


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine(slots=4, max_waiting=16, prefill_chunk=8, reserved_frames=10)


def request(name: str = "a", *, frames: int = 12, seed: int = 7, text: str = "Hello.") -> GenerationRequest:
    return GenerationRequest(name, [VOICE, Segment(0, text)], frames, SamplingParams(seed=seed))


def next_turn(first: GenerationRequest, spoken: Codes, text: str = "And then?") -> GenerationRequest:
    """The next turn of a conversation: the earlier request and its codes as context, and a new text."""
    *context, said = first.segments
    answered = Segment(said.speaker, said.text, spoken)
    return GenerationRequest("next", [*context, answered, Segment(1, text)], 8, SamplingParams(seed=21))


def reused_by(engine: Engine, item: GenerationRequest) -> tuple[int, Codes]:
    sequence = engine.add_request(item)
    frames = []
    while engine.has_work:
        frames += [output.frame for output in engine.step() if output.frame is not None]
    return sequence.reused, np.stack(frames)


def test_cache_usage_is_the_share_of_positions_that_are_filled(engine: Engine) -> None:
    """Those of a resumed request are in its prompt, and count once."""
    whole = run_all(engine, [request()])["a"]
    for made in (0, 7):
        sequence = engine.add_request(replace(request(), resume=whole[:made]) if made else request())
        while sequence.num_frames < 8:
            engine.step()
        assert engine.cache_usage == (VOICE_ROWS + len("[0]Hello.") + 2 - 1 + 8) / (4 * 128)
        engine.abort(sequence)
        assert engine.cache_usage == 0


def test_times_of_a_warm_up_can_be_forgotten(make_engine: MakeEngine) -> None:
    engine = make_engine(slots=2, real_time_share=1)
    run_all(engine, [request()])
    budgets = engine._scheduler.frame_budget, engine._scheduler.prefill_budget
    assert budgets[0].max_rows < math.inf and not budgets[1].allows(1, 0.0)
    engine.reset_timings()
    assert budgets[0].max_rows == math.inf and budgets[1].allows(1, 0.0)


def test_the_next_turn_reuses_the_rows_of_the_last_one(engine: Engine, make_engine: MakeEngine) -> None:
    first = request(frames=12)
    turn = next_turn(first, run_all(engine, [first])["a"])
    reused, frames = reused_by(engine, turn)
    prompt_rows = VOICE_ROWS + len("[0]Hello.") + 2
    assert reused == prompt_rows + 11  # the last of the 12 frames was made, but never fed to the model
    fresh = make_engine(slots=1, spare_slots=0)
    assert reused_by(fresh, turn)[0] == 0
    np.testing.assert_array_equal(frames, run_all(fresh, [turn])["next"])


def test_shared_voice_prompt_is_prefilled_once(engine: Engine) -> None:
    run_all(engine, [request("a", text="One.")])
    alone = {text: run_all(engine, [request(text, text=text)])[text] for text in ("Two.", "Three.")}
    sequences = [engine.add_request(request(text, text=text)) for text in alone]
    while engine.num_waiting:
        engine.step()
    assert all(sequence.reused >= VOICE_ROWS + len("[0]") for sequence in sequences)
    for sequence in sequences:
        engine.abort(sequence)
    again = run_all(engine, [request(text, text=text) for text in alone])
    for text, frames in alone.items():
        np.testing.assert_array_equal(frames, again[text])


def test_a_cancelled_prefill_leaves_only_its_finished_rows(engine: Engine) -> None:
    long = request("long", text="word " * 12)
    sequence = engine.add_request(long)
    engine.step()
    engine.abort(sequence)
    reused, frames = reused_by(engine, long)
    assert reused == 8  # one chunk
    np.testing.assert_array_equal(frames, run_all(engine, [long])["long"])


def test_voice_prompt_of_requests_that_come_together_is_prefilled_once(make_engine: MakeEngine) -> None:
    """The second and the third copy from a slot whose sequence is still running."""
    names = ["One.", "Two, longer.", "Three."]
    alone = {name: run_all(make_engine(slots=1, spare_slots=0), [request(name, text=name)])[name] for name in names}
    engine = make_engine(slots=3, spare_slots=0, prefill_chunk=8)
    sequences = [engine.add_request(request(name, text=name, frames=20)) for name in names]
    while engine.num_waiting:
        engine.step()
    assert [item.finish_reason for item in sequences] == [None] * 3
    assert sequences[0].reused == 0
    assert all(item.reused >= VOICE_ROWS + len("[0]") for item in sequences[1:])
    while engine.has_work:
        engine.step()
    for item in sequences:
        name = item.request.request_id
        np.testing.assert_array_equal(np.stack(item.frames)[:12], alone[name])


def test_source_of_a_copy_may_be_cancelled_at_any_time(make_engine: MakeEngine) -> None:
    expected = run_all(make_engine(slots=1, spare_slots=0), [request("b", text="Two.", frames=6)])["b"]
    for steps in range(1, 9):
        engine = make_engine(slots=2, spare_slots=0, prefill_chunk=8)
        first = engine.add_request(request("a", text="One."))
        second = engine.add_request(request("b", text="Two.", frames=6))
        for _ in range(steps):
            engine.step()
        engine.abort(first)
        run_all(engine, [request("c", text="Three.", seed=3, frames=3)])  # takes the freed slot
        np.testing.assert_array_equal(np.stack(second.frames), expected)


ONE_SLOT = {"slots": 1, "spare_slots": 0, "prefill_chunk": 8}


def conversation(engine: Engine) -> list[tuple[int, Codes]]:
    """Two conversations alternate in one slot. Returns the rows that each turn reused, and its codes."""
    news = []
    turns = [request(str(seed), seed=seed, text=f"Hello {seed}.") for seed in (1, 2)]
    for _ in range(3):
        for index, turn in enumerate(turns):
            reused, said = reused_by(engine, turn)
            news.append((reused, said))
            turns[index] = next_turn(turn, said, "So?")
    return news


def test_conversations_that_share_a_slot_come_back_from_host_memory(make_engine: MakeEngine) -> None:
    without = conversation(make_engine(**ONE_SLOT))
    engine = make_engine(**ONE_SLOT, offload_bytes=10**6)
    with_offload = conversation(engine)
    for (_, expected), (_, said) in zip(without, with_offload, strict=True):
        np.testing.assert_array_equal(said, expected)
    in_common = VOICE_ROWS + 1 + len("[0]Hello ")
    assert [reused for reused, _ in without[2:]] == [in_common] * 4
    first_turn = in_common + len("1.") + 1 + 11  # all its frames but the last, which was never fed to the model
    second_turn = (
        first_turn + 1 + 1 + len("[1]So?") + 2 + 7
    )  # that frame, the end of speech, and the second turn likewise
    assert [reused for reused, _ in with_offload[2:]] == [first_turn] * 2 + [second_turn] * 2


@pytest.mark.parametrize("whole", [True, False])
def test_restored_keys_and_values_are_bit_equal(whole: bool, make_engine: MakeEngine) -> None:
    engine = make_engine(**ONE_SLOT, offload_bytes=10**6)
    first = request("a")
    said = run_all(engine, [first])["a"]
    layers = engine._frame_step.backbone.cache.layers
    before = [(layer.keys[0].clone(), layer.values[0].clone()) for layer in layers]
    run_all(engine, [GenerationRequest("b", [Segment(0, "Something else, and longer.")], 12)])
    sequence = engine.add_request(next_turn(first, said) if whole else request("c", text="Hello there."))
    while not sequence.reused:
        engine.step()
    assert sequence.reused == VOICE_ROWS + (len("[0]Hello.") + 2 + 11 if whole else 1 + len("[0]Hello"))
    for layer, (keys, values) in zip(layers, before, strict=True):
        assert torch.equal(layer.keys[0, : sequence.reused], keys[: sequence.reused])
        assert torch.equal(layer.values[0, : sequence.reused], values[: sequence.reused])
    engine.abort(sequence)


def test_host_memory_stays_within_its_limit(make_engine: MakeEngine) -> None:
    bytes_per_position = 2 * 2 * 2 * 8 * 4  # keys and values, layers, kv heads, head dimension, float32
    limit = 70 * bytes_per_position
    engine = make_engine(**ONE_SLOT, offload_bytes=limit)
    for seed in range(6):
        run_all(engine, [request(str(seed), seed=seed, text=f"{seed} is my number.")])
        kept = sum(part.nbytes for (part,) in engine._offloaded._entries.values())
        assert kept == engine.offloaded_bytes <= limit
    assert kept > limit / 2


def test_a_limit_below_one_page_is_logged(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    make_engine(**ONE_SLOT, offload_bytes=1)
    assert [record.getMessage() for record in caplog.records if record.name == "csm.engine"] == [
        "offload_bytes is 1, less than a page: nothing is offloaded"
    ]
