"""Products with what stands around them, compiled, against their plain-torch twins."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import Matrix, Quantization, quantized  # noqa: E402
from csm_engine.execution.ops import dispatch as ops  # noqa: E402
from csm_engine.execution.ops import triton_ops  # noqa: E402
from csm_engine.execution.ops.tile_shapes import MEASURED, TileShape, tile_shape  # noqa: E402
from tests.support.kernels.ptx.launches import compiled_kernels  # noqa: E402
from tests.support.kernels.twins import assert_rows_close, random  # noqa: E402

Tile = tuple[int, int, bool, int]


def few_steps(shape: TileShape) -> int:
    """Inputs with which each buffer of a tile is filled, read and filled again."""
    return shape.splits * shape.width_block * (shape.stages + 2)


def check(
    rows: int, tile: Tile, quantization: Quantization, *, norm: bool, seed: int = 0, outputs_less: int = 0
) -> None:
    """Two tiles of outputs; outputs_less: how many the second one lacks."""
    outputs, width, gated, weight_bytes = tile
    shape = tile_shape(outputs, width, rows, gated=gated, weight_bytes=weight_bytes)
    width, outputs = min(width, few_steps(shape)), 2 * shape.output_block - outputs_less
    x, weight = random(rows, width), random(outputs * (1 + gated), width, seed=1) * width**-0.5
    matrix = Matrix(weight) if quantization == "none" else quantized(weight, quantization)
    residual = random(rows, outputs, seed=2)
    if gated:
        expected = ops.norm_gated(x, None, matrix, 1e-5)
    elif norm:
        expected = ops.norm_linear(x, None, matrix, 1e-5)
    else:
        expected = ops.add_linear(residual.clone(), x, matrix)
    fused = Matrix(matrix.values, matrix.scale, fused=True)
    with compiled_kernels(seed) as ran:
        if norm:
            ours = triton_ops.product(x, fused, norm=True, eps=1e-5, gated=gated, shape=shape)
        else:
            ours = triton_ops.product(x, fused, added=residual.clone(), shape=shape)
    assert ran == ["product_kernel"]
    assert_rows_close(ours, expected, 2e-2)


# A tile of each kind: with `mma` and `wgmma`, whole sums and splits over programs, two and one bytes a weight.
KINDS: dict[str, tuple[int, Tile, Quantization, bool]] = {
    "gated behind a norm, wgmma": (33, (8192, 1024, True, 2), "none", True),
    "added in splits over programs, wgmma": (1, (1024, 8192, False, 2), "none", False),
    "behind a norm, splits in one program, wgmma": (64, (2048, 8192, False, 2), "none", True),
    "behind a norm, mma": (64, (1536, 1024, False, 2), "none", True),
    "added in splits over programs, mma": (1, (2048, 2048, False, 2), "none", False),
    "gated behind a norm, float8, wgmma": (64, (8192, 1024, True, 1), "float8", True),
    "gated behind a norm, int8, wgmma": (33, (8192, 2048, True, 1), "int8", True),
    "added in splits over programs, int8, wgmma": (1, (2048, 8192, False, 1), "int8", False),
    "behind a norm, float8, mma": (17, (3072, 2048, False, 1), "float8", True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_of_each_kind_gives_its_twin_s_product(kind: str) -> None:
    rows, tile, quantization, norm = KINDS[kind]
    check(rows, tile, quantization, norm=norm)


@pytest.mark.parametrize("tile", [(8192, 1024, True, 2), (1536, 1024, False, 1)], ids=str)
def test_a_partial_tile_gives_its_twin_s_product(tile: Tile) -> None:
    check(17, tile, "none" if tile[3] == 2 else "int8", norm=True, outputs_less=5)


def test_a_kernel_that_starts_early_prefetches_its_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """`dependent_launch`: of weights, only what is in the matrix is prefetched."""
    monkeypatch.setattr(triton_ops, "dependent_launch", True)
    check(33, (8192, 1024, True, 2), "none", norm=True)


@pytest.mark.slow
@pytest.mark.parametrize("around", ["as in a frame", "with a norm"])
@pytest.mark.parametrize("rows", [1, 33, 64, 128])
@pytest.mark.parametrize("tile", MEASURED, ids=str)
def test_every_measured_tile_gives_its_twin_s_product(tile: Tile, rows: int, around: str) -> None:
    if tile[2] and around == "with a norm":
        pytest.skip("a gated product has a norm in a frame, too")
    quantizations: tuple[Quantization, ...] = ("none",) if tile[3] == 2 else ("float8", "int8")
    for quantization in quantizations:
        check(rows, tile, quantization, norm=tile[2] or around == "with a norm", seed=rows)


@pytest.mark.parametrize("rows", [1, 16])
def test_bits_of_a_row_do_not_depend_on_the_batch(rows: int) -> None:
    """Of a product without a norm: the same in a small batch and among 64 rows."""
    weight, x = random(64, 512, seed=1), random(64, 512)
    with compiled_kernels():
        alone = triton_ops.product(x[:rows].clone(), Matrix(weight, fused=True))
        together = triton_ops.product(x, Matrix(weight, fused=True))
    assert torch.equal(alone, together[:rows])
