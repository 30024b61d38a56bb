"""Weights of eight bits as bfloat16, four at a time: exact, but for what is no number. And rows in eight bits.
Importing needs triton.

Triton's own conversion goes through float16 and float32, one weight at a time, in a unit of the multiprocessor that
takes 16 a clock: with it, our products over eight bits took as long as over sixteen on an H100. These instructions have
not run on a device; tests run them one by one, and within products as compiled.
"""

from __future__ import annotations

import triton
import triton.language as tl

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)

ROW_SCALES = tl.constexpr(
    128
)  # of rows in eight bits: (blocks of a row, ROW_SCALES) float32, so of at most so many rows

# Each pair of bytes goes to the upper halves of two sixteen-bit values. Of a float8 (e4m3), exponent and fraction move
# to where bfloat16 has the last bits of its exponent and the first ones of its fraction; that is the weight times
# 2**-120, subnormal ones too.
_PAIR_OF_FLOAT8 = """
    prmt.b32 pair, $2, 0, {bytes};
    shr.u32 rest, pair, 4;
    and.b32 rest, rest, 0x07f007f0;
    and.b32 pair, pair, 0x80008000;
    or.b32 pair, pair, rest;
    mov.b32 rest, 0x7b807b80;
    mul.rn.bf16x2 ${out}, pair, rest;
"""
# Of an int8, seven bits are the fraction of a number from 128 to 255. Its sign says how much that is too large: 256 or
# 128 is taken away.
_PAIR_OF_INT8 = """
    prmt.b32 pair, $2, 0, {bytes};
    and.b32 rest, pair, 0x00800080;
    or.b32 rest, rest, 0x43004300;
    and.b32 pair, pair, 0x007f007f;
    or.b32 pair, pair, 0x43004300;
    sub.rn.bf16x2 ${out}, pair, rest;
"""


def _four(pair: str, first: str, second: str) -> tl.constexpr:
    lines = pair.format(bytes=first, out=0) + pair.format(bytes=second, out=1)
    return tl.constexpr("{ .reg .b32 pair, rest;" + lines + "}")


FROM_FLOAT8 = _four(_PAIR_OF_FLOAT8, "0x1404", "0x3424")
FROM_INT8 = _four(_PAIR_OF_INT8, "0x4140", "0x4342")


@triton.jit
def widened(weight, dtype: tl.constexpr, MOVES: tl.constexpr = True):
    """weight, of any shape and type, as `dtype`.

    MOVES: the compiler may widen where a product needs the numbers. If not, it does so where they were loaded, four
    neighbours in one thread, and they are shared between threads afterwards.
    """
    if dtype == tl.bfloat16 and weight.dtype == tl.float8e4nv:
        return tl.inline_asm_elementwise(
            FROM_FLOAT8, "=&r,=&r,r", [weight.to(tl.int8, bitcast=True)], dtype=tl.bfloat16, is_pure=MOVES, pack=4
        )
    elif dtype == tl.bfloat16 and weight.dtype == tl.int8:
        return tl.inline_asm_elementwise(FROM_INT8, "=&r,=&r,r", [weight], dtype=tl.bfloat16, is_pure=MOVES, pack=4)
    else:
        return weight.to(dtype)


@triton.jit
def in_eight_bits(values):
    """values (rows, n) float32 -> int8 of the same shape, and a scale for each row: its largest magnitude is 127."""
    largest = tl.max(tl.abs(values), axis=1)
    steps = values * (127 / tl.maximum(largest, 1e-30))[:, None]
    # The sum's last byte is the nearest integer, of two the even one.
    return (steps + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8), largest * (1 / 127)
