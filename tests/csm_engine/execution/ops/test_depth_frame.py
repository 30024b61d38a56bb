"""The kernel of the depth decoder's frame, in Triton's interpreter: each phase against its plain-torch twin, and all
phases in one launch against one launch each.

A launch of one program waits for nobody, so the interpreter runs it too: with all of its loops, without its barriers'
effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.depth_weights import LARGEST_TILE, LEAST_SIZE  # noqa: E402
from csm_engine.execution.matrix import Quantization  # noqa: E402
from csm_engine.execution.ops.depth.depth_launches import DepthKernel, phases_of  # noqa: E402
from csm_engine.execution.ops.depth.depth_shape import CUTS, ROUNDED_BLOCK, ROUNDED_CUTS, Cuts  # noqa: E402
from csm_engine.execution.weights import PackedWeights, pack, stack_depth  # noqa: E402
from csm_engine.model.loader import random_model  # noqa: E402
from csm_engine.model.shapes import ModelConfig, TransformerConfig  # noqa: E402
from tests.support.kernels.depth_frame import check_phases, new_frame, plain_matrices  # noqa: E402

SMALL = ModelConfig(
    backbone=TransformerConfig(num_layers=1, dim=32, num_heads=2, num_kv_heads=1, ffn_dim=32, max_seq_len=32),
    depth_decoder=TransformerConfig(num_layers=2, dim=64, num_heads=2, num_kv_heads=1, ffn_dim=64, max_seq_len=16),
    text_vocab_size=32,
    audio_vocab_size=35,
    num_codebooks=3,
    codebook_size=32,
)


def weights_of(config: ModelConfig, dtype: torch.dtype, quantization: Quantization = "none") -> PackedWeights:
    return stack_depth(pack(random_model(config, seed=1, dtype=dtype), quantization=quantization, depth_kernel=True))


def kernel_of(weights: PackedWeights, programs: int) -> DepthKernel:
    assert weights.stacked_depth is not None
    return DepthKernel(weights.stacked_depth, programs=programs)


def assert_close(ours: Tensor, expected: Tensor) -> None:
    assert (ours.float() - expected.float()).abs().max() <= 2e-5 * expected.float().abs().max()


SHORT = replace(SMALL, num_codebooks=2, depth_decoder=replace(SMALL.depth_decoder, num_layers=1))
# More than one block of a row, and a tile of heads of the greatest width.
WIDE = replace(
    SHORT, depth_decoder=replace(SHORT.depth_decoder, dim=128, ffn_dim=256), codebook_size=64, audio_vocab_size=67
)
CASES: dict[str, tuple[ModelConfig, int, Quantization]] = {
    "two rows": (SMALL, 2, "none"),
    "rows in eight bits, in blocks and splits": (WIDE, 2, "int8"),
}
SLOW_CASES: dict[str, tuple[ModelConfig, int, Quantization]] = {
    "float8": (SMALL, 2, "float8"),
    "a tile of two products, int8": (SHORT, 33, "int8"),
    "many rows": (SMALL, 40, "none"),
    "two rows, int8": (SMALL, 2, "int8"),
    "many rows, int8": (SMALL, 40, "int8"),
}


@torch.inference_mode()
@pytest.mark.parametrize("case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES)])
def test_every_phase_equals_its_twin_and_one_launch_equals_the_phases(case: str) -> None:
    """Phase by phase on the very inputs that the phase had; then all buffers and codes of one launch, to the bit."""
    config, rows, quantization = (CASES | SLOW_CASES)[case]
    weights = weights_of(config, torch.float32, quantization)
    frame = new_frame(weights, rows)
    kernel, one = (kernel_of(weights, programs) for programs in (5, 1))
    phases = phases_of(config.depth_decoder.num_layers, config.num_codebooks)
    assert check_phases(kernel, weights, frame, assert_close) == Counter(number for number, *_ in phases)
    assert torch.equal(frame.drawing.codes, frame.expected)
    assert torch.equal(one.frame(frame.first, frame.fed, frame.again().drawing), frame.expected)
    for ours, expected in zip(one.buffers(rows).all(), kernel.buffers(rows).all(), strict=True):
        assert torch.equal(ours, expected)


@torch.inference_mode()
def test_what_is_not_a_number_stays_in_its_row() -> None:
    """Where no id is free past the codes, so that the table of inputs ends with the last one."""
    weights = weights_of(replace(SMALL, audio_vocab_size=SMALL.codebook_size), torch.float32)
    frame = new_frame(weights, 3)
    frame.first[1] = torch.nan
    codes = kernel_of(weights, 1).frame(frame.first, frame.fed, frame.drawing)
    assert (codes[1, 1:] == SMALL.codebook_size).all()
    assert torch.equal(codes[::2], frame.expected[::2])


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 9, 20, 40])
def test_frames_in_bfloat16_follow_each_other_in_the_same_buffers(rows: int) -> None:
    """9 rows: with both positions of the first pass, more than a row block. 20: one program attends with all heads of
    a key head. The second frame finds what the first has left.
    """
    with plain_matrices():
        weights = weights_of(SMALL, torch.bfloat16)
    by_phases, one = kernel_of(weights, 7), kernel_of(weights, 1)
    for seed in range(2):
        frame = new_frame(weights, rows, seed)
        drawings = [frame.again().drawing for _ in range(2)]
        for _ in by_phases.frame_by_phases(frame.first, frame.fed, drawings[0]):
            pass
        one.frame(frame.first, frame.fed, drawings[1])
        assert torch.equal(drawings[0].codes, drawings[1].codes)
        for ours, expected in zip(one.buffers(rows).all(), by_phases.buffers(rows).all(), strict=True):
            assert torch.equal(ours, expected)
        assert (drawings[0].codes == frame.expected).float().mean() > 0.9  # rounding may turn one


def test_a_frame_has_the_designed_number_of_phases() -> None:
    assert len(list(phases_of(layers=4, codebooks=32))) == 1 + 31 * (4 * 5 + 2) + 4 - 30


def test_the_least_sizes_hold_a_tile_of_every_cut() -> None:
    every = [*CUTS.values(), *ROUNDED_CUTS.values()]
    assert max(max(cuts.qkv.block, cuts.out.block, cuts.gate_up.block) for cuts in every) == LARGEST_TILE
    assert max(cuts.heads.block for cuts in every) == LARGEST_TILE
    least = kernel_of(weights_of(replace(SMALL, codebook_size=LEAST_SIZE), torch.float32), 1)
    assert least.shape(64).heads_block == LEAST_SIZE
    assert all(cuts.out.block == cuts.down.block for cuts in every)
    assert {cuts.out.block for cuts in ROUNDED_CUTS.values()} == {ROUNDED_BLOCK}
    assert {cuts.gate_up.block for cuts in ROUNDED_CUTS.values()} == {ROUNDED_BLOCK}


@pytest.mark.parametrize(
    "kinds",
    [[CUTS[False, False], CUTS[False, True]], [CUTS[True, False], CUTS[True, True]], [*ROUNDED_CUTS.values()]],
    ids=["bfloat16", "float8", "int8"],
)
def test_the_sums_of_down_have_the_same_splits_at_any_batch(kinds: list[Cuts]) -> None:
    assert len({cuts.splits for cuts in kinds}) == 1


def test_more_rows_than_scales_are_kept_for_are_refused() -> None:
    kernel = kernel_of(weights_of(SHORT, torch.float32, "int8"), 1)
    assert kernel.buffers(64).row_scale.shape[1] == 128
    with pytest.raises(ValueError, match="at most 64 rows; given are 65"):
        kernel.buffers(65)


SIZES: dict[str, tuple[Callable[[], ModelConfig], str]] = {
    "dim": (lambda: replace(SMALL, depth_decoder=replace(SMALL.depth_decoder, dim=96)), "power of two"),
    "codebook_size": (lambda: replace(SMALL, codebook_size=18), "power of two as codebook_size; given is 18"),
    "ffn_dim": (lambda: replace(SMALL, depth_decoder=replace(SMALL.depth_decoder, ffn_dim=32)), "at least 64; given"),
}


@pytest.mark.parametrize("size", SIZES)
def test_unsupported_sizes_are_named(size: str) -> None:
    make, told = SIZES[size]
    with pytest.raises(ValueError, match=f"depth kernel needs a.*{told}"):
        weights_of(make(), torch.float32)
