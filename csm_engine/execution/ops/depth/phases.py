"""The phases of a frame of the depth decoder, each for the programs that share one launch. Importing needs triton.

A phase is cut into tiles or rows; a program takes those whose number is its own modulo the number of programs. So what
is added in which order does not depend on that number. Nor does it depend on the batch: products are of one kind of
tensor core instruction (at most 32 rows a product, so `mma.sync`), their splits are fixed, and a row's squares are
added in float64, in which the order cannot be seen in the float32 that is made of them.

A tile has ROW_BLOCK rows, of which 64 are two products by the same weights. Rows from `rows` on are neither read nor
written.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.depth.depth_attention_kernel import attend
from csm_engine.execution.ops.eight_bits import widened
from csm_engine.execution.ops.sample_kernel import best_logits, first_best, gumbel_noise

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)

MOST_ROWS = tl.constexpr(32)  # of one product


@triton.jit
def ask_for(
    program, programs, weight_ptr, rows,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, SPLITS: tl.constexpr, ROW_BLOCK: tl.constexpr,
    OUTPUT_BLOCK: tl.constexpr, THREADS: tl.constexpr,
):  # fmt: skip
    """Asks for the weights of the program's tiles in a later product, so that they are in the L2 cache by then."""
    row_blocks = tl.cdiv(rows, ROW_BLOCK)
    CHUNKS: tl.constexpr = THREADS // OUTPUT_BLOCK
    INPUTS: tl.constexpr = WIDTH // SPLITS // CHUNKS
    # Copied by an instruction that stays here: what follows from it is not computed early and kept in registers.
    chunk = tl.inline_asm_elementwise(
        "mov.b32 $0, $1;", "=r,r", [tl.arange(0, THREADS)], dtype=tl.int32, is_pure=False, pack=1
    )
    size = tl.full((THREADS,), INPUTS * (weight_ptr.dtype.element_ty.primitive_bitwidth // 8), tl.int32)
    for task in range(program, OUTPUTS // OUTPUT_BLOCK * SPLITS * row_blocks, programs):
        split, block = task // row_blocks % SPLITS, task // row_blocks // SPLITS
        place = weight_ptr + (block * OUTPUT_BLOCK + chunk // CHUNKS) * WIDTH
        place += split * (WIDTH // SPLITS) + chunk % CHUNKS * INPUTS
        tl.inline_asm_elementwise(
            "cp.async.bulk.prefetch.L2.global [$1], $2; // $0", "=r,l,r", [place.to(tl.int64), size],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def product_tile(
    x_ptr, weight_ptr, row, rows, output, first_input,
    WIDTH: tl.constexpr, INPUTS: tl.constexpr, WIDTH_BLOCK: tl.constexpr, STAGES: tl.constexpr, TWO: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """The sum over INPUTS inputs from first_input on: x (rows, WIDTH), weight (outputs, WIDTH) -> two of (row, output).

    TWO: the second is of as many rows behind `row`, by the same weights; else it is nothing. output: rows of weight.
    WIDE: multiplies in float32, for Triton's interpreter.
    """
    product = tl.zeros((row.shape[0], output.shape[0]), tl.float32)
    behind = product
    for start in tl.range(first_input, first_input + INPUTS, WIDTH_BLOCK, num_stages=STAGES):
        index = start + tl.arange(0, WIDTH_BLOCK)
        weight = tl.load(weight_ptr + output[:, None] * WIDTH + index[None, :], eviction_policy="evict_first")
        product = add_product(x_ptr, row, rows, index, weight, product, WIDTH, WIDE)
        if TWO:
            behind = add_product(x_ptr, row + row.shape[0], rows, index, weight, behind, WIDTH, WIDE)
    return product, behind


@triton.jit
def add_product(x_ptr, row, rows, index, weight, product, WIDTH: tl.constexpr, WIDE: tl.constexpr):
    """product (row, output) + x (row, index) by weight (output, index). Rows that are not there are not read."""
    place = x_ptr + row[:, None] * WIDTH + index[None, :]
    x = tl.load(place, mask=(row < rows)[:, None], other=0.0, eviction_policy="evict_last")
    if WIDE:
        x = x.to(tl.float32)
    return tl.dot(x, tl.trans(widened(weight, x.dtype)), product, input_precision="ieee")


@triton.jit
def row_scale(square_ptr, row, rows, eps, WIDTH: tl.constexpr, PARTS: tl.constexpr):
    """One over the root mean square of each row. square: (rows, PARTS) float64, sums of squares."""
    place = square_ptr + row[:, None] * PARTS + tl.arange(0, PARTS)[None, :]
    squares = tl.load(place, mask=(row < rows)[:, None], other=0.0)
    return tl.rsqrt((tl.sum(squares, axis=1) / WIDTH).to(tl.float32) + eps)


@triton.jit
def take_rows(program, programs, source_ptr, x_ptr, square_ptr, rows, WIDTH: tl.constexpr, PARTS: tl.constexpr):
    """Copies source (rows, WIDTH) to x, and adds the squares of each row."""
    for row in range(program, rows, programs):
        take_row(source_ptr + row * WIDTH, x_ptr, square_ptr, row, WIDTH, PARTS)


@triton.jit
def take_row(source_ptr, x_ptr, square_ptr, row, WIDTH: tl.constexpr, PARTS: tl.constexpr):
    """One row, WIDTH values at source, to x and square: all of their squares to its first part."""
    index = tl.arange(0, WIDTH)
    values = tl.load(source_ptr + index)
    tl.store(x_ptr + row * WIDTH + index, values)
    wide = values.to(tl.float64)
    part = tl.arange(0, PARTS)
    tl.store(square_ptr + row * PARTS + part, tl.where(part == 0, tl.sum(wide * wide, axis=0), 0.0))


@triton.jit
def normed_product(
    program, programs, x_ptr, square_ptr, weight_ptr, scale_ptr, out_ptr, rows, eps,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, GATED: tl.constexpr, SCALED: tl.constexpr, PARTS: tl.constexpr,
    ROW_BLOCK: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, WIDTH_BLOCK: tl.constexpr, STAGES: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """out (rows, OUTPUTS) = x (rows, WIDTH), each row over its root mean square, by weight; GATED: with SiLU.

    weight: (OUTPUTS, WIDTH); GATED: (2 OUTPUTS, WIDTH), gates before values. SCALED: scale holds a factor for each of
    its rows.
    """
    row_blocks = tl.cdiv(rows, ROW_BLOCK)
    HERE: tl.constexpr = min(ROW_BLOCK, MOST_ROWS)
    for tile in range(program, OUTPUTS // OUTPUT_BLOCK * row_blocks, programs):
        row = tile % row_blocks * ROW_BLOCK + tl.arange(0, HERE)
        first_output = tile // row_blocks * OUTPUT_BLOCK
        if GATED:  # gate, value, gate, value, ...
            pair = tl.arange(0, 2 * OUTPUT_BLOCK)
            output = first_output + pair // 2 + pair % 2 * OUTPUTS
        else:
            output = first_output + tl.arange(0, OUTPUT_BLOCK)
        if SCALED:
            factor = tl.load(scale_ptr + output)[None, :]
        product, behind = product_tile(
            x_ptr, weight_ptr, row, rows, output, 0, WIDTH, WIDTH, WIDTH_BLOCK, STAGES, HERE < ROW_BLOCK, WIDE
        )
        for half in tl.static_range(ROW_BLOCK // HERE):
            row_here = row + half * HERE
            # Only here: registers that hold it while products are added are missed there.
            scale = row_scale(square_ptr, row_here, rows, eps, WIDTH, PARTS)[:, None]
            sums = (behind if half else product) * scale
            if SCALED:
                sums *= factor
            if GATED:
                gate, value = tl.split(tl.reshape(sums, (HERE, OUTPUT_BLOCK, 2)))
                sums = gate * tl.sigmoid(gate) * value
            place = out_ptr + row_here[:, None] * OUTPUTS + first_output + tl.arange(0, OUTPUT_BLOCK)[None, :]
            tl.store(place, sums.to(out_ptr.dtype.element_ty), mask=(row_here < rows)[:, None])


@triton.jit
def added_product(
    program, programs, y_ptr, weight_ptr, scale_ptr, x_ptr, square_ptr, part_ptr, arrivals_ptr, rows,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, SCALED: tl.constexpr, SPLITS: tl.constexpr,
    ROW_BLOCK: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, WIDTH_BLOCK: tl.constexpr, STAGES: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """x (rows, OUTPUTS) += y (rows, WIDTH) by weight (OUTPUTS, WIDTH); then x's squares, a part for each tile.

    The sum over WIDTH is cut into SPLITS. part: (tiles, SPLITS, ROW_BLOCK, OUTPUT_BLOCK) float32. arrivals: (tiles,)
    int32, zero before and after; whoever arrives last at a tile adds its parts in their order. SCALED: scale holds a
    factor for each output.
    """
    row_blocks = tl.cdiv(rows, ROW_BLOCK)
    HERE: tl.constexpr = min(ROW_BLOCK, MOST_ROWS)
    SPLIT_WIDTH: tl.constexpr = WIDTH // SPLITS
    PART: tl.constexpr = ROW_BLOCK * OUTPUT_BLOCK
    PARTS: tl.constexpr = OUTPUTS // OUTPUT_BLOCK
    for task in range(program, PARTS * SPLITS * row_blocks, programs):
        split, tile = task // row_blocks % SPLITS, task // row_blocks // SPLITS * row_blocks + task % row_blocks
        row = task % row_blocks * ROW_BLOCK + tl.arange(0, HERE)
        block = task // row_blocks // SPLITS
        output = block * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
        product, behind = product_tile(
            y_ptr, weight_ptr, row, rows, output, split * SPLIT_WIDTH,
            WIDTH, SPLIT_WIDTH, WIDTH_BLOCK, STAGES, HERE < ROW_BLOCK, WIDE,
        )  # fmt: skip
        if SPLITS == 1:
            for half in tl.static_range(ROW_BLOCK // HERE):
                add_sums(
                    behind if half else product, scale_ptr, x_ptr, square_ptr, row + half * HERE, rows, output, block,
                    OUTPUTS, SCALED, PARTS,
                )  # fmt: skip
        else:
            within = tl.arange(0, HERE)[:, None] * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)[None, :]
            of_tile = part_ptr + tile * (SPLITS * PART)
            for half in tl.static_range(ROW_BLOCK // HERE):
                mine = of_tile + (split * PART + half * HERE * OUTPUT_BLOCK) + within
                tl.store(mine, behind if half else product, mask=(row + half * HERE < rows)[:, None])
            tl.debug_barrier()  # the count goes up when all threads have written
            if tl.atomic_add(arrivals_ptr + tile, 1, sem="acq_rel") == SPLITS - 1:
                tl.store(arrivals_ptr + tile, 0)
                for half in tl.static_range(ROW_BLOCK // HERE):
                    there = (row + half * HERE < rows)[:, None]
                    total = tl.zeros((HERE, OUTPUT_BLOCK), tl.float32)
                    for one in tl.static_range(SPLITS):
                        place = of_tile + (one * PART + half * HERE * OUTPUT_BLOCK) + within
                        total += tl.load(place, mask=there, other=0.0, cache_modifier=".cg")
                    add_sums(
                        total, scale_ptr, x_ptr, square_ptr, row + half * HERE, rows, output, block,
                        OUTPUTS, SCALED, PARTS,
                    )  # fmt: skip


@triton.jit
def add_sums(
    total, scale_ptr, x_ptr, square_ptr, row, rows, output, block,
    OUTPUTS: tl.constexpr, SCALED: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """x (rows, OUTPUTS) += total (row, output), whose block is `block`; and the squares of x there."""
    if SCALED:
        total *= tl.load(scale_ptr + output)[None, :]
    place = x_ptr + row[:, None] * OUTPUTS + output[None, :]
    there = (row < rows)[:, None]
    sums = (total + tl.load(place, mask=there, other=0.0).to(tl.float32)).to(x_ptr.dtype.element_ty)
    tl.store(place, sums, mask=there)
    wide = sums.to(tl.float64)
    tl.store(square_ptr + row * PARTS + block, tl.sum(wide * wide, axis=1), mask=row < rows)


@triton.jit
def attend_rows(
    program, programs, qkv_ptr, keys_ptr, values_ptr, rope_ptr, out_ptr, position, rows, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, LENGTH: tl.constexpr,
    BLOCK: tl.constexpr, MEMBERS: tl.constexpr,
):  # fmt: skip
    """One position of each row attends to the positions up to it. Shapes: as in `attend`."""
    GROUPS: tl.constexpr = HEADS // MEMBERS
    for task in range(program, rows * GROUPS, programs):
        attend(
            qkv_ptr, keys_ptr, values_ptr, rope_ptr, out_ptr, task // GROUPS, task % GROUPS * MEMBERS,
            position, scale, HEADS, KV_HEADS, HEAD_DIM, LENGTH, BLOCK, MEMBERS,
        )  # fmt: skip


@triton.jit
def draw_row(
    row, logits_ptr, slot_ptr, frame_ptr, seed_ptr, temperature_ptr, top_k_ptr, code_ptr, table_ptr, x_ptr,
    square_ptr, codebook, vocab_size,
    CODEBOOKS: tl.constexpr, CODEBOOK_SIZE: tl.constexpr, KEY_BITS: tl.constexpr, WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """Samples one code of a row and takes the next position's input for it, unless it is the last codebook's.

    logits: (rows, CODEBOOK_SIZE); seed, temperature, top_k: by slot; code: (rows, CODEBOOKS) int64; table:
    ((CODEBOOKS - 1) vocab_size, WIDTH).
    """
    slot = tl.load(slot_ptr + row)
    top_k = tl.minimum(tl.load(top_k_ptr + slot), CODEBOOK_SIZE)
    logits = best_logits(logits_ptr + row * CODEBOOK_SIZE, top_k, CODEBOOK_SIZE, CODEBOOK_SIZE, KEY_BITS)
    noise = gumbel_noise(tl.load(seed_ptr + slot), tl.load(frame_ptr + row), codebook, CODEBOOK_SIZE)
    code = first_best(logits + tl.load(temperature_ptr + slot) * noise, CODEBOOK_SIZE)
    tl.store(code_ptr + row * CODEBOOKS + codebook, code.to(tl.int64))
    if codebook < CODEBOOKS - 1:
        source = table_ptr + (codebook * vocab_size + code).to(tl.int64) * WIDTH
        take_row(source, x_ptr, square_ptr, row, WIDTH, PARTS)
