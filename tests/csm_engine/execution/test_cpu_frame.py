"""The compiled kernels of a CPU against torch's operations, and which models they run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.shapes import CSM_1B
from csm_engine.execution.cpu_weights import is_for_kernels
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.matrix import paneled
from csm_engine.execution.ops import dispatch as ops
from csm_engine.execution.ops import torch_ops
from csm_engine.execution.ops.cpu import backbone_kernels, cpu_frame, depth_kernel
from csm_engine.execution.ops.cpu.cpu_frame import CpuDraw
from csm_engine.execution.row_threads import SMALLEST_GROUP
from csm_engine.execution.sampling import SamplingRows
from csm_engine.execution.weights import pack
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.scheduling.outcome import Outcome
from csm_engine.types import SamplingParams

ROWS = 5
FRAMES = 12
# As the built-in voice, but smaller: three query heads share a key head, and the widths are no powers of two.
GROUPED = ModelConfig(
    backbone=TransformerConfig(num_layers=3, dim=240, num_heads=6, num_kv_heads=2, ffn_dim=224, max_seq_len=128),
    depth_decoder=TransformerConfig(num_layers=2, dim=48, num_heads=3, num_kv_heads=1, ffn_dim=128, max_seq_len=128),
    text_vocab_size=96,
    audio_vocab_size=131,
    num_codebooks=4,
    codebook_size=128,
)
# Heads of eight numbers, one layer, odd widths, a window of just the codebooks, and no id that is not a code.
SMALLEST = ModelConfig(
    backbone=TransformerConfig(num_layers=1, dim=32, num_heads=4, num_kv_heads=1, ffn_dim=5, max_seq_len=61),
    depth_decoder=TransformerConfig(num_layers=1, dim=16, num_heads=2, num_kv_heads=2, ffn_dim=3, max_seq_len=2),
    text_vocab_size=1,
    audio_vocab_size=16,
    num_codebooks=2,
    codebook_size=16,
)


def started(config: ModelConfig, slots: range, *, compiled: bool = True) -> PackedFrameStep:
    """With a prompt of another length and other sampling parameters in each slot."""
    packed = pack(random_model(config, seed=9), compiled=compiled)
    assert (packed.on_cpu is not None) == compiled
    step = PackedFrameStep(packed, ROWS)
    for slot in slots:
        prompt = torch.randn(3 + 7 * slot, config.backbone.dim, generator=torch.Generator().manual_seed(slot))
        step.backbone.prefill(prompt[:-1], slot, 0)
        sampling = SamplingParams(temperature=0.4 * slot, top_k=[50, 3, 1000, 1, 20][slot], seed=2**40 + slot)
        step.state.start(slot, prompt[-1], position=len(prompt) - 1, frame=slot, sampling=sampling)
    return step


def codes_of(step: PackedFrameStep, slots: range) -> np.ndarray:
    return np.stack([step(torch.tensor(slots)).numpy() for _ in range(FRAMES)])


@pytest.mark.parametrize("shape", ["tiny", "grouped", "smallest"])
@torch.inference_mode()
def test_compiled_frames_equal_those_of_torch(shape: str, tiny_config: ModelConfig) -> None:
    config = {"tiny": tiny_config, "grouped": GROUPED, "smallest": SMALLEST}[shape]
    slots = range(ROWS)
    compiled, plain = (started(config, slots, compiled=compiled) for compiled in (True, False))
    assert np.array_equal(codes_of(compiled, slots), codes_of(plain, slots))
    for ours, theirs in zip(compiled.backbone.cache.layers, plain.backbone.cache.layers, strict=True):
        torch.testing.assert_close(ours.keys, theirs.keys, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(ours.values, theirs.values, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_row_is_bit_equal_whatever_the_batch() -> None:
    """Without padding to a constant shape, which torch's operations need."""
    together = started(GROUPED, range(ROWS))
    x = together.state.next_embedding[:ROWS].clone()
    positions = together.state.position[:ROWS].clone()
    hidden = together.backbone.step(x, torch.arange(ROWS), positions)
    for slot in range(ROWS):
        alone = started(GROUPED, range(slot, slot + 1))
        row = alone.backbone.step(x[slot : slot + 1], torch.tensor([slot]), positions[slot : slot + 1])
        assert torch.equal(row[0], hidden[slot])
        for one, all_ in zip(alone.backbone.cache.layers, together.backbone.cache.layers, strict=True):
            assert torch.equal(one.keys[slot, positions[slot]], all_.keys[slot, positions[slot]])
            assert torch.equal(one.values[slot, positions[slot]], all_.values[slot, positions[slot]])


MANY = 3 * SMALLEST_GROUP + 2  # rows, which three threads cannot share equally


def left_by(num_threads: int, slots: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[list[torch.Tensor], int]:
    """What some frames leave, codes, keys, values and next inputs; and in how many groups a layer was computed."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    step = PackedFrameStep(pack(random_model(GROUPED, seed=9)), MANY)
    generator = torch.Generator().manual_seed(4)
    for slot in range(MANY):
        prompt = torch.randn(3 + 5 * slot, GROUPED.backbone.dim, generator=generator)
        step.backbone.prefill(prompt[:-1], slot, 0)
        sampling = SamplingParams(temperature=0.9, top_k=20, seed=slot)
        step.state.start(slot, prompt[-1], position=len(prompt) - 1, frame=0, sampling=sampling)
    layer, groups = backbone_kernels.begin_layer, []

    def counted(x: np.ndarray, *others: object) -> None:
        groups.append(len(x))
        layer(x, *others)

    with monkeypatch.context() as patched:
        patched.setattr(cpu_frame, "begin_layer", counted)
        codes = torch.stack([step(slots) for _ in range(3)])
    assert sum(groups) == 3 * GROUPED.backbone.num_layers * MANY
    left = [codes, step.state.next_embedding, *(part for layer in step.backbone.cache.layers for part in layer)]
    return left, len(groups) // 3 // GROUPED.backbone.num_layers


@pytest.mark.parametrize("num_threads", [2, 3])
@pytest.mark.parametrize("padded", [False, True])
@torch.inference_mode()
def test_several_threads_make_the_bits_of_one(num_threads: int, padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """padded: rows of the pad slot are in every group"""
    slots = torch.arange(MANY)
    if padded:
        slots[::2] = MANY
        slots[1] = MANY  # between two others
    expected, groups = left_by(1, slots, monkeypatch)
    assert groups == 1
    left, groups = left_by(num_threads, slots, monkeypatch)
    assert groups == num_threads
    assert all(map(torch.equal, left, expected))


@torch.inference_mode()
def test_an_error_of_a_kernel_on_another_thread_ends_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    step = PackedFrameStep(pack(random_model(GROUPED, seed=9)), MANY)
    caller, kernel = threading.current_thread(), depth_kernel.depth_frame

    def failing(*arguments: object) -> None:
        if threading.current_thread() is not caller:
            raise MemoryError("of another thread")
        kernel(*arguments)

    monkeypatch.setattr(cpu_frame, "depth_frame", failing)
    with pytest.raises(MemoryError, match="of another thread"):
        step(torch.arange(MANY))


@torch.inference_mode()
def test_with_compiled_kernels_torch_draws_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    step = started(GROUPED, range(ROWS))
    monkeypatch.setattr(torch_ops, "FrameDraw", None)
    step(torch.arange(ROWS))


def test_bits_of_a_product_do_not_depend_on_the_rows() -> None:
    """At a size at which those of torch's product do."""
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(9, 384, generator=generator), torch.randn(1000, 384, generator=generator)
    whole = ops.linear(x, paneled(weight))
    torch.testing.assert_close(whole, x @ weight.t(), rtol=1e-4, atol=1e-4)
    for rows in range(1, 9):
        assert torch.equal(ops.linear(x[:rows], paneled(weight)), whole[:rows])


@pytest.mark.parametrize("num_codebooks", [2, 32])
def test_embeddings_are_summed_as_in_torch(num_codebooks: int) -> None:
    generator = torch.Generator().manual_seed(1)
    audio, text = torch.randn(num_codebooks * 19, 40, generator=generator), torch.randn(50, 40, generator=generator)
    ids = torch.randint(-1, 19, (7, num_codebooks + 1), generator=generator)
    torch.testing.assert_close(cpu_frame.embed(ids, audio, text, 19), torch_ops.embed(ids.t(), audio, text, 19))
    codes = ids[:, :-1].clamp(min=0)
    bare = torch.cat([codes, torch.full((7, 1), -1)], dim=1)
    assert torch.equal(cpu_frame.embed(codes, audio, None, 19), cpu_frame.embed(bare, audio, text, 19))


def test_the_code_of_a_logit_that_is_not_a_number_has_an_embedding() -> None:
    audio = torch.randn(3 * 19, 8, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[19, 4, 19]])
    assert torch.equal(cpu_frame.embed(ids, audio, None, 19), cpu_frame.embed(ids.clamp(max=18), audio, None, 19))


@pytest.mark.parametrize("compiled", [True, False])
@torch.inference_mode()
def test_what_is_not_a_number_stays_in_its_row(compiled: bool) -> None:
    """Where no id is free past the codes, and the depth decoder is fed one codebook alone."""
    step, expected = (started(SMALLEST, range(ROWS), compiled=compiled) for _ in range(2))
    step.state.next_embedding[1] = torch.nan
    found, wanted = (codes_of(one, range(ROWS)) for one in (step, expected))
    assert (found[0, 1, :-1] == SMALLEST.codebook_size).all() and found[0, 1, -1] == Outcome.INVALID_FRAME
    assert (found[1:, 1, -1] == Outcome.NOTHING).all()
    assert np.array_equal(np.delete(found, 1, axis=1), np.delete(wanted, 1, axis=1))


@pytest.mark.parametrize("part", ["q_proj", "k_proj"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("stack", ["backbone", "depth_decoder"])
@torch.inference_mode()
def test_attention_keeps_what_is_not_a_number(stack: str, part: str, value: float) -> None:
    """Scores alone have it here. A model with such weights must not speak."""
    model = random_model(GROUPED, seed=9)
    getattr(getattr(model, stack).layers[0].attn, part).weight[0, 0] = value
    for compiled in (True, False):
        step = PackedFrameStep(pack(model, compiled=compiled), 1)
        step.backbone.prefill(torch.ones(3, GROUPED.backbone.dim), 0, 0)
        step.state.start(0, torch.ones(GROUPED.backbone.dim), position=3, frame=0, sampling=SamplingParams(seed=1))
        codes = step(torch.tensor([0]))[0, :-1]
        assert (codes[1:] == GROUPED.codebook_size).all()


def both(sampling: SamplingRows, frame: torch.Tensor) -> tuple[torch_ops.FrameDraw, CpuDraw]:
    """Torch's draw and the kernel's."""
    return torch_ops.FrameDraw(sampling, frame, 32, 64), CpuDraw(sampling, frame, 64)


def drawn(logits: torch.Tensor, top_k: int) -> list[list[int]]:
    """The codes that torch and the kernel draw."""
    rows = len(logits)
    sampling = SamplingRows(torch.tensor([0.0, 0.9])[:rows], torch.tensor([top_k] * rows), torch.tensor([1] * rows))
    return [draw.sample(logits, 0).tolist() for draw in both(sampling, torch.zeros(rows, dtype=torch.int64))]


@pytest.mark.parametrize("top_k", [1, 5, 63, 64, 1000])
@pytest.mark.parametrize("ids", [[7], [0, 5, 63], range(64)])
def test_a_logit_that_is_not_a_number_draws_the_id_past_the_last(ids: Sequence[int], top_k: int) -> None:
    logits = torch.randn(2, 64, generator=torch.Generator().manual_seed(3))
    logits[:, list(ids)] = torch.nan
    assert drawn(logits, top_k) == [[64, 64], [64, 64]]


@pytest.mark.parametrize("top_k", [1, 5, 63, 64, 1000])
def test_infinite_logits_draw_as_in_torch(top_k: int) -> None:
    logits = torch.full((2, 64), -torch.inf)
    assert drawn(logits, top_k) == [[0, 0], [0, 0]]
    logits[:, [9, 40]] = torch.inf
    assert drawn(logits, top_k) == [[9, 9], [9, 9]]


@pytest.mark.parametrize("seed", [0, 2**63 - 1, -1, -(2**63)])
@pytest.mark.parametrize("frame", [0, 2**31, 2**32 - 1, 2**40])
def test_any_seed_and_frame_draw_as_in_torch(seed: int, frame: int) -> None:
    logits = torch.randn(9, 64, generator=torch.Generator().manual_seed(3)).round(decimals=1)  # with ties
    top_k = torch.tensor([1, 2, 3, 8, 55, 56, 63, 64, 2**62])
    sampling = SamplingRows(torch.full((9,), 0.9), top_k, torch.full((9,), seed))
    frames = torch.full((9,), frame)
    for codebook in (0, 31):
        codes = [draw.sample(logits, codebook) for draw in both(sampling, frames)]
        assert torch.equal(*codes)


def test_kernels_are_for_small_models_of_whole_vectors_in_float32(tiny_config: ModelConfig) -> None:
    like = torch.zeros(1)
    narrow = replace(GROUPED, depth_decoder=replace(GROUPED.depth_decoder, dim=36))
    short = replace(GROUPED, backbone=replace(GROUPED.backbone, max_seq_len=7))
    assert is_for_kernels(tiny_config, like) and is_for_kernels(GROUPED, like)
    assert not is_for_kernels(CSM_1B, like)
    assert not is_for_kernels(narrow, like)
    assert not is_for_kernels(short, like)
    assert not is_for_kernels(GROUPED, like.bfloat16())
    assert not is_for_kernels(GROUPED, like.to("meta"))


def test_with_eight_bits_torch_runs_the_frame() -> None:
    model = random_model(GROUPED, seed=1)
    assert pack(model).on_cpu is not None
    assert pack(model, quantization="int8").on_cpu is None
