"""The products of the depth decoder's phases, with what stands around them in a layer. Importing needs triton.

A product is cut into tiles; a program takes those whose number is its own modulo the number of programs. So what is
added in which order does not depend on that number. Nor does it depend on the batch: products are of one kind of
tensor core instruction (at most 32 rows a product, so `mma.sync`), their splits are fixed, and a row's squares are
added in float64, in which the order cannot be seen in the float32 that is made of them.

Rows of eight bits have a scale for each part of a row; products inside of a part are added in int32 (arXiv 2211.10438
multiplies so, with a scale for each row). Rows from `rows` on are neither read nor written; but a tile reads the
scales of all of its rows, which are zero, or of a row that was there, and multiplies zeros by them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.eight_bits import ROW_SCALES, in_eight_bits, widened

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)

MOST_ROWS = tl.constexpr(32)  # of one product


@triton.jit
def product_tile(
    x_ptr, x_scale_ptr, weight_ptr, first_row, rows, output, first_input,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, INPUTS: tl.constexpr, STEP: tl.constexpr, SHARED: tl.constexpr,
    STAGES: tl.constexpr, WIDE: tl.constexpr, TWO: tl.constexpr = False,
):  # fmt: skip
    """The sum over INPUTS inputs from first_input on: x (rows, WIDTH), weight (outputs, WIDTH) -> (ROWS, output),
    twice: of the tile of rows from first_row on, and where TWO of the one behind it, by one reading of the weights.

    output: rows of weight. A step has STEP inputs, of which SHARED at a time are multiplied; x of eight bits has a
    scale for each row of them. WIDE: multiplies in float32, for Triton's interpreter.
    """
    product = tl.zeros((ROWS, output.shape[0]), tl.float32)
    behind = product
    for start in tl.range(first_input, first_input + INPUTS, STEP, num_stages=STAGES):
        for first in tl.static_range(0, STEP, SHARED):
            index = start + first + tl.arange(0, SHARED)
            weight = tl.load(weight_ptr + output[:, None] * WIDTH + index[None, :], eviction_policy="evict_first")
            block = (start + first) // SHARED
            x, x_scale = load_rows(x_ptr, x_scale_ptr, first_row, rows, index, block, ROWS, WIDTH)
            product = add_product(x, x_scale, weight, product, WIDE)
            if TWO:
                x, x_scale = load_rows(x_ptr, x_scale_ptr, first_row + ROWS, rows, index, block, ROWS, WIDTH)
                behind = add_product(x, x_scale, weight, behind, WIDE)
    return product, behind


@triton.jit
def rows_of_tile(first_row, ROWS: tl.constexpr):
    """The rows of a tile, ROWS from first_row on, in the order that its product has them.

    A thread holds every eighth row of a product: so these are neighbours, whose scales lie side by side.
    """
    place = tl.arange(0, ROWS)
    return first_row + place % 8 * (ROWS // 8) + place // 8


@triton.jit
def load_rows(x_ptr, x_scale_ptr, first_row, rows, index, block, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """x (row, index) of a tile, zero for a row that is not there; and a scale for each row if x has eight bits.

    Triton 3.6 lets each thread copy the scales of all rows that it holds. So these are read as (8, ROWS / 8), of
    which a thread's are a line: one instruction in place of four. A mask would not be the same along it.
    """
    row = rows_of_tile(first_row, ROWS)
    place = x_ptr + row[:, None] * WIDTH + index[None, :]
    x = tl.load(place, mask=(row < rows)[:, None], other=0, eviction_policy="evict_last")
    x_scale = 1.0
    if x_ptr.dtype.element_ty == tl.int8:
        line = tl.arange(0, 8)[:, None] * (ROWS // 8) + tl.arange(0, ROWS // 8)[None, :]
        x_scale = tl.trans(tl.load(x_scale_ptr + block * ROW_SCALES + first_row + line))
        x_scale = tl.reshape(x_scale, (ROWS,))[:, None]
    return x, x_scale


@triton.jit
def add_product(x, x_scale, weight, product, WIDE: tl.constexpr):
    """product (row, output) + x (row, index) by weight (output, index). x of eight bits: in int32, then by x_scale."""
    if x.dtype == tl.int8:
        return product + tl.dot(x, tl.trans(weight), out_dtype=tl.int32).to(tl.float32) * x_scale
    else:
        if WIDE:
            x = x.to(tl.float32)
        return tl.dot(x, tl.trans(widened(weight, x.dtype)), product, input_precision="ieee")


@triton.jit
def norm_scale(square_ptr, row, rows, eps, WIDTH: tl.constexpr, PARTS: tl.constexpr):
    """One over the root mean square of each row. square: (rows, PARTS) float64, sums of squares."""
    place = square_ptr + row[:, None] * PARTS + tl.arange(0, PARTS)[None, :]
    squares = tl.load(place, mask=(row < rows)[:, None], other=0.0)
    return tl.rsqrt((tl.sum(squares, axis=1) / WIDTH).to(tl.float32) + eps)


@triton.jit
def normed_product(
    program, programs, x_ptr, x_scale_ptr, square_ptr, weight_ptr, scale_ptr, out_ptr, rows, eps,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, SCALED: tl.constexpr, PARTS: tl.constexpr,
    ROW_BLOCK: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, STEP: tl.constexpr, SHARED: tl.constexpr,
    STAGES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """out (rows, OUTPUTS) = x (rows, WIDTH), each row over its root mean square, by weight (OUTPUTS, WIDTH).

    SCALED: scale holds one for each output.
    """
    row_blocks = tl.cdiv(rows, ROW_BLOCK)
    for tile in range(program, OUTPUTS // OUTPUT_BLOCK * row_blocks, programs):
        first_row = tile % row_blocks * ROW_BLOCK
        row = rows_of_tile(first_row, ROW_BLOCK)
        output = tile // row_blocks * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
        if SCALED:
            scale = tl.load(scale_ptr + output)[None, :]
        sums, _ = product_tile(
            x_ptr, x_scale_ptr, weight_ptr, first_row, rows, output, 0,
            ROW_BLOCK, WIDTH, WIDTH, STEP, SHARED, STAGES, WIDE,
        )  # fmt: skip
        # Only here: registers that hold it while products are added are missed there.
        sums *= norm_scale(square_ptr, row, rows, eps, WIDTH, PARTS)[:, None]
        if SCALED:
            sums *= scale
        place = out_ptr + row[:, None] * OUTPUTS + output[None, :]
        tl.store(place, sums.to(out_ptr.dtype.element_ty), mask=(row < rows)[:, None])


@triton.jit
def gated_product(
    program, programs, x_ptr, x_scale_ptr, square_ptr, weight_ptr, scale_ptr, out_ptr, out_scale_ptr, rows, eps,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, SCALED: tl.constexpr, PARTS: tl.constexpr,
    ROW_BLOCK: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, STEP: tl.constexpr, SHARED: tl.constexpr,
    STAGES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """As normed_product, with SiLU. weight: (2 OUTPUTS, WIDTH), gates before values.

    out of eight bits has a scale for each row of OUTPUT_BLOCK. A tile of more than MOST_ROWS is two, by one reading of
    the weights.
    """
    row_blocks = tl.cdiv(rows, ROW_BLOCK)
    HERE: tl.constexpr = min(ROW_BLOCK, MOST_ROWS)
    TWO: tl.constexpr = HERE < ROW_BLOCK
    for tile in range(program, OUTPUTS // OUTPUT_BLOCK * row_blocks, programs):
        first_row = tile % row_blocks * ROW_BLOCK
        row = rows_of_tile(first_row, HERE)
        output = tile // row_blocks * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
        gate, value = tl.zeros((HERE, OUTPUT_BLOCK), tl.float32), tl.zeros((HERE, OUTPUT_BLOCK), tl.float32)
        gate_behind, value_behind = gate, value
        for start in tl.range(0, WIDTH, STEP, num_stages=STAGES):
            for first in tl.static_range(0, STEP, SHARED):
                index, block = start + first + tl.arange(0, SHARED), (start + first) // SHARED
                place = weight_ptr + output[:, None] * WIDTH + index[None, :]
                of_gate = tl.load(place, eviction_policy="evict_first")
                of_value = tl.load(place + OUTPUTS * WIDTH, eviction_policy="evict_first")
                x, x_scale = load_rows(x_ptr, x_scale_ptr, first_row, rows, index, block, HERE, WIDTH)
                gate = add_product(x, x_scale, of_gate, gate, WIDE)
                value = add_product(x, x_scale, of_value, value, WIDE)
                if TWO:
                    x, x_scale = load_rows(x_ptr, x_scale_ptr, first_row + HERE, rows, index, block, HERE, WIDTH)
                    gate_behind = add_product(x, x_scale, of_gate, gate_behind, WIDE)
                    value_behind = add_product(x, x_scale, of_value, value_behind, WIDE)
        for half in tl.static_range(ROW_BLOCK // HERE):
            if half:
                gate, value, row = gate_behind, value_behind, row + HERE
            scale = norm_scale(square_ptr, row, rows, eps, WIDTH, PARTS)[:, None]
            gate, value = gate * scale, value * scale
            if SCALED:
                gate *= tl.load(scale_ptr + output)[None, :]
                value *= tl.load(scale_ptr + OUTPUTS + output)[None, :]
            sums = gate * sigmoid(gate, WIDE) * value
            place = out_ptr + row[:, None] * OUTPUTS + output[None, :]
            if out_ptr.dtype.element_ty == tl.int8:
                eight, out_scale = in_eight_bits(sums)
                tl.store(place, eight, mask=(row < rows)[:, None])
                tl.store(out_scale_ptr + tile // row_blocks * ROW_SCALES + row, out_scale, mask=row < rows)
            else:
                tl.store(place, sums.to(out_ptr.dtype.element_ty), mask=(row < rows)[:, None])


@triton.jit
def sigmoid(x, WIDE: tl.constexpr):
    """1 / (1 + exp(-x)). On a GPU within 2**-21 of it, without the instructions for subnormal numbers."""
    if WIDE:
        return tl.sigmoid(x)
    else:
        return tl.inline_asm_elementwise(
            "{ .reg .f32 t; mul.f32 t, $1, 0fBFB8AA3B; ex2.approx.ftz.f32 t, t; add.f32 t, t, 0f3F800000;"
            " rcp.approx.ftz.f32 $0, t; }",
            "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1,
        )  # fmt: skip


@triton.jit
def added_product(
    program, programs, y_ptr, y_scale_ptr, weight_ptr, scale_ptr, x_ptr, square_ptr, eight_ptr, x_scale_ptr,
    part_ptr, arrivals_ptr, rows,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, SCALED: tl.constexpr, ROUNDED: tl.constexpr, SPLITS: tl.constexpr,
    ROW_BLOCK: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, STEP: tl.constexpr, SHARED: tl.constexpr,
    STAGES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """x (rows, OUTPUTS) += y (rows, WIDTH) by weight (OUTPUTS, WIDTH); then x's squares, a part for each tile.

    The sum over WIDTH is cut into SPLITS. part: (tiles, SPLITS, ROW_BLOCK, OUTPUT_BLOCK), to whose type all parts are
    rounded. arrivals: (tiles,) int32, zero before and after; the last program that arrives at a tile adds its parts
    in order. SCALED: scale holds one for each output. A tile of more than MOST_ROWS is two, by one reading of the
    weights.
    """
    row_blocks = tl.cdiv(rows, ROW_BLOCK)
    HERE: tl.constexpr = min(ROW_BLOCK, MOST_ROWS)
    HALVES: tl.constexpr = ROW_BLOCK // HERE
    SPLIT_WIDTH: tl.constexpr = WIDTH // SPLITS
    PART: tl.constexpr = ROW_BLOCK * OUTPUT_BLOCK
    PARTS: tl.constexpr = OUTPUTS // OUTPUT_BLOCK
    for task in range(program, PARTS * SPLITS * row_blocks, programs):
        split, tile = task // row_blocks % SPLITS, task // row_blocks // SPLITS * row_blocks + task % row_blocks
        first_row = task % row_blocks * ROW_BLOCK
        row = rows_of_tile(first_row, HERE)
        block = task // row_blocks // SPLITS
        output = block * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
        total, behind = product_tile(
            y_ptr, y_scale_ptr, weight_ptr, first_row, rows, output, split * SPLIT_WIDTH,
            HERE, WIDTH, SPLIT_WIDTH, STEP, SHARED, STAGES, WIDE, HALVES > 1,
        )  # fmt: skip
        last = True
        parts = part_ptr + tile * (SPLITS * PART)
        parts += (row - first_row)[:, None] * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)[None, :]
        if SPLITS > 1:
            tl.store(parts + split * PART, total.to(part_ptr.dtype.element_ty), mask=(row < rows)[:, None])
            if HALVES > 1:
                place = parts + split * PART + HERE * OUTPUT_BLOCK
                tl.store(place, behind.to(part_ptr.dtype.element_ty), mask=(row + HERE < rows)[:, None])
            tl.debug_barrier()  # the count goes up when all threads have written
            last = tl.atomic_add(arrivals_ptr + tile, 1, sem="acq_rel") == SPLITS - 1
        if last:
            if SPLITS > 1:
                tl.store(arrivals_ptr + tile, 0)
            for half in tl.static_range(HALVES):
                if half:
                    total, row, parts = behind, row + HERE, parts + HERE * OUTPUT_BLOCK
                if SPLITS > 1:
                    total = tl.zeros((HERE, OUTPUT_BLOCK), tl.float32)
                    there = (row < rows)[:, None]
                    for one in tl.static_range(SPLITS):
                        total += tl.load(parts + one * PART, mask=there, other=0.0, cache_modifier=".cg").to(tl.float32)
                add_sums(
                    total, scale_ptr, x_ptr, square_ptr, eight_ptr, x_scale_ptr, row, rows, output, block,
                    OUTPUTS, SCALED, ROUNDED, PARTS,
                )  # fmt: skip


@triton.jit
def add_sums(
    total, scale_ptr, x_ptr, square_ptr, eight_ptr, x_scale_ptr, row, rows, output, block,
    OUTPUTS: tl.constexpr, SCALED: tl.constexpr, ROUNDED: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """x (rows, OUTPUTS) += total (row, output), whose block is `block`; and the squares of x there.

    ROUNDED: x in eight bits as well, with a scale of each row of the block.
    """
    if SCALED:
        total *= tl.load(scale_ptr + output)[None, :]
    place = x_ptr + row[:, None] * OUTPUTS + output[None, :]
    there = (row < rows)[:, None]
    sums = (total + tl.load(place, mask=there, other=0.0).to(tl.float32)).to(x_ptr.dtype.element_ty)
    tl.store(place, sums, mask=there)
    wide = sums.to(tl.float64)
    tl.store(square_ptr + row * PARTS + block, tl.sum(wide * wide, axis=1), mask=row < rows)
    if ROUNDED:
        eight, x_scale = in_eight_bits(sums.to(tl.float32))
        tl.store(eight_ptr + row[:, None] * OUTPUTS + output[None, :], eight, mask=there)
        tl.store(x_scale_ptr + block * ROW_SCALES + row, x_scale, mask=row < rows)
