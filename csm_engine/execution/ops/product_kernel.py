"""Triton kernel of a matrix product with few rows, and all that stands around it in a layer: RMS norm before it,
gate, scale or residual behind it. Five launches a layer in place of eight.

Weights are read once, in their own type. The sum over inputs goes in blocks of a fixed size that does not depend on
the batch. Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def product_kernel(
    x_ptr, norm_ptr, weight_ptr, scale_ptr, out_ptr, rows, eps,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr,
    NORM: tl.constexpr, GATED: tl.constexpr, SCALED: tl.constexpr, ADDED: tl.constexpr, WIDE: tl.constexpr,
    ROW_BLOCK: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, WIDTH_BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid (OUTPUTS / OUTPUT_BLOCK, B / ROW_BLOCK): x (B, WIDTH), weight (OUTPUTS, WIDTH) -> out (B, OUTPUTS).

    NORM: x is normed first. GATED: weight holds OUTPUTS rows of gates before those of values. SCALED: each row of
    weight has a factor. ADDED: the product is added to what is in out. WIDE: multiplies in float32, for Triton's
    interpreter, whose dot does not know bfloat16.
    """
    row = tl.program_id(1) * ROW_BLOCK + tl.arange(0, ROW_BLOCK)
    output = tl.program_id(0) * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
    is_row, is_output = row < rows, output < OUTPUTS
    product = tl.zeros((ROW_BLOCK, OUTPUT_BLOCK), tl.float32)
    value = tl.zeros((ROW_BLOCK, OUTPUT_BLOCK), tl.float32)
    squares = tl.zeros((ROW_BLOCK,), tl.float32)
    x_rows = x_ptr + row.to(tl.int64)[:, None] * WIDTH
    weight_rows = weight_ptr + output.to(tl.int64)[:, None] * WIDTH
    for start in range(0, WIDTH, WIDTH_BLOCK):
        index = start + tl.arange(0, WIDTH_BLOCK)
        inside = index < WIDTH
        x = tl.load(x_rows + index[None, :], mask=is_row[:, None] & inside[None, :], other=0.0)
        if NORM:
            wide = x.to(tl.float32)
            squares += tl.sum(wide * wide, axis=1)
            norm = tl.load(norm_ptr + index, mask=inside, other=0.0).to(tl.float32)
            x = (wide * norm[None, :]).to(x.dtype)
        if WIDE:
            x = x.to(tl.float32)
        read = is_output[:, None] & inside[None, :]
        weight = tl.load(weight_rows + index[None, :], mask=read, other=0.0).to(x.dtype)
        product = tl.dot(x, tl.trans(weight), product, input_precision="ieee")
        if GATED:
            weight = tl.load(weight_rows + OUTPUTS * WIDTH + index[None, :], mask=read, other=0.0).to(x.dtype)
            value = tl.dot(x, tl.trans(weight), value, input_precision="ieee")
    if SCALED:
        product *= tl.load(scale_ptr + output, mask=is_output, other=0.0)[None, :]
        if GATED:
            value *= tl.load(scale_ptr + OUTPUTS + output, mask=is_output, other=0.0)[None, :]
    if NORM:
        length = tl.rsqrt(squares / WIDTH + eps)[:, None]
        product, value = product * length, value * length
    if GATED:
        product = product * tl.sigmoid(product) * value
    place = out_ptr + row.to(tl.int64)[:, None] * OUTPUTS + output[None, :]
    written = is_row[:, None] & is_output[None, :]
    if ADDED:
        product += tl.load(place, mask=written, other=0.0).to(tl.float32)
    tl.store(place, product.to(out_ptr.dtype.element_ty), mask=written)
