"""The fast step against the reference: the same codes and logits in any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.matrix import FLOAT8, Quantization, quantized
from csm_engine.execution.ops import dispatch as ops
from csm_engine.execution.ops import torch_ops
from csm_engine.execution.ops.cpu.cpu_frame import CpuDraw
from csm_engine.execution.sampling import SamplingRows, gumbel_noise
from csm_engine.execution.weights import pack
from csm_engine.kv.host_offload import OffloadedKV
from csm_engine.kv.offload_index import Page
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig
from csm_engine.reference.frame_step import ReferenceFrameStep
from csm_engine.reference.sampler import FrameSampler
from csm_engine.scheduling.buckets import buckets_up_to
from csm_engine.types import SamplingParams

SLOTS = 5
Step = ReferenceFrameStep | PackedFrameStep | GraphRunner
Draw = Callable[[SamplingRows, torch.Tensor, int], torch_ops.FrameDraw | CpuDraw]
CODEBOOKS = 4  # of a frame that is drawn


@pytest.fixture(scope="module")
def model(tiny_config: ModelConfig) -> CSM:
    return random_model(tiny_config, seed=4)


def start(step: Step, prompt: torch.Tensor, slot: int, sampling: SamplingParams) -> None:
    step.backbone.prefill(prompt[:-1], slot, 0)
    step.state.start(slot, prompt[-1], position=len(prompt) - 1, frame=0, sampling=sampling)


def prompt_for(model: CSM, slot: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(slot)
    return torch.randn(7 + 5 * slot, model.config.backbone.dim, generator=generator)


def sampling_for(slot: int) -> SamplingParams:
    """Different sampling for each row: greedy, hot, a small top-k, ..."""
    return SamplingParams(temperature=0.45 * slot, top_k=[64, 50, 3, 1000, 20][slot], seed=2**40 + slot)


@torch.inference_mode()
def frames_of(step: Step, model: CSM, slots: list[int], num_frames: int) -> np.ndarray:
    for slot in slots:
        start(step, prompt_for(model, slot), slot, sampling_for(slot))
    return np.stack([step(torch.tensor(slots)).numpy() for _ in range(num_frames)])


def test_same_codes_as_the_reference(model: CSM) -> None:
    slots = [3, 0, 4, 1, 2]
    expected = frames_of(ReferenceFrameStep(model, SLOTS), model, slots, 30)
    np.testing.assert_array_equal(frames_of(PackedFrameStep(pack(model), SLOTS), model, slots, 30), expected)


def test_each_row_gets_the_same_codes_alone_and_in_a_batch(model: CSM) -> None:
    step = PackedFrameStep(pack(model), SLOTS)
    together = frames_of(step, model, list(range(SLOTS)), 12)
    for slot in range(SLOTS):
        np.testing.assert_array_equal(frames_of(step, model, [slot], 12)[:, 0], together[:, slot])


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 3])
def test_the_first_two_positions_in_one_pass_equal_two_passes(model: CSM, rows: int) -> None:
    decoder = PackedFrameStep(pack(model), SLOTS).depth_decoder
    width = model.config.depth_decoder.dim
    first, second = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(rows))
    caches = decoder._frame_caches(rows)
    decoder._run(first.clone(), 0, caches)
    expected = decoder._run(second.clone(), 1, caches)
    kept = [part[:, :, :2].clone() for layer in caches for part in layer]
    for layer in caches:
        for part in layer:
            part.fill_(torch.nan)
    torch.testing.assert_close(decoder._run_first_two(first, second, caches), expected)
    for ours, theirs in zip((part[:, :, :2] for layer in caches for part in layer), kept, strict=True):
        torch.testing.assert_close(ours, theirs)


@torch.inference_mode()
def test_many_rows_take_two_passes_and_give_the_same_codes(model: CSM, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = frames_of(PackedFrameStep(pack(model), SLOTS), model, [3, 0], 12)
    monkeypatch.setattr(ops, "FUSED_ROWS", 3)
    np.testing.assert_array_equal(frames_of(PackedFrameStep(pack(model), SLOTS), model, [3, 0], 12), expected)


@torch.inference_mode()
def test_hidden_states_agree_to_rounding(model: CSM) -> None:
    reference, packed = ReferenceFrameStep(model, SLOTS), PackedFrameStep(pack(model), SLOTS)
    prompt = prompt_for(model, 3)
    for step in (reference, packed):
        step.backbone.prefill(prompt[:9], 1, 0)
        step.backbone.prefill(prompt[9:-1], 1, 9)
    slots, positions = torch.tensor([1]), torch.tensor([len(prompt) - 1])
    expected = reference.backbone.step(prompt[-1:], slots, positions, len(prompt))
    ours = packed.backbone.step(prompt[-1:], slots, positions)
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@torch.inference_mode()
def test_bfloat16_stays_close_to_the_reference_in_bfloat16(tiny_config: ModelConfig) -> None:
    model = random_model(tiny_config, seed=4, dtype=torch.bfloat16)
    reference, packed = ReferenceFrameStep(model, SLOTS), PackedFrameStep(pack(model), SLOTS)
    prompt = prompt_for(model, 3).bfloat16()
    for step in (reference, packed):
        step.backbone.prefill(prompt[:-1], 1, 0)
    slots, positions = torch.tensor([1]), torch.tensor([len(prompt) - 1])
    expected = reference.backbone.step(prompt[-1:], slots, positions, len(prompt)).float()
    ours = packed.backbone.step(prompt[-1:], slots, positions).float()
    assert (ours - expected).abs().max() <= 0.05 * expected.abs().max()


def nearest_in_eight_bits(weight: torch.Tensor, quantization: Quantization) -> torch.Tensor:
    largest = weight.abs().amax(dim=1, keepdim=True)
    if quantization == "int8":
        return (weight / largest * 127).round() * largest / 127
    return (weight / largest * 448).to(torch.float8_e4m3fn).float() * largest / 448


@torch.inference_mode()
@pytest.mark.parametrize("quantization", ["float8", "int8"])
def test_weights_in_eight_bits_are_the_model_s_rounded_and_nothing_else(
    tiny_config: ModelConfig, quantization: Quantization
) -> None:
    model, rounded = random_model(tiny_config, seed=4), random_model(tiny_config, seed=4)
    for layer in (*rounded.backbone.layers, *rounded.depth_decoder.layers):
        attention, mlp = layer.attn, layer.mlp
        behind_norms = (
            (layer.sa_norm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.mlp_norm, (mlp.w1, mlp.w3)),
        )
        for norm, parts in behind_norms:  # their weights are multiplied into the next matrices before those are rounded
            for part in parts:
                part.weight.mul_(norm.scale)
            norm.scale.fill_(1)
        for part in (
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.output_proj,
            mlp.w1,
            mlp.w2,
            mlp.w3,
        ):
            part.weight.copy_(nearest_in_eight_bits(part.weight, quantization))
    slots, packed = [0, 3, 1], (pack(model, quantization=quantization), pack(rounded))
    made, expected = (frames_of(PackedFrameStep(weights, SLOTS), model, slots, 20) for weights in packed)
    np.testing.assert_array_equal(made, expected)
    assert not np.array_equal(made, frames_of(PackedFrameStep(pack(model), SLOTS), model, slots, 20))


@torch.inference_mode()
@pytest.mark.parametrize(("rows", "width"), [(1, 64), (48, 64), (49, 64), (3, 70)])
def test_int8_products_of_few_rows_equal_those_of_many(rows: int, width: int) -> None:
    """For few rows the product is computed in eight bits; for more, the matrix is widened first."""
    generator = torch.Generator().manual_seed(rows)
    matrix = quantized(torch.randn(80, width, generator=generator), "int8")
    x = torch.randn(rows, width, generator=generator).bfloat16()
    assert matrix.scale is not None
    expected = x.float() @ (matrix.values.float() * matrix.scale[:, None]).T
    assert (ops.linear(x, matrix).float() - expected).abs().max() < 0.02 * expected.abs().max()


@torch.inference_mode()
def test_a_cache_of_float8_takes_a_quarter_and_stays_close(model: CSM) -> None:
    exact, small = PackedFrameStep(pack(model), SLOTS), PackedFrameStep(pack(model), SLOTS, kv_dtype=FLOAT8)
    assert 4 * small.backbone.cache.bytes_per_position == exact.backbone.cache.bytes_per_position
    prompt = prompt_for(model, 3)
    hidden = []
    for step in (exact, small):
        step.backbone.prefill(prompt[:9], 1, 0)
        step.backbone.prefill(prompt[9:-1], 1, 9)
        hidden.append(step.backbone.step(prompt[-1:], torch.tensor([1]), torch.tensor([len(prompt) - 1])))
    error = (hidden[1] - hidden[0]).square().mean().sqrt() / hidden[0].square().mean().sqrt()
    assert 0 < error < 0.05


@torch.inference_mode()
@pytest.mark.parametrize("page", [None, Page(4, 4096)], ids=["in one part", "in pages"])
def test_a_slot_of_float8_is_copied_offloaded_and_restored_whole(model: CSM, page: Page | None) -> None:
    backbone = PackedFrameStep(pack(model), SLOTS, kv_dtype=FLOAT8).backbone
    prompt, offloaded = prompt_for(model, 3), OffloadedKV(backbone.cache, page)
    backbone.prefill(prompt, 1, 0)
    backbone.cache.copy(1, 2, len(prompt))
    offloaded.save(7, 1, len(prompt))
    offloaded.restore(7, 3, len(prompt))
    expected = backbone.step(prompt[:1], torch.tensor([1]), torch.tensor([len(prompt)]))
    for slot in (2, 3):
        assert torch.equal(backbone.step(prompt[:1], torch.tensor([slot]), torch.tensor([len(prompt)])), expected)


@torch.inference_mode()
def test_tokens_embed_as_in_the_reference(model: CSM) -> None:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 64, (6, model.config.num_codebooks + 1), generator=generator)
    mask = torch.rand(tokens.shape, generator=generator) < 0.5
    packed = pack(model)
    rows = tokens.masked_fill(~mask, -1)
    ours = ops.embed(rows.t(), packed.audio_embeddings, packed.text_embeddings, model.config.audio_vocab_size)
    assert torch.allclose(ours, model.embed_rows(rows))


@pytest.mark.parametrize("padding", [1, 3])
def test_padding_rows_change_nothing_however_long_they_run(tiny_config: ModelConfig, padding: int) -> None:
    model = random_model(replace(tiny_config, backbone=replace(tiny_config.backbone, max_seq_len=24)), seed=4)
    steps = model.config.max_seq_len + 5  # would run past the window if padding rows advanced
    expected = frames_of(PackedFrameStep(pack(model), SLOTS), model, [0], 12)
    step = PackedFrameStep(pack(model), SLOTS)
    pads = [step.backbone.cache.pad_slot] * padding
    start(step, prompt_for(model, 0), 0, sampling_for(0))
    with torch.inference_mode():
        made = np.stack([step(torch.tensor([0, *pads])).numpy()[0] for _ in range(12)])
        for _ in range(steps):
            step(torch.tensor(pads[:1] * 2))
    np.testing.assert_array_equal(made, expected[:, 0])
    assert step.state.position[-1] == 0


@pytest.mark.parametrize(
    ("rows", "buckets"), [(1, [1]), (5, [1, 2, 3, 4, 5]), (64, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])]
)
def test_buckets_cover_every_batch(rows: int, buckets: list[int]) -> None:
    assert buckets_up_to(rows) == buckets


def torch_draw(sampling: SamplingRows, frame: torch.Tensor, codebook_size: int) -> torch_ops.FrameDraw:
    return torch_ops.FrameDraw(sampling, frame, CODEBOOKS, codebook_size)


@pytest.mark.parametrize("top_k", [1, 5, 50, 64, 1000])
@pytest.mark.parametrize("rows", [slice(0, 1), slice(1, 3), slice(0, 6)], ids=["one", "two", "six"])
@pytest.mark.parametrize("kind", [torch_draw, CpuDraw], ids=["torch", "compiled"])
def test_drawing_from_candidates_equals_drawing_from_all(kind: Draw, top_k: int, rows: slice) -> None:
    generator = torch.Generator().manual_seed(top_k)
    logits = torch.randn(6, 67, generator=generator).round(decimals=1)  # many ties
    logits[5] = 1.0  # all are equal
    seed, frame = torch.arange(6) + 2**40, torch.arange(6)
    temperature, top_ks = torch.tensor([0.0, 0.5, 1.0, 2.0, 9.0, 1.0]), torch.full((6,), top_k)
    noise = gumbel_noise(seed, frame, 4, 64)
    sampling = SamplingRows(temperature, top_ks, seed)
    expected = FrameSampler(noise, sampling, top_k, 64).sample(logits, 3)
    draw = kind(sampling.at(rows), frame[rows], 64)
    assert torch.equal(draw.sample(logits[rows], 3), expected[rows])


@pytest.mark.parametrize("top_k", [5, 50])
@pytest.mark.parametrize("kind", [torch_draw, CpuDraw], ids=["torch", "compiled"])
def test_equal_scores_go_to_the_lowest_id_when_sampling(kind: Draw, top_k: int) -> None:
    generator = torch.Generator().manual_seed(top_k)
    logits = 9 + torch.randn(64, 512, generator=generator).round(decimals=1)  # many ties
    seed, frame = torch.arange(64), torch.arange(64)
    temperature, top_ks = torch.full((64,), 1e-9), torch.full((64,), top_k)  # too cold to tell them apart
    noise = gumbel_noise(seed, frame, 4, 512)
    sampling = SamplingRows(temperature, top_ks, seed)
    expected = FrameSampler(noise, sampling, top_k, 512).sample(logits, 3)
    draw = kind(sampling, frame, 512)
    assert torch.equal(draw.sample(logits, 3), expected)


@torch.inference_mode()
def test_constant_shape_makes_rows_bit_equal_whatever_the_batch(tiny_config: ModelConfig) -> None:
    """Including the keys and values that a step writes; in float32, where other shapes round differently."""
    rows = 20
    wide = random_model(replace(tiny_config, backbone=replace(tiny_config.backbone, dim=256, ffn_dim=512)), seed=6)
    left = []
    for slots in ([0], list(range(rows))):
        runner = GraphRunner(PackedFrameStep(pack(wide), rows), rows, constant_shape=True)
        for slot in slots:
            start(runner, prompt_for(wide, slot % SLOTS), slot, sampling_for(slot % SLOTS))
        for _ in range(3):
            assert len(runner(torch.tensor(slots))) == len(slots)
        left.append([cache.keys[0].clone() for cache in runner.backbone.cache.layers])
    for alone, together in zip(*left, strict=True):
        assert torch.equal(alone, together)
