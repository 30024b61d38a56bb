"""Compiled code with a fault: that the tests beside this one would see it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import Matrix  # noqa: E402
from csm_engine.execution.ops import dispatch as ops  # noqa: E402
from csm_engine.execution.ops import triton_ops  # noqa: E402
from csm_engine.execution.ops.tile_shapes import TileShape  # noqa: E402
from tests.support.kernels.one_load_kernel import one_load_kernel  # noqa: E402
from tests.support.kernels.ptx.launches import compiled_kernels  # noqa: E402
from tests.support.kernels.ptx.memory import OutOfBounds, Race  # noqa: E402
from tests.support.kernels.twins import random  # noqa: E402

WITH_WGMMA = TileShape(64, 16, 64, splits=1, splits_here=1, warps=4, stages=4)
WITH_MMA = TileShape(16, 16, 128, splits=1, splits_here=1, warps=4, stages=3)


def test_a_copy_into_inputs_of_an_asynchronous_product_is_a_race() -> None:
    """As compiled, without an edit: the fault that made a product wrong on an H100 (product_kernel.py)."""
    x, weight = random(64, 1024), random(64, 1024, seed=1)
    out, square = torch.empty(64, 64), torch.empty(64)
    with compiled_kernels(), pytest.raises(Race, match="a tile has changed while a product read it"):
        one_load_kernel[(1,)](
            x, weight, out, square, WIDTH=1024, ROWS=64, OUTPUTS=64, BLOCK=128, num_warps=4, num_stages=4
        )


def product(shape: TileShape, edit: Callable[[str], str] = str) -> Tensor:
    x, weight = random(16, 1024), random(64, 1024, seed=1) * 1024**-0.5
    with compiled_kernels(edit=edit):
        return triton_ops.product(x, Matrix(weight, fused=True), norm=True, eps=1e-5, shape=shape)


def is_right(result: Tensor) -> bool:
    x, weight = random(16, 1024), random(64, 1024, seed=1) * 1024**-0.5
    expected = ops.norm_linear(x, None, Matrix(weight), 1e-5).float()
    return bool(((result.float() - expected).norm(dim=1) <= 2e-2 * expected.norm(dim=1)).all())


def without(pattern: str, number: int) -> Callable[[str], str]:
    """Leaves out the instruction of that number among those that match."""

    def edit(text: str) -> str:
        found = list(re.finditer(pattern, text))[number]
        return text[: found.start()] + text[found.end() :]

    return edit


def number_of(pattern: str, shape: TileShape) -> int:
    numbers = list[int]()

    def count(text: str) -> str:
        numbers.append(len(re.findall(pattern, text)))
        return text

    assert is_right(product(shape, count))
    return numbers[0]


@pytest.mark.parametrize(
    ("shape", "pattern"),
    [
        pytest.param(WITH_MMA, r"bar\.sync[^;]*;", id="mma, barrier"),
        pytest.param(WITH_MMA, r"cp\.async\.wait_group[^;]*;", id="mma, wait for copies"),
        pytest.param(WITH_WGMMA, r"bar\.sync[^;]*;", id="wgmma, barrier"),
        pytest.param(WITH_WGMMA, r"cp\.async\.wait_group[^;]*;", id="wgmma, wait for copies"),
        pytest.param(WITH_WGMMA, r"wgmma\.wait_group[^;]*;", id="wgmma, wait for a product"),
    ],
)
def test_a_removed_synchronization_instruction_is_found(shape: TileShape, pattern: str) -> None:
    """Of each kind at least half are: some barriers stand behind the last use of shared memory."""
    number = number_of(pattern, shape)
    assert number > 0
    seen = 0
    for one in range(number):
        try:
            seen += not is_right(product(shape, without(pattern, one)))
        except Race:
            seen += 1
    assert seen >= max(1, number // 2), f"{seen} of {number}"


def test_an_access_beside_a_tensor_is_refused() -> None:
    x, weight = random(16, 1024), random(64, 1024)
    with compiled_kernels(), pytest.raises(OutOfBounds):
        triton_ops.product(x, Matrix(weight[:, :1000].contiguous(), fused=True), shape=WITH_MMA)


@pytest.mark.parametrize("wrong", ["0x4140", "0x4342"])
def test_a_byte_in_the_wrong_place_is_a_wrong_product(wrong: str) -> None:
    """Of the widening of int8 (eight_bits.py)."""
    values = torch.randint(-127, 128, (64, 1024), generator=torch.Generator().manual_seed(2), dtype=torch.int8)
    matrix, x = Matrix(values, torch.full((64,), 1 / 127), fused=True), random(16, 1024)

    def made(edit: Callable[[str], str]) -> Any:
        with compiled_kernels(edit=edit):
            return triton_ops.product(x, matrix, shape=WITH_MMA).float()

    expected = x.float() @ (values.float() / 127).T
    assert (made(str) - expected).norm() <= 1e-2 * expected.norm()
    assert (made(lambda text: text.replace(wrong, "0x4041")) - expected).norm() > 1e-1 * expected.norm()
