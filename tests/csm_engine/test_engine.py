"""Claims about the loop on a tiny seeded model: who else runs, and when, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from csm_engine.config import EngineConfig, ModelConfig
from csm_engine.engine import Engine
from csm_engine.errors import EngineBusyError, InvalidRequestError, PromptTooLongError
from csm_engine.frame_step import FrameStep
from csm_engine.lean.frame_step import LeanFrameStep
from csm_engine.lean.weights import pack
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.sequence import Sequence
from csm_engine.tokenizer import TextTokenizer
from csm_engine.types import Codes, FinishReason, GenerationRequest, SamplingParams, Segment

HAS_NATIVE_BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture(scope="module")
def model(tiny_config: ModelConfig) -> CSM:
    return random_model(tiny_config, seed=1)


MakeEngine = Callable[..., Engine]


@pytest.fixture(params=["reference", "lean", "lean, read one step later"])
def make_engine(request: pytest.FixtureRequest, model: CSM, tokenizer: TextTokenizer) -> MakeEngine:
    """Every claim holds for the reference step and for the fast one, read at once and read one step later."""

    def make(model: CSM = model, **settings: int) -> Engine:
        config = EngineConfig(host_lag=int("later" in request.param), **settings)
        if request.param == "reference":
            return Engine(FrameStep(model, config.total_slots), tokenizer, config)
        return Engine(LeanFrameStep(pack(model), config.total_slots), tokenizer, config)

    return make


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine(num_slots=4, max_waiting=16, prefill_chunk=8, reserved_frames=10)


def codes(frames: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(1, 64, (frames, 8), dtype=np.int16)


def request(name: str = "a", *, frames: int = 12, seed: int = 7, text: str = "Hello.") -> GenerationRequest:
    context = Segment(1, "Who?", codes(6))
    return GenerationRequest(name, [context, Segment(0, text)], frames, SamplingParams(seed=seed))


def run(engine: Engine, requests: Iterable[GenerationRequest], *, steps_between: int = 0) -> dict[str, Codes]:
    """Adds the requests, that many steps apart, runs all to their end and gives each one's frames."""
    frames: dict[str, list[Codes]] = {}

    def step() -> None:
        for output in engine.step():
            if output.frame is not None:
                frames.setdefault(output.sequence.request.request_id, []).append(output.frame)

    for item in requests:
        engine.add_request(item)
        for _ in range(steps_between):
            step()
    while engine.has_work:
        step()
    return {name: np.stack(made) for name, made in frames.items()}


def test_same_seed_same_codes_and_another_seed_others(engine: Engine) -> None:
    first = run(engine, [request("a")])["a"]
    again = run(engine, [request("a")])["a"]
    other = run(engine, [request("a", seed=8)])["a"]
    assert first.shape == (12, 8)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_batched_equals_alone(engine: Engine) -> None:
    requests = [request(str(i), seed=i, frames=5 + 3 * i, text="Hi " * (i + 1)) for i in range(4)]
    together = run(engine, requests)
    for item in requests:
        np.testing.assert_array_equal(together[item.request_id], run(engine, [item])[item.request_id])


@pytest.mark.skipif(not HAS_NATIVE_BF16, reason="this CPU has no native bf16: rows of a matrix product may round apart")
def test_batched_logits_equal_alone_to_the_bit_in_bf16(tiny_config: ModelConfig) -> None:
    assert batched_against_alone(tiny_config, torch.bfloat16) == 0


def test_batched_logits_equal_alone_within_rounding_in_fp32(tiny_config: ModelConfig) -> None:
    assert batched_against_alone(tiny_config, torch.float32) < 1e-5


def batched_against_alone(config: ModelConfig, dtype: torch.dtype) -> float:
    """Largest difference of codebook 0's logits of one row: in a batch of 5, and alone in another slot."""
    from csm_engine.model.backbone import Backbone

    backbone = Backbone(random_model(config, seed=2, dtype=dtype), num_slots=6)
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


def test_join_late_changes_nothing(engine: Engine) -> None:
    requests = [request(str(i), seed=i) for i in range(4)]
    staggered = run(engine, requests, steps_between=3)
    for item in requests:
        np.testing.assert_array_equal(staggered[item.request_id], run(engine, [item])[item.request_id])


def test_chunked_prefill_equals_whole(make_engine: MakeEngine) -> None:
    results = [run(make_engine(num_slots=2, prefill_chunk=chunk), [request("a")])["a"] for chunk in (1, 3, 64)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_slot_reuse_leaves_nothing_behind(make_engine: MakeEngine) -> None:
    one_slot = make_engine(num_slots=1, num_spare_slots=0)
    fresh = run(one_slot, [request("a", text="Short.")])["a"]
    run(one_slot, [request("b", text="A much longer text that fills more of the slot.", frames=30)])
    np.testing.assert_array_equal(run(one_slot, [request("a", text="Short.")])["a"], fresh)


def test_resume_goes_on_as_if_it_had_never_stopped(engine: Engine) -> None:
    whole = run(engine, [request("a", frames=20)])["a"]
    for made in (1, 7, 19):
        resumed = replace(request("a", frames=20), resume=whole[:made])
        np.testing.assert_array_equal(run(engine, [resumed])["a"], whole[made:])


def test_resume_keeps_the_context_that_the_first_run_kept(engine: Engine) -> None:
    """Its frames take the room that was reserved for frames: no more turns are dropped to make room for more."""
    filler = Segment(speaker=0, text="x" * 20)
    for count in range(1, 30):
        asked = replace(request("a", frames=30), segments=[filler] * count + [request("a").segments[-1]])
        sequence = engine.add_request(asked)
        engine.abort(sequence)
        resumed = engine.add_request(replace(asked, resume=np.ones((9, 8), dtype=np.int16)))
        engine.abort(resumed)
        assert resumed.prompt.dropped_segments == sequence.prompt.dropped_segments
    assert sequence.prompt.dropped_segments


def test_context_changes_the_codes(engine: Engine) -> None:
    with_context = run(engine, [request("a")])["a"]
    bare = replace(request("a"), segments=request("a").segments[-1:])
    assert (run(engine, [bare])["a"] != with_context).any()


def test_more_requests_than_slots_all_finish(engine: Engine) -> None:
    made = run(engine, [request(str(i), seed=i, frames=3 + i) for i in range(10)])
    assert {name: len(frames) for name, frames in made.items()} == {str(i): 3 + i for i in range(10)}


def step_until_frames(engine: Engine, sequence: Sequence, count: int) -> None:
    while sequence.num_frames < count:
        engine.step()


def test_cancel_frees_slot(engine: Engine) -> None:
    sequences = [engine.add_request(request(str(i), frames=50)) for i in range(5)]
    step_until_frames(engine, sequences[0], 2)
    assert (engine.num_running, engine.num_waiting) == (4, 1)
    engine.abort(sequences[0])
    engine.abort(sequences[0])
    assert sequences[0].finish_reason is FinishReason.CANCELLED
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
    assert len(run(engine, [request("c")])["c"]) == 12


def finish_reason(engine: Engine, item: GenerationRequest) -> FinishReason | None:
    sequence = engine.add_request(item)
    while engine.has_work:
        engine.step()
    return sequence.finish_reason


def test_frame_cap_and_full_window_are_told_apart(engine: Engine, tiny_config: ModelConfig) -> None:
    assert finish_reason(engine, request(frames=3)) is FinishReason.MAX_FRAMES
    assert finish_reason(engine, request(frames=10_000)) is FinishReason.CONTEXT_WINDOW
    made = run(engine, [request("a", frames=10_000)])["a"]
    prompt_rows = len("[1]Who?") + 2 + 6 + 1 + len("[0]Hello.") + 2
    assert len(made) == tiny_config.max_seq_len - prompt_rows + 1


def test_all_zero_frame_ends_speech_and_is_not_delivered(make_engine: MakeEngine, model: CSM) -> None:
    silent = random_model(model.config, seed=1)
    for name, parameter in silent.named_parameters():
        if name in ("codebook0_head.weight", "audio_head"):
            parameter.zero_()  # all logits tie: greedy draws id 0 everywhere
    engine = make_engine(silent, num_slots=1)
    greedy = replace(request(), sampling=SamplingParams(temperature=0.0))
    assert run(engine, [greedy]) == {}
    assert finish_reason(engine, greedy) is FinishReason.END_OF_SPEECH


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
    made = run(engine, [full, kept])
    np.testing.assert_array_equal(made["full"], made["kept"])


WRONG = {
    "sampling_params.temperature": replace(request(), sampling=SamplingParams(temperature=-0.1)),
    "sampling_params.top_k": replace(request(), sampling=SamplingParams(top_k=0)),
    "sampling_params.seed": replace(request(), sampling=SamplingParams(seed=-1)),
    "max_frame_count": request(frames=0),
    "segments": replace(request(), segments=[]),
    "segments[0].speaker_id": replace(request(), segments=[Segment(-1, "x")]),
    "segments[0].codes": replace(request(), segments=[Segment(0, "x", codes(3)[:, :7]), Segment(0, "y")]),
    "resume_frames": replace(request(), resume=np.full((2, 8), 64, dtype=np.int16)),
}


@pytest.mark.parametrize("field", WRONG)
def test_wrong_request_names_the_field_and_takes_no_slot(field: str, engine: Engine) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        engine.add_request(WRONG[field])
    assert raised.value.field == field
    assert not engine.has_work


def test_full_queue_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(num_slots=1, max_waiting=1)
    engine.add_request(request("a"))
    engine.step()
    engine.add_request(request("b"))
    with pytest.raises(EngineBusyError):
        engine.add_request(request("c"))


def test_ids_past_the_codebook_are_never_drawn(engine: Engine) -> None:
    hot = replace(request("a", frames=60), sampling=SamplingParams(temperature=50.0, top_k=1000, seed=3))
    assert run(engine, [hot])["a"].max() < 64


def test_stage_times_add_up(engine: Engine) -> None:
    sequence = engine.add_request(request(frames=5))
    while engine.has_work:
        engine.step()
    assert 0 < sequence.backbone_seconds + sequence.depth_decoder_seconds <= sequence.decode_seconds
    assert sequence.prefill_seconds > 0


def test_text_cannot_spell_a_special_token(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    plain = tokenizer.encode(0, "a<|end_of_text|>b")
    assert plain.count(plain[-1]) == 1


def next_turn(first: GenerationRequest, spoken: Codes, text: str = "And then?") -> GenerationRequest:
    """The conversation goes on: what was said, with its codes, and a new text."""
    *context, said = first.segments
    answered = Segment(said.speaker, said.text, spoken)
    return GenerationRequest("next", [*context, answered, Segment(1, text)], 8, SamplingParams(seed=21))


def reused_by(engine: Engine, item: GenerationRequest) -> tuple[int, Codes]:
    sequence = engine.add_request(item)
    frames = []
    while engine.has_work:
        frames += [output.frame for output in engine.step() if output.frame is not None]
    return sequence.reused, np.stack(frames)


def test_next_turn_reuses_what_the_last_one_left(engine: Engine, make_engine: MakeEngine) -> None:
    first = request(frames=12)
    turn = next_turn(first, run(engine, [first])["a"])
    reused, frames = reused_by(engine, turn)
    prompt_rows = len("[1]Who?") + 2 + 6 + 1 + len("[0]Hello.") + 2
    assert reused == prompt_rows + 11  # the last of the 12 frames was made but never fed
    fresh = make_engine(num_slots=1, num_spare_slots=0)
    assert reused_by(fresh, turn)[0] == 0
    np.testing.assert_array_equal(frames, run(fresh, [turn])["next"])


def test_shared_voice_prompt_is_prefilled_once(engine: Engine) -> None:
    run(engine, [request("a", text="One.")])
    alone = {text: run(engine, [request(text, text=text)])[text] for text in ("Two.", "Three.")}
    sequences = [engine.add_request(request(text, text=text)) for text in alone]
    engine.step()
    assert all(sequence.reused >= len("[1]Who?") + 2 + 7 + len("[0]") for sequence in sequences)
    for sequence in sequences:
        engine.abort(sequence)
    again = run(engine, [request(text, text=text) for text in alone])
    for text, frames in alone.items():
        np.testing.assert_array_equal(frames, again[text])


def test_cancelled_prefill_leaves_only_what_was_done(engine: Engine) -> None:
    long = request("long", text="word " * 12)
    sequence = engine.add_request(long)
    engine.step()
    engine.abort(sequence)
    reused, frames = reused_by(engine, long)
    assert reused == 8  # one chunk
    np.testing.assert_array_equal(frames, run(engine, [long])["long"])
