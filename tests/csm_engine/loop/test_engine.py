"""The loop with a tiny seeded model: codes do not depend on what else runs, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from csm_bundle.errors import EngineBusyError, EngineFaultError, InvalidRequestError, PromptTooLongError
from csm_engine.loop.engine import Engine
from csm_engine.loop.health import MOST_INVALID
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.types import Codes, FinishReason, GenerationRequest, SamplingParams, Segment
from tests.support.generation import run_all

HAS_NATIVE_BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
LONG = "x" * 80  # leaves room for few frames in the window of 128 positions


MakeEngine = Callable[..., Engine]


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine(slots=4, max_waiting=16, prefill_chunk=8, reserved_frames=10)


def codes(frames: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(1, 64, (frames, 8), dtype=np.int16)


def request(name: str = "a", *, frames: int = 8, seed: int = 7, text: str = "Hello.") -> GenerationRequest:
    context = Segment(1, "Who?", codes(6))
    return GenerationRequest(name, [context, Segment(0, text)], frames, SamplingParams(seed=seed))


def test_same_seed_same_codes_and_another_seed_others(engine: Engine) -> None:
    first = run_all(engine, [request("a")])["a"]
    again = run_all(engine, [request("a")])["a"]
    other = run_all(engine, [request("a", seed=8)])["a"]
    assert first.shape == (8, 8)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_batched_equals_alone(engine: Engine) -> None:
    requests = [request(str(i), seed=i, frames=5 + 3 * i, text="Hi " * (i + 1)) for i in range(4)]
    together = run_all(engine, requests)
    for item in requests:
        np.testing.assert_array_equal(together[item.request_id], run_all(engine, [item])[item.request_id])


@pytest.mark.skipif(not HAS_NATIVE_BF16, reason="this CPU has no native bf16: rows of a matrix product may round apart")
def test_batched_logits_equal_alone_to_the_bit_in_bf16(tiny_config: ModelConfig) -> None:
    assert batched_against_alone(tiny_config, torch.bfloat16) == 0


def test_batched_logits_equal_alone_within_rounding_in_fp32(tiny_config: ModelConfig) -> None:
    assert batched_against_alone(tiny_config, torch.float32) < 1e-5


def batched_against_alone(config: ModelConfig, dtype: torch.dtype) -> float:
    """The largest difference of one row's logits for codebook 0, in a batch of 5 and alone in another slot."""
    from csm_engine.reference.backbone import Backbone
    from csm_engine.reference.torchtune_stacks import with_torchtune

    backbone = Backbone(with_torchtune(random_model(config, seed=2, dtype=dtype)), num_slots=6)
    generator = torch.Generator().manual_seed(3)
    prompt = torch.randn(9, config.backbone.dim, generator=generator).to(dtype)
    step = torch.randn(5, config.backbone.dim, generator=generator).to(dtype)
    with torch.inference_mode():
        for slot in range(6):
            backbone.prefill(prompt, slot, 0)
        positions = torch.full((5,), 9)
        batched = backbone.codebook0_logits(backbone.step(step, torch.arange(5), positions, 10))
        alone = backbone.codebook0_logits(backbone.step(step[2:3], torch.tensor([5]), positions[:1], 10))
    return float((batched[2:3] - alone).abs().max() / alone.abs().max())


def test_a_sequence_that_joins_late_changes_no_codes(engine: Engine) -> None:
    requests = [request(str(i), seed=i) for i in range(4)]
    staggered = run_all(engine, requests, steps_between=3)
    for item in requests:
        np.testing.assert_array_equal(staggered[item.request_id], run_all(engine, [item])[item.request_id])


def test_chunked_prefill_equals_whole(make_engine: MakeEngine) -> None:
    results = [run_all(make_engine(slots=2, prefill_chunk=chunk), [request("a")])["a"] for chunk in (1, 3, 64)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_a_reused_slot_gives_the_same_codes(make_engine: MakeEngine) -> None:
    one_slot = make_engine(slots=1, spare_slots=0)
    fresh = run_all(one_slot, [request("a", text="Short.")])["a"]
    run_all(one_slot, [request("b", text="A much longer text that fills more of the slot.", frames=30)])
    np.testing.assert_array_equal(run_all(one_slot, [request("a", text="Short.")])["a"], fresh)


def test_a_resumed_request_gives_the_remaining_frames(engine: Engine) -> None:
    whole = run_all(engine, [request("a", frames=20)])["a"]
    for made in (1, 7, 19):
        resumed = replace(request("a", frames=20), resume=whole[:made])
        np.testing.assert_array_equal(run_all(engine, [resumed])["a"], whole[made:])


def test_resume_keeps_the_context_that_the_first_run_kept(engine: Engine) -> None:
    """Its frames use the room that was reserved for frames, so no more turns are dropped to make room."""
    filler = Segment(speaker=0, text="x" * 20)
    for count in range(1, 30):
        asked = replace(request("a", frames=30), segments=[filler] * count + [request("a").segments[-1]])
        sequence = engine.add_request(asked)
        engine.abort(sequence)
        resumed = engine.add_request(replace(asked, resume=np.ones((9, 8), dtype=np.int16)))
        engine.abort(resumed)
        assert resumed.prompt.dropped_segments == sequence.prompt.dropped_segments
    assert sequence.prompt.dropped_segments


def test_pinned_segments_are_kept_and_older_turns_after_them_are_dropped(engine: Engine) -> None:
    pinned, filler = Segment(speaker=1, text="p" * 20), Segment(speaker=0, text="x" * 20)
    spoken = request("a").segments[-1]
    asked = replace(request("a"), segments=[pinned, *[filler] * 20, spoken], pinned_segments=1)
    sequence = engine.add_request(asked)
    engine.abort(sequence)
    kept = 20 - sequence.prompt.dropped_segments
    assert 0 < kept < 20
    alone = engine.add_request(replace(asked, segments=[pinned, *[filler] * kept, spoken]))
    engine.abort(alone)
    assert alone.prompt.dropped_segments == 0
    np.testing.assert_array_equal(sequence.prompt.rows, alone.prompt.rows)


def test_pinned_segments_that_do_not_fit_are_refused(engine: Engine) -> None:
    segments = [Segment(1, "p" * 120), request("a").segments[-1]]
    with pytest.raises(PromptTooLongError, match=r"segments\[0\]: the pinned segments take"):
        engine.add_request(replace(request("a"), segments=segments, pinned_segments=1))
    for wrong in (-1, 2):
        with pytest.raises(InvalidRequestError, match="pinned_segments"):
            engine.add_request(replace(request("a"), segments=segments, pinned_segments=wrong))


@pytest.mark.parametrize("text", ["y" * 40, "y" * 110], ids=["with context", "text alone"])
def test_resume_makes_the_last_frames_that_the_window_has_room_for(engine: Engine, text: str) -> None:
    filler = Segment(speaker=0, text="x" * 60) if len(text) < 60 else Segment(0, "x" * 20)
    asked = replace(request("a", frames=1000), segments=[filler, Segment(0, text)])
    whole = run_all(engine, [asked])["a"]
    for made in range(len(whole) - 2, len(whole)):
        np.testing.assert_array_equal(run_all(engine, [replace(asked, resume=whole[:made])])["a"], whole[made:])


def test_context_changes_the_codes(engine: Engine) -> None:
    with_context = run_all(engine, [request("a")])["a"]
    bare = replace(request("a"), segments=request("a").segments[-1:])
    assert (run_all(engine, [bare])["a"] != with_context).any()


def test_more_requests_than_slots_all_finish(engine: Engine) -> None:
    made = run_all(engine, [request(str(i), seed=i, frames=3 + i) for i in range(10)])
    assert {name: len(frames) for name, frames in made.items()} == {str(i): 3 + i for i in range(10)}


def test_cancel_frees_slot(engine: Engine) -> None:
    sequences = [engine.add_request(request(str(i), frames=50)) for i in range(5)]
    while engine.num_running < 4:
        engine.step()
    assert engine.num_waiting == 1
    engine.abort(sequences[0])
    engine.abort(sequences[0])
    assert sequences[0].finish_reason is FinishReason.CANCELLED
    engine.step()  # part of the fourth request's prefill
    engine.step()
    assert (engine.num_running, engine.num_waiting) == (4, 0)
    for item in sequences[1:]:
        engine.abort(item)
    assert not engine.has_work


def test_cancel_while_waiting_and_while_prefilling(engine: Engine) -> None:
    first = engine.add_request(request("a"))
    engine.abort(first)
    second = engine.add_request(request("b", text="long " * 5))
    engine.step()
    assert second.prefilled > 0 and second.num_frames == 0
    engine.abort(second)
    assert not engine.has_work
    assert len(run_all(engine, [request("c")])["c"]) == 8


def finish_reason(engine: Engine, item: GenerationRequest) -> FinishReason | None:
    sequence = engine.add_request(item)
    while engine.has_work:
        engine.step()
    reason = sequence.finish_reason
    engine.abort(sequence)
    assert sequence.finish_reason is reason, "a late cancellation changes nothing"
    return reason


def test_frame_limit_and_full_window_are_distinct_outcomes(engine: Engine, tiny_config: ModelConfig) -> None:
    assert finish_reason(engine, request(frames=3)) is FinishReason.MAX_FRAMES
    prompt_rows = len("[1]Who?") + 2 + 6 + 1 + len(f"[0]{LONG}") + 2
    room = tiny_config.max_seq_len - prompt_rows + 1
    endless, fitting = (
        engine.add_request(request(name, frames=frames, text=LONG)) for name, frames in (("a", 10_000), ("b", room))
    )
    made = run_all(engine, [])
    assert len(made["a"]) == len(made["b"]) == room
    assert endless.finish_reason is FinishReason.CONTEXT_WINDOW
    assert fitting.finish_reason is FinishReason.MAX_FRAMES, "as the gateway has it"


def test_all_zero_frame_ends_speech_and_is_not_delivered(make_engine: MakeEngine, model: CSM) -> None:
    silent = random_model(model.config, seed=1)
    for name, parameter in silent.named_parameters():
        if name in ("codebook0_head.weight", "audio_head"):
            parameter.zero_()  # all logits are equal, so greedy sampling draws id 0
    engine = make_engine(silent, slots=1)
    greedy = replace(request(), sampling=SamplingParams(temperature=0.0))
    assert run_all(engine, [greedy]) == {}
    assert finish_reason(engine, greedy) is FinishReason.END_OF_SPEECH
    assert finish_reason(engine, replace(greedy, max_frames=1)) is FinishReason.END_OF_SPEECH


def break_slot(engine: Engine, slot: int) -> None:
    """As a device that miscomputes: the next input of its sequence is not a number."""
    engine._frame_step.state.next_embedding[slot] = torch.nan


def test_an_invalid_frame_ends_its_sequence_alone(engine: Engine) -> None:
    """It is not delivered, and what its slot holds is used by no other request."""
    wanted = run_all(engine, [request("b", seed=8)])["b"]
    asked = GenerationRequest("a", [Segment(0, "Is it so?")], 8, SamplingParams(seed=7))
    broken, sound = engine.add_request(asked), engine.add_request(request("b", seed=8))
    while broken.num_frames < 3:
        engine.step()
    assert broken.slot is not None
    break_slot(engine, broken.slot)
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    assert [output.frame for output in outputs if output.sequence is broken][-1] is None
    assert broken.finish_reason is FinishReason.INVALID_FRAME
    assert len(broken.frames) == broken.num_frames < 8
    np.testing.assert_array_equal(np.stack(sound.frames), wanted)
    again = engine.add_request(asked)
    engine.step()
    assert again.reused <= len("[0]") - 1  # from the other one, whose prompt begins with a 1
    while engine.has_work:
        engine.step()
    np.testing.assert_array_equal(np.stack(again.frames[: len(broken.frames)]), np.stack(broken.frames))


def test_nothing_but_invalid_frames_ends_the_engine(engine: Engine) -> None:
    """A sequence that makes a valid frame among them starts the count again. A request counts once: failovers and its
    own text may bring it back."""

    def run_broken(name: str) -> None:
        sequence = engine.add_request(request(name))
        while sequence.num_frames < 1 and sequence.slot is None:
            engine.step()
        while engine.has_work:
            for slot in range(4):
                break_slot(engine, slot)
            engine.step()
        assert sequence.finish_reason is FinishReason.INVALID_FRAME and not sequence.frames

    for number in range(MOST_INVALID - 1):
        run_broken(str(number))
    run_all(engine, [request("sound", frames=1)])
    for number in range(MOST_INVALID - 1):
        run_broken(str(number))
        run_broken(str(number))
    with pytest.raises(EngineFaultError, match="8 requests in a row ended with an invalid frame"):
        run_broken("last")


def test_prompt_without_room_is_refused_with_the_numbers(engine: Engine) -> None:
    with pytest.raises(PromptTooLongError, match=r"the text takes 205 positions; the model's window is 128"):
        engine.add_request(request(text="x" * 200))


def test_oldest_context_is_dropped_first_and_counted(engine: Engine) -> None:
    turns = [Segment(0, "old", codes(30, 1)), Segment(1, "mid", codes(30, 2)), Segment(0, "new", codes(30, 3))]
    full = GenerationRequest("full", [*turns, Segment(1, "say")], 5)
    sequence = engine.add_request(full)
    assert sequence.prompt.dropped_segments == 1
    engine.abort(sequence)
    kept = GenerationRequest("kept", [*turns[1:], Segment(1, "say")], 5)
    made = run_all(engine, [full, kept])
    np.testing.assert_array_equal(made["full"], made["kept"])


WRONG = {
    "sampling.temperature": replace(request(), sampling=SamplingParams(temperature=-0.1)),
    "sampling.top_k": replace(request(), sampling=SamplingParams(top_k=0)),
    "sampling.seed": replace(request(), sampling=SamplingParams(seed=-1)),
    "max_frames": request(frames=0),
    "segments": replace(request(), segments=[]),
    "segments[0].speaker": replace(request(), segments=[Segment(-1, "x")]),
    "segments[0].codes": replace(request(), segments=[Segment(0, "x", codes(3)[:, :7]), Segment(0, "y")]),
    "resume": replace(request(), resume=np.full((2, 8), 64, dtype=np.int16)),
}


@pytest.mark.parametrize("field", WRONG)
def test_wrong_request_names_the_field_and_takes_no_slot(field: str, engine: Engine) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        engine.add_request(WRONG[field])
    assert raised.value.field == field
    assert not engine.has_work


def test_a_number_of_frames_past_64_bits_is_refused_and_does_not_end_the_engine(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="max_frames: is 9223372036854775808"):
        engine.add_request(request(frames=2**63))
    assert finish_reason(engine, request(frames=2**63 - 1, text=LONG)) is FinishReason.CONTEXT_WINDOW


def test_full_queue_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(slots=1, max_waiting=1)
    engine.add_request(request("a"))
    engine.step()
    engine.add_request(request("b"))
    with pytest.raises(EngineBusyError):
        engine.add_request(request("c"))


def test_ids_past_the_codebook_are_never_drawn(engine: Engine) -> None:
    hot = replace(request("a", frames=20), sampling=SamplingParams(temperature=50.0, top_k=1000, seed=3))
    assert run_all(engine, [hot])["a"].max() < 64


def test_stage_times_add_up(engine: Engine) -> None:
    sequence = engine.add_request(request(frames=5))
    while engine.has_work:
        engine.step()
    stages = sequence.backbone_seconds + sequence.depth_decoder_seconds
    assert stages > 0 and sequence.prefill_seconds > 0
    if not engine._pipeline_depth:  # otherwise frames of a step that is not read yet already count
        assert stages <= sequence.decode_seconds


def test_text_cannot_spell_a_special_token(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    plain = tokenizer.encode(0, "a<|end_of_text|>b")
    assert plain.count(plain[-1]) == 1
