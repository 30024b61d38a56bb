"""The captured step against the eager one, on a CUDA device, at a size where kernels meet their real tile shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import pytest
import torch

from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.matrix import FLOAT8
from csm_engine.execution.ops import triton_ops
from csm_engine.execution.prompt_rows import FirstFrame, PromptRows
from csm_engine.execution.weights import pack
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.reference.frame_step import ReferenceFrameStep
from csm_engine.scheduling.buckets import PROMPT_TILE, buckets_up_to
from csm_engine.types import SamplingParams
from tests.gpu.device import DEVICE, ON_GPU, put, times

ROWS = 64
FULL = ModelConfig(
    backbone=TransformerConfig(num_layers=2, dim=512, num_heads=8, num_kv_heads=2, ffn_dim=1024, max_seq_len=1024),
    depth_decoder=TransformerConfig(num_layers=2, dim=256, num_heads=2, num_kv_heads=1, ffn_dim=512, max_seq_len=64),
    text_vocab_size=320,
    audio_vocab_size=2051,
    num_codebooks=32,
    codebook_size=2048,
)
TINY = replace(
    FULL,
    backbone=replace(FULL.backbone, num_layers=1, dim=64, num_heads=2, num_kv_heads=1, ffn_dim=64),
    depth_decoder=replace(FULL.depth_decoder, num_layers=1, dim=32, ffn_dim=32),
    audio_vocab_size=67,
    num_codebooks=3,
    codebook_size=64,
)
SMALL = FULL if ON_GPU else TINY


@pytest.fixture(scope="module")
def model() -> CSM:
    return random_model(SMALL, seed=1, device=DEVICE, dtype=torch.bfloat16)


def new_step(model: CSM, form: str, slots: int = ROWS) -> PackedFrameStep:
    weights = pack(model, quantization="float8" if form == "float8" else "none", fused=form == "fused")
    return PackedFrameStep(weights, slots, kv_dtype=FLOAT8 if form == "float8" else None)


@pytest.fixture(scope="module", params=["plain", "fused", "float8"])
def form(request: pytest.FixtureRequest) -> str:
    """Whose products: the vendor's, ours, ours over weights and a cache in eight bits."""
    return str(request.param)


@pytest.fixture(scope="module")
def runner(model: CSM, form: str) -> GraphRunner:
    return GraphRunner(new_step(model, form), ROWS)


Refused = Callable[[], AbstractContextManager[None]]
Step = PackedFrameStep | GraphRunner | ReferenceFrameStep


def start(step: Step, slot: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    prompt = torch.randn(20 + seed % 300, SMALL.backbone.dim, generator=generator).to(DEVICE, torch.bfloat16)
    step.backbone.prefill(prompt[:-1], slot, 0)
    step.state.start(slot, prompt[-1], position=len(prompt) - 1, frame=0, sampling=SamplingParams(seed=seed))


@torch.inference_mode()
def frames_of(step: Step, slots: list[int], watched: int, num_frames: int = 10) -> torch.Tensor:
    """(frames, K) of one slot; every slot runs the request whose seed is its own number, but `watched` runs 7."""
    for slot in slots:
        start(step, slot, 7 if slot == watched else 1000 + slot)
    index = torch.tensor(slots, device=DEVICE)
    return torch.stack([step(index)[slots.index(watched)].clone() for _ in range(num_frames)]).cpu()


def test_graph_equals_eager(model: CSM, form: str, runner: GraphRunner) -> None:
    slots = list(range(ROWS))
    assert torch.equal(frames_of(runner, slots, 3), frames_of(new_step(model, form), slots, 3))


@pytest.mark.parametrize("rows", [1, 64])
def test_dependent_launches_give_the_same_codes(
    model: CSM, form: str, runner: GraphRunner, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels that start before the previous one has ended read nothing too early: many frames, compared bit by bit."""
    slots = list(range(rows))
    expected = frames_of(runner, slots, 0, len(times(50)))
    monkeypatch.setattr(triton_ops, "dependent_launch", True)
    dependent = GraphRunner(new_step(model, form), rows)
    for _ in range(3):
        assert torch.equal(frames_of(dependent, slots, 0, len(times(50))), expected)


@pytest.mark.parametrize("bucket", [bucket for bucket in buckets_up_to(ROWS) if bucket > 4])
def test_slot_and_neighbours_change_nothing_within_a_bucket(runner: GraphRunner, bucket: int) -> None:
    """Products then have one shape. Between buckets a vendor's library may sum in another order."""
    least = buckets_up_to(ROWS)[buckets_up_to(ROWS).index(bucket) - 1] + 1
    full = frames_of(runner, list(range(bucket)), 0)
    assert torch.equal(frames_of(runner, list(range(ROWS - least, ROWS)), ROWS - 1), full)


def test_constant_shape_gives_the_same_codes_whatever_the_batch(model: CSM, form: str) -> None:
    constant = GraphRunner(new_step(model, form), ROWS, constant_shape=True)
    alone = frames_of(constant, [5], 5)
    for slots in ([63, 2, 5], list(range(33)), list(range(ROWS))):
        assert torch.equal(frames_of(constant, slots, 5), alone)


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 7, ROWS])
def test_the_first_two_depth_positions_in_one_pass_equal_two_passes(model: CSM, form: str, rows: int) -> None:
    decoder = new_step(model, form).depth_decoder
    first, second = torch.randn(2, rows, SMALL.depth_decoder.dim, device=DEVICE).bfloat16()
    caches = decoder._frame_caches(rows)
    decoder._run(first.clone(), 0, caches)
    expected = decoder._run(second.clone(), 1, caches).float()
    for layer in caches:
        for part in layer:
            part.fill_(torch.nan)
    ours = decoder._run_first_two(first, second, caches).float()
    assert (ours - expected).norm() <= 2e-2 * expected.norm()
    assert all(part[:, :, :2].isfinite().all() for layer in caches for part in layer)


@torch.inference_mode()
def test_copied_prefix_gives_the_same_codes(runner: GraphRunner) -> None:
    expected = frames_of(runner, [1], 1)
    start(runner, 1, 7)
    length = int(runner.state.position[1])
    runner.backbone.cache.copy(1, 9, length)
    runner.state.start(9, runner.state.next_embedding[1], position=length, frame=0, sampling=SamplingParams(seed=7))
    index = torch.tensor([9], device=DEVICE)
    assert torch.equal(torch.stack([runner(index)[0].clone() for _ in range(10)]).cpu(), expected)


@torch.inference_mode()
def test_no_host_sync_inside_a_step(runner: GraphRunner, refuse_host_syncs: Refused) -> None:
    for slot in range(4):
        start(runner, slot, slot)
    index = torch.arange(4, device=DEVICE)
    with refuse_host_syncs():
        for _ in range(3):
            runner(index)


@torch.inference_mode()
def test_ten_thousand_steps_allocate_nothing(runner: GraphRunner) -> None:
    start(runner, 0, 0)
    index = torch.tensor([0], device=DEVICE)
    runner(index)
    before = torch.cuda.memory_allocated()
    for _ in times(10_000):
        runner(index)
        runner.state.position[0] = 30
    assert torch.cuda.memory_allocated() == before


@torch.inference_mode()
def test_packed_logits_are_near_the_reference(model: CSM, form: str) -> None:
    reference, packed = ReferenceFrameStep(model, 2), new_step(model, form, 2)
    for step in (reference, packed):
        start(step, 1, 3)
    slots, positions = torch.tensor([1], device=DEVICE), packed.state.position[1:2]
    embedding = packed.state.next_embedding[1:2]
    expected = reference.backbone.step(embedding, slots, positions, int(positions) + 1).float()
    ours = packed.backbone.step(embedding, slots, positions).float()
    assert (ours - expected).abs().max() <= (0.2 if form == "float8" else 0.03) * expected.abs().max()


PROMPT_ROWS = {4: 37, 0: 9, 2: 1, 61: 200, 33: 65}  # slot -> rows of its prompt


def prompt_of(slot: int, start: int = 0, end: int | None = None) -> PromptRows:
    """Rows start..end of a slot's prompt of text and codes, and its start where they are the last."""
    numbers, length = np.random.default_rng(slot), PROMPT_ROWS[slot]
    rows = numbers.integers(0, SMALL.codebook_size, (length, SMALL.num_codebooks + 1), dtype=np.int32)
    rows[: length // 2, :-1], rows[length // 2 :, -1] = -1, -1
    rows[: length // 2, -1] %= SMALL.text_vocab_size
    last = length - 1
    end = last if end is None else end
    first = FirstFrame(rows[-1], last, 0, SamplingParams(seed=slot)) if end == last else None
    return PromptRows(slot, start, rows[start:end], first)


@torch.inference_mode()
def after_passes(step: Step, passes: list[list[PromptRows]], num_frames: int = 10) -> torch.Tensor:
    """(frames, slots, K + 1) of every slot that has a prompt."""
    for prompts in passes:
        step.prefill(prompts)
    index = torch.tensor(list(PROMPT_ROWS), device=DEVICE)
    return torch.stack([step(index).clone() for _ in range(num_frames)]).cpu()


def test_captured_pass_equals_eager(model: CSM, form: str) -> None:
    """All in one bucket of rows, so that products have one shape."""
    passes = [
        [prompt_of(4), prompt_of(0)],
        [prompt_of(2)],
        [prompt_of(61)],
        [prompt_of(33, 0, 40)],
        [prompt_of(33, 40)],
    ]
    captured, eager = GraphRunner(new_step(model, form), ROWS, constant_shape=True), new_step(model, form)
    expected = after_passes(captured, passes)
    with torch.inference_mode():
        for prompts in passes:
            eager.prefill_pass(put(eager.prompt_table(prompts, 256, PROMPT_TILE if ON_GPU else 1)))
    again = GraphRunner(eager, ROWS, constant_shape=True)
    assert torch.equal(after_passes(again, []), expected)


def test_prompts_prefilled_together_equal_each_alone(model: CSM, form: str) -> None:
    """In constant shape, whatever other prompts there are, and wherever a prompt is cut into chunks."""
    runner = GraphRunner(new_step(model, form), ROWS, prefill_rows=512, constant_shape=True)
    expected = after_passes(runner, [[prompt_of(slot)] for slot in PROMPT_ROWS])
    assert torch.equal(after_passes(runner, [[prompt_of(slot) for slot in PROMPT_ROWS]]), expected)
    cut = [
        [prompt_of(61, 0, 19), prompt_of(4)],
        [prompt_of(0), prompt_of(61, 19, 150)],
        [prompt_of(2), prompt_of(61, 150)],
    ]
    assert torch.equal(after_passes(runner, [*cut, [prompt_of(33)]]), expected)


@torch.inference_mode()
def test_a_captured_pass_leaves_keys_near_the_reference(model: CSM, form: str) -> None:
    reference, runner = ReferenceFrameStep(model, ROWS), GraphRunner(new_step(model, form), ROWS)
    for step in (reference, runner):
        step.prefill([prompt_of(slot) for slot in (4, 33)])
        step.prefill([prompt_of(61)])
    for slot, rows in ((4, 36), (33, 64), (61, 199)):
        for ours, theirs in zip(runner.backbone.cache.layers, reference.backbone.cache.layers, strict=True):
            expected = theirs.keys[slot, :rows].float()
            error = (ours.keys[slot, :rows].float() - expected).norm() / expected.norm()
            assert error <= (0.15 if form == "float8" else 0.02)


@torch.inference_mode()
def test_a_pass_is_one_copy_and_one_launch(runner: GraphRunner, refuse_host_syncs: Refused) -> None:
    prompts = [prompt_of(slot) for slot in (4, 0, 2)]
    runner.prefill(prompts)
    # Of all activities, so calls of CUDA are in it.
    with torch.profiler.profile(acc_events=True) as profile, refuse_host_syncs():
        runner.prefill(prompts)
    calls = Counter(event.name for event in profile.events() if event.name.startswith(("cuda", "cu")))
    in_one_launch = calls["cudaGraphLaunch"] == 1 and calls["cudaLaunchKernel"] == 0
    assert (in_one_launch and calls["cudaMemcpyAsync"] <= 1) == ON_GPU, calls
