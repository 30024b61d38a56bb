"""A kernel whose compiled code has a fault, as Triton 3.6 and 3.7 make it. Importing needs triton."""

from __future__ import annotations

import triton
import triton.language as tl

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def one_load_kernel(
    x_ptr, weight_ptr, out_ptr, square_ptr, WIDTH: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """x (ROWS, WIDTH) by weight (OUTPUTS, WIDTH) -> out (OUTPUTS, ROWS), square (ROWS,): one load of x feeds both."""
    row, output = tl.arange(0, ROWS), tl.arange(0, OUTPUTS)
    product = tl.zeros((OUTPUTS, ROWS), tl.float32)
    squares = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        index = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row[:, None] * WIDTH + index[None, :])
        weight = tl.load(weight_ptr + output[:, None] * WIDTH + index[None, :])
        product = tl.dot(weight, tl.trans(x), product)
        squares += x.to(tl.float32) * x.to(tl.float32)
    tl.store(out_ptr + output[:, None] * ROWS + row[None, :], product)
    tl.store(square_ptr + row, tl.sum(squares, axis=1))
