"""The Triton kernels against their plain-torch twins, in Triton's interpreter: what they compute, not how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import FLOAT8, Matrix, Quantization, quantized  # noqa: E402
from csm_engine.execution.ops import dispatch as ops  # noqa: E402
from csm_engine.execution.ops import torch_ops, triton_ops
from csm_engine.execution.ops.tile_shapes import TileShape
from csm_engine.execution.sampling import SamplingRows
from tests.support.kernels.random_rope import random_rope  # noqa: E402

ROWS, HEADS, KV_HEADS, HEAD_DIM = 5, 8, 2, 16


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(ours: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2
    assert (ours.float() - expected.float()).abs().max() <= tolerance * expected.float().abs().max()


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


@DTYPES
@pytest.mark.parametrize("width", [64, 100])
def test_rms_norm(dtype: torch.dtype, width: int) -> None:
    x, weight = random(ROWS, width, dtype=dtype), random(width, seed=1, dtype=dtype)
    assert_close(triton_ops.rms_norm(x, weight, 1e-5), torch_ops.rms_norm(x, weight, 1e-5), dtype)
    assert_close(triton_ops.rms_norm(x, None, 1e-5), torch_ops.rms_norm(x, None, 1e-5), dtype)


@DTYPES
@pytest.mark.parametrize("width", [96, 1500])
def test_silu_mul(dtype: torch.dtype, width: int) -> None:
    gate_up = random(ROWS, 2 * width, dtype=dtype)
    assert_close(triton_ops.silu_mul(gate_up), torch_ops.silu_mul(gate_up), dtype)


FORMS = pytest.mark.parametrize("float8", [False, True], ids=["plain", "float8"])
QUANTIZATIONS = pytest.mark.parametrize("quantization", ["none", "float8", "int8"])


SHAPES = {
    "one split": TileShape(16, 16, 32, splits=1, splits_here=1, warps=4, stages=2),
    "splits of programs": TileShape(16, 32, 16, splits=4, splits_here=1, warps=4, stages=2),
    "splits of one program": TileShape(16, 16, 16, splits=4, splits_here=4, warps=4, stages=2),
}


@DTYPES
@QUANTIZATIONS
@pytest.mark.parametrize("shape", [None, SHAPES["one split"]], ids=["by rule", "one split"])
@pytest.mark.parametrize(
    ("rows", "width", "outputs"),
    [pytest.param(1, 64, 40, marks=pytest.mark.slow), (17, 300, 48), pytest.param(70, 32, 16, marks=pytest.mark.slow)],
)
def test_product_with_norm_gates_and_residual(
    dtype: torch.dtype, quantization: Quantization, shape: TileShape | None, rows: int, width: int, outputs: int
) -> None:
    x = random(rows, width, dtype=dtype)
    weight = random(outputs, width, seed=2, dtype=dtype)
    matrix = Matrix(weight) if quantization == "none" else quantized(weight, quantization)
    ours = triton_ops.product(x, matrix, norm=True, eps=1e-5, shape=shape)
    assert_close(ours, ops.norm_linear(x, None, matrix, 1e-5), dtype)
    ours = triton_ops.product(x, matrix, norm=True, eps=1e-5, gated=True, shape=shape)
    assert_close(ours, ops.norm_gated(x, None, matrix, 1e-5), dtype)
    residual = random(rows, outputs, seed=3, dtype=dtype)
    ours = triton_ops.product(x, matrix, added=residual.clone(), shape=shape)
    assert_close(ours, ops.add_linear(residual.clone(), x, matrix), dtype)


@DTYPES
@pytest.mark.parametrize("quantization", ["none", pytest.param("float8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.slow), 33])
@pytest.mark.parametrize("shape", ["splits of programs", "splits of one program"])
def test_a_product_in_splits(dtype: torch.dtype, quantization: Quantization, rows: int, shape: str) -> None:
    """More rows and outputs than a block, no whole blocks. Twice, since the count of arrivals must be zero again."""
    x, weight = random(rows, 192, dtype=dtype), random(24, 192, seed=2, dtype=dtype)
    matrix = Matrix(weight) if quantization == "none" else quantized(weight, quantization)
    for seed in (3, 4):
        residual = random(rows, 24, seed=seed, dtype=dtype)
        ours = triton_ops.product(x, matrix, added=residual.clone(), shape=SHAPES[shape])
        assert_close(ours, ops.add_linear(residual.clone(), x, matrix), dtype)
        ours = triton_ops.product(x, matrix, norm=True, eps=1e-5, shape=SHAPES[shape])
        assert_close(ours, ops.norm_linear(x, None, matrix, 1e-5), dtype)
        ours = triton_ops.product(x, matrix, norm=True, eps=1e-5, gated=True, shape=SHAPES[shape])
        assert_close(ours, ops.norm_gated(x, None, matrix, 1e-5), dtype)


def test_splits_add_up_to_the_same_bits_in_one_program_and_in_many() -> None:
    x, matrix = random(20, 192), Matrix(random(48, 192, seed=1))
    many = triton_ops.product(x, matrix, shape=replace(SHAPES["splits of programs"], row_block=16))
    one = triton_ops.product(x, matrix, shape=SHAPES["splits of one program"])
    assert torch.equal(many, one)


def test_product_of_a_row_does_not_depend_on_the_batch() -> None:
    x, matrix = random(20, 300), quantized(random(48, 300, seed=1), "float8")
    together = triton_ops.product(x, matrix)
    for row in (0, 7, 19):
        assert torch.allclose(triton_ops.product(x[row : row + 1], matrix), together[row], rtol=1e-5, atol=1e-5)


@DTYPES
@FORMS
def test_backbone_attention_at_every_kind_of_position(dtype: torch.dtype, float8: bool) -> None:
    """First position, inside a block, at the edges of a block and of a split, at the end of the window.

    Into a cache of float8 goes what needs no rounding: Triton's interpreter (3.7.1) rounds 0.49 to 0.25.
    """
    length = 520
    positions = torch.tensor([0, 63, 64, 256, 519])
    slots = torch.tensor([3, 0, 6, 1, 5])
    qkv, rope = random(ROWS, (HEADS + 2 * KV_HEADS) * HEAD_DIM, dtype=dtype), random_rope(length, HEAD_DIM)
    cached = dtype
    if float8:
        cached, qkv, rope = FLOAT8, qkv.to(FLOAT8).to(dtype), torch.tensor([1.0, 0.0]).expand_as(rope).contiguous()
    caches = [random(7, length, KV_HEADS, HEAD_DIM, seed=seed, dtype=cached) for seed in (1, 2)]
    ours, expected = ([cache.clone() for cache in caches] for _ in range(2))
    our_keys, our_values = ours
    keys, values = expected
    attended = triton_ops.backbone_attention(qkv, our_keys, our_values, slots, positions, rope, HEADS)
    assert_close(attended, torch_ops.backbone_attention(qkv, keys, values, slots, positions, rope, HEADS), dtype)
    for one, other in zip(ours, expected, strict=True):
        assert_close(one, other, dtype)


def test_backbone_attention_of_a_row_does_not_depend_on_the_batch() -> None:
    length, positions, slots = 300, torch.tensor([299, 7, 120]), torch.tensor([2, 0, 1])
    qkv = random(3, (HEADS + 2 * KV_HEADS) * HEAD_DIM)
    keys, values = random(4, length, KV_HEADS, HEAD_DIM, seed=1), random(4, length, KV_HEADS, HEAD_DIM, seed=2)
    rope = random_rope(length, HEAD_DIM)
    together = triton_ops.backbone_attention(qkv, keys, values, slots, positions, rope, HEADS)
    for row in range(3):
        one = slice(row, row + 1)
        alone = triton_ops.backbone_attention(qkv[one], keys, values, slots[one], positions[one], rope, HEADS)
        assert torch.equal(alone, together[one])


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_depth_attention_through_a_whole_frame(dtype: torch.dtype) -> None:
    length, rope = 6, random_rope(6, HEAD_DIM)
    caches = [random(ROWS, KV_HEADS, length, HEAD_DIM, dtype=dtype) for _ in range(4)]
    our_keys, our_values, keys, values = caches
    for position in range(length):
        qkv = random(ROWS, (HEADS + 2 * KV_HEADS) * HEAD_DIM, seed=position, dtype=dtype)
        attended = triton_ops.depth_attention(qkv, our_keys, our_values, position, rope, HEADS)
        assert_close(attended, torch_ops.depth_attention(qkv, keys, values, position, rope, HEADS), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("codebook", [0, 3])
def test_sample_draws_the_same_codes_and_feeds_their_rows(dtype: torch.dtype, codebook: int) -> None:
    rows, vocab_size, codebook_size, width = 6, 70, 67, 12
    logits = (random(rows, vocab_size, seed=codebook) * 3).to(dtype)
    logits[:, 20:30] = logits[:, 20:21]  # ties, also at the k-th place
    seed = torch.tensor([0, 1, 2**40, 2**63 - 1, 5, 5])
    frame = torch.tensor([0, 1, 2, 4000, 7, 8])
    temperature = torch.tensor([0.0, 0.3, 0.9, 1.0, 2.0, 50.0])
    top_k = torch.tensor([1, 2, 10, 50, 67, 1000])
    table = random(5 * vocab_size, width)
    sampling = SamplingRows(temperature, top_k, seed)
    slots = torch.tensor([3, 0, 5, 1, 2, 4])
    by_slot = SamplingRows(*(torch.empty_like(rows).index_put_((slots,), rows) for rows in (temperature, top_k, seed)))
    codes, fed = triton_ops.sample_and_feed(logits, by_slot, slots, frame, codebook, codebook_size, vocab_size, table)
    twin = torch_ops.FrameDraw(sampling, frame, codebook + 1, codebook_size)
    assert torch.equal(codes, twin.sample(logits, codebook))
    assert fed is not None and torch.equal(fed, table[codebook * vocab_size + codes])


@pytest.mark.parametrize("top_k", [1, 5, 64])
@pytest.mark.parametrize("ids", [[7], [0, 5, 63], range(64)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_logit_that_is_not_a_number_draws_the_id_past_the_last(sign: int, ids: Sequence[int], top_k: int) -> None:
    """The row in the middle alone. It is fed the last row of the table where no id is free past the codes."""
    logits, table, slots = random(3, 64), random(2 * 64, 8), torch.zeros(3, dtype=torch.long)
    sampling = SamplingRows(torch.tensor([0.9]), torch.tensor([top_k]), torch.tensor([1]))
    expected, _ = triton_ops.sample_and_feed(logits, sampling, slots, slots, 1, 64, 64, table)
    logits[1, list(ids)] = torch.tensor(torch.nan).copysign(torch.tensor(sign))
    expected[1] = 64
    codes, fed = triton_ops.sample_and_feed(logits, sampling, slots, slots, 1, 64, 64, table)
    assert torch.equal(codes, expected)
    assert fed is not None and torch.equal(fed, table[64 + expected.clamp(max=63)])


def test_negative_and_zero_logits_keep_their_order() -> None:
    rows = 12  # of which ten draw every code
    logits = torch.tensor([[-3.0, -0.0, 0.0, -1e-30, -torch.inf, 2.0]]).repeat(rows, 1)
    slots, frames, one = torch.zeros(rows, dtype=torch.long), torch.arange(rows), torch.tensor([1])
    for top_k, kept in ((1, {5}), (2, {5, 1, 2}), (4, {5, 1, 2, 3}), (5, {0, 1, 2, 3, 5})):
        sampling = SamplingRows(torch.tensor([100.0]), torch.tensor([top_k]), one)
        drawn, _ = triton_ops.sample_and_feed(logits, sampling, slots, frames, 0, 6, 6, None)
        assert set(drawn.tolist()) == kept
