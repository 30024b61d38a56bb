"""Every kernel of products on the device against its plain-torch twin on the CPU, at csm-1b's widths."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch")

from csm_engine.execution.matrix import FLOAT8, Matrix, Quantization, quantized  # noqa: E402
from csm_engine.execution.ops import dispatch as ops  # noqa: E402
from csm_engine.execution.ops import triton_ops  # noqa: E402
from csm_engine.execution.ops.prefetch.launch_prefetch import CachedRows, Prefetch  # noqa: E402
from csm_engine.execution.ops.tile_shapes import MEASURED, row_block_of  # noqa: E402
from tests.gpu.device import ON_GPU, put, times  # noqa: E402
from tests.support.kernels.twins import assert_close, random  # noqa: E402

BF16 = torch.bfloat16
BATCHES = (16, 20, 32, 33, 64, 128, 200, 1024) if ON_GPU else (16, 20)
TILES = list(MEASURED) if ON_GPU else [(1024, 1024, False, 2)]  # the interpreter takes a minute for the first one


@cache  # a minute of a short lease
def matrix_of(outputs: int, width: int, quantization: Quantization = "none") -> Matrix:
    """A weight on the CPU, which is shared and must not be changed."""
    weight = random(outputs, width, seed=2) * width**-0.5
    return Matrix(weight) if quantization == "none" else quantized(weight, quantization)


@pytest.mark.parametrize("quantization", ["none", "float8", "int8"])
@pytest.mark.parametrize("rows", [1, 16, 33, 64, 128])
@pytest.mark.parametrize(("outputs", "width"), [(1536, 1024), (1024, 8192), (3072, 2048)])
def test_product_with_norm_gates_and_residual(quantization: Quantization, rows: int, outputs: int, width: int) -> None:
    x, matrix = random(rows, width), matrix_of(outputs, width, quantization)
    scale = None if matrix.scale is None else put(matrix.scale)
    on_device = Matrix(put(matrix.values), scale, fused=True)
    ours = triton_ops.product(put(x), on_device, norm=True, eps=1e-5)
    assert_close(ours, ops.norm_linear(x, None, matrix, 1e-5))
    ours = triton_ops.product(put(x), on_device, norm=True, eps=1e-5, gated=True)
    assert_close(ours, ops.norm_gated(x, None, matrix, 1e-5), 3e-2)
    residual = random(rows, outputs, seed=3)
    ours = triton_ops.product(put(x), on_device, added=put(residual))
    assert_close(ours, ops.add_linear(residual.clone(), x, matrix))


@pytest.mark.skipif(not ON_GPU, reason="Triton's interpreter prefetches nothing")
@pytest.mark.parametrize("rows", [1, 64])
def test_a_product_that_prefetches_gives_the_same_bits(rows: int) -> None:
    matrix, next_one = matrix_of(2048, 8192, "int8"), put(matrix_of(3072, 2048, "int8").values)
    keys, values = (torch.zeros(rows + 1, 2048, 8, 64, dtype=FLOAT8) for _ in range(2))
    cached = CachedRows(put(keys), put(values), put(torch.arange(rows)), put(torch.full((rows,), 600)))
    on_device = Matrix(put(matrix.values), None if matrix.scale is None else put(matrix.scale), fused=True)
    x, residual = put(random(rows, 8192)), random(rows, 2048, seed=3)
    alone, prefetching = (
        triton_ops.product(x, on_device, added=put(residual), prefetch=prefetch)
        for prefetch in (Prefetch(), Prefetch(next_one, cached))
    )
    assert torch.equal(alone, prefetching)


@pytest.mark.parametrize("rows", [1, 16, 33, 64, 128])
@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("around", ["as in a frame", "with a norm"])
def test_every_measured_tile_gives_the_product(tile: tuple[int, int, bool, int], rows: int, around: str) -> None:
    """As a frame has it: added to what is there, or gated behind a norm. And, where not gated, behind a norm."""
    outputs, width, gated, weight_bytes = tile
    if gated and around == "with a norm":
        pytest.skip("a gated product has a norm in a frame, too")
    x, matrix = random(rows, width), matrix_of(outputs * (1 + gated), width, "none" if weight_bytes == 2 else "float8")
    on_device = Matrix(put(matrix.values), None if matrix.scale is None else put(matrix.scale), fused=True)
    residual = torch.zeros(rows, outputs, dtype=BF16)  # of zeros: another would hide a part of an error
    if gated:
        expected = ops.norm_gated(x, None, matrix, 1e-5)
    elif around == "with a norm":
        expected = ops.norm_linear(x, None, matrix, 1e-5)
    else:
        expected = ops.add_linear(residual.clone(), x, matrix)
    for _ in times(20):  # a race does not show every time
        if gated or around == "with a norm":
            ours = triton_ops.product(put(x), on_device, norm=True, eps=1e-5, gated=gated)
        else:
            ours = triton_ops.product(put(x), on_device, added=put(residual))
        assert_close(ours, expected, 3e-2 if gated else 2e-2)
        worst = (ours.float().cpu() - expected.float()).norm(dim=1) / expected.float().norm(dim=1)
        assert worst.max() <= 5e-2, f"row {int(worst.argmax())} is off by {worst.max():.0%}"


@pytest.mark.parametrize("quantization", ["none", "float8", "int8"])
@pytest.mark.parametrize(
    ("outputs", "width", "around"),
    [
        (1536, 1024, "norm"), (8192, 1024, "gated"), (1024, 8192, "added"), (1024, 1024, "added"),
        (8192, 2048, "gated"), (2048, 8192, "added"), (3072, 2048, "norm"), (2048, 2048, "added"), (2051, 1024, "norm"),
    ],
)  # fmt: skip
def test_bits_of_a_row_do_not_depend_on_the_batch(
    quantization: Quantization, outputs: int, width: int, around: str
) -> None:
    """At every kind of tile: 16, 32, 64 and 128 rows, whole and not, one tile and several.

    Where there is no norm, over all of them; with one, among batches of one row block: the order in which a row's
    squares are added goes with the tile.
    """
    x = put(random(BATCHES[-1], width))
    weight = matrix_of(outputs * (2 if around == "gated" else 1), width).values
    matrix = Matrix(put(weight), fused=True) if quantization == "none" else quantized(put(weight), quantization)
    residual = put(random(BATCHES[-1], outputs, seed=3))

    def of(rows: slice) -> Tensor:
        if around == "added":
            return triton_ops.product(x[rows], matrix, added=residual[rows].clone())
        return triton_ops.product(x[rows], matrix, norm=True, eps=1e-5, gated=around == "gated")

    compared = 16 if ON_GPU else 2  # rows; the interpreter takes minutes for 16 products
    alone = torch.cat([of(slice(row, row + 1)) for row in range(compared)])
    expected = {16: alone}
    for rows in BATCHES:
        ours, block = of(slice(0, rows))[:compared], 16 if around == "added" else row_block_of(rows)
        assert torch.equal(ours, expected.setdefault(block, ours)), f"{rows} rows"
        assert_close(ours, alone.cpu(), 5e-3)


@pytest.mark.parametrize("rows", [1, 16, 17, 64, 65])
@pytest.mark.parametrize(("outputs", "width"), [(1536, 1024), (1024, 8192), (3072, 2048)])
def test_either_implementation_gives_the_same_products(rows: int, outputs: int, width: int) -> None:
    x, weight = random(rows, width), matrix_of(outputs, width).values
    matrix = Matrix(put(weight), fused=True, where_faster=True)
    assert_close(ops.norm_linear(put(x), None, matrix, 1e-5), ops.norm_linear(x, None, Matrix(weight), 1e-5))
    residual = random(rows, outputs, seed=3)
    ours = ops.add_linear(put(residual), put(x), matrix)
    assert_close(ours, ops.add_linear(residual.clone(), x, Matrix(weight)))


def test_a_product_in_splits_is_the_same_every_time() -> None:
    """Whichever program arrives last: a thousand launches of a product have the same result."""
    x, weight = put(random(16, 8192)), put(random(1024, 8192, seed=2) * 8192**-0.5)
    first = triton_ops.product(x, Matrix(weight, fused=True))
    results = [triton_ops.product(x, Matrix(weight, fused=True)) for _ in times(1000)]
    assert all(torch.equal(result, first) for result in results)
