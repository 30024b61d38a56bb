"""Triton kernel of a matrix product over few rows, and all that stands around it in a layer: RMS norm before it,
gate, scale or residual behind it. Five launches a layer in place of eight.

Weights are the left operand: a tile is some outputs of all rows, so tensor cores take as few as 16 rows and weights
stream from memory into shared memory without passing a register. A row's products are added in one order at every
batch size: the inputs are cut into a fixed number of splits, each added in order from its first input, and the splits'
sums are added in order. The squares of a norm are added in an order that goes with the tile: with a norm, a row's bits
are the same among batches of one row block only (measured on an H100).

The squares of a norm have a load of their own. Where one load of x fed them and an asynchronous product (`wgmma`),
Triton gave x a buffer less than the weights, and the copy of a later block went into the one that the product still
read: wrong results on an H100. With two loads x has as many buffers, and the compiled code is right on a CPU
(tests/compiled); it has not run on a device. Needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.dependent_launch import await_inputs
from csm_engine.execution.ops.eight_bits import widened
from csm_engine.execution.ops.prefetch.prefetch_kernel import prefetch_at_end

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def product_kernel(
    x_ptr, weight_ptr, scale_ptr, out_ptr, part_ptr, arrivals_ptr,
    prefetch_ptr, prefetch_keys_ptr, prefetch_values_ptr, prefetch_slots_ptr, prefetch_positions_ptr, rows, eps,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr,
    NORM: tl.constexpr, GATED: tl.constexpr, SCALED: tl.constexpr, ADDED: tl.constexpr,
    ROW_BLOCK: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, WIDTH_BLOCK: tl.constexpr,
    SPLITS: tl.constexpr, SPLITS_HERE: tl.constexpr, EVEN: tl.constexpr, EVICT: tl.constexpr,
    WIDE: tl.constexpr, PDL: tl.constexpr, OWN_PREFETCH: tl.constexpr, CHUNKS: tl.constexpr,
    PREFETCH_MATRIX: tl.constexpr, PREFETCH_POSITIONS: tl.constexpr,
    PREFETCH_SLOT: tl.constexpr, PREFETCH_POSITION: tl.constexpr,
):  # fmt: skip
    """Grid (B / ROW_BLOCK, OUTPUTS / OUTPUT_BLOCK, SPLITS / SPLITS_HERE): x (B, WIDTH) -> out (B, OUTPUTS).

    weight: (OUTPUTS, WIDTH), or twice as many outputs.
    NORM: the product is divided by the root mean square of the row's inputs; the norm's weights are in the matrix.
    GATED: weight holds OUTPUTS rows of gates before those of values. SCALED: each row of weight has a scale.
    ADDED: the product goes on top of what is in out.
    SPLITS: parts of the sum over WIDTH; SPLITS_HERE: how many of them one program adds, all or one. Where it is one,
    part (tiles, SPLITS, ...) float32 holds them: products, values where GATED, sums of squares by row where NORM.
    arrivals (tiles,) int32, zero before and after, counts them, and the program of a tile that arrives last adds up.
    EVEN: OUTPUT_BLOCK divides OUTPUTS, and WIDTH_BLOCK a split. WIDE: multiplies in float32, for Triton's interpreter.
    PDL: launched before the kernel before it has ended; OWN_PREFETCH: instruction that prefetches the program's weights
    meanwhile, in CHUNKS a row of weights, 0 for none. PREFETCH_*: as in `prefetch_at_end`.
    """
    row = tl.program_id(0) * ROW_BLOCK + tl.arange(0, ROW_BLOCK)
    output = tl.program_id(1) * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
    SPLIT_WIDTH: tl.constexpr = WIDTH // SPLITS
    MOVES: tl.constexpr = NORM and ROW_BLOCK * WIDTH_BLOCK > 8192  # with these squares, Triton 3.6 spills otherwise
    is_row, is_output = row < rows, output < OUTPUTS
    if CHUNKS:
        chunk = tl.arange(0, OUTPUT_BLOCK * CHUNKS)
        own = (tl.program_id(1) * OUTPUT_BLOCK + chunk // CHUNKS).to(tl.int64) * WIDTH
        own = weight_ptr + own + tl.program_id(2) * SPLIT_WIDTH + chunk % CHUNKS * (SPLIT_WIDTH // CHUNKS)
        tl.inline_asm_elementwise(OWN_PREFETCH, "=r,l", [own.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1)
        if GATED:
            own += OUTPUTS * WIDTH
            tl.inline_asm_elementwise(OWN_PREFETCH, "=r,l", [own.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1)
    await_inputs(PDL)
    x_rows = x_ptr + row.to(tl.int64)[:, None] * WIDTH
    weight_rows = weight_ptr + output.to(tl.int64)[:, None] * WIDTH
    place = out_ptr + row.to(tl.int64)[None, :] * OUTPUTS + output[:, None]
    written = is_row[None, :] & is_output[:, None]
    if ADDED and SPLITS_HERE == SPLITS:
        added = tl.load(place, mask=written, other=0.0)  # long before it is needed
    product = tl.zeros((OUTPUT_BLOCK, ROW_BLOCK), tl.float32)
    value = tl.zeros((OUTPUT_BLOCK, ROW_BLOCK), tl.float32)
    squares = tl.zeros((ROW_BLOCK, WIDTH_BLOCK), tl.float32)
    for part in range(SPLITS_HERE):
        first = (tl.program_id(2) + part) * SPLIT_WIDTH
        one_product = tl.zeros((OUTPUT_BLOCK, ROW_BLOCK), tl.float32)
        one_value = tl.zeros((OUTPUT_BLOCK, ROW_BLOCK), tl.float32)
        for start in range(first, first + SPLIT_WIDTH, WIDTH_BLOCK):
            index = start + tl.arange(0, WIDTH_BLOCK)
            if EVEN:
                x = tl.load(x_rows + index[None, :], mask=is_row[:, None], other=0.0, eviction_policy="evict_last")
                weight = tl.load(weight_rows + index[None, :], eviction_policy=EVICT)
            else:
                inside = index < first + SPLIT_WIDTH
                read = is_output[:, None] & inside[None, :]
                x = tl.load(x_rows + index[None, :], mask=is_row[:, None] & inside[None, :], other=0.0)
                weight = tl.load(weight_rows + index[None, :], mask=read, other=0.0)
            if WIDE:
                x = x.to(tl.float32)
            one_product = tl.dot(widened(weight, x.dtype, MOVES), tl.trans(x), one_product, input_precision="ieee")
            if GATED:
                if EVEN:
                    weight = tl.load(weight_rows + OUTPUTS * WIDTH + index[None, :], eviction_policy=EVICT)
                else:
                    weight = tl.load(weight_rows + OUTPUTS * WIDTH + index[None, :], mask=read, other=0.0)
                one_value = tl.dot(widened(weight, x.dtype, MOVES), tl.trans(x), one_value, input_precision="ieee")
            if NORM:  # where a product is asynchronous, a load of its own, whose policy keeps it apart: see above
                if OUTPUT_BLOCK < 64:
                    again = x
                elif EVEN:
                    again = tl.load(x_rows + index[None, :], mask=is_row[:, None], other=0.0)
                else:
                    read = is_row[:, None] & inside[None, :]
                    again = tl.load(x_rows + index[None, :], mask=read, other=0.0, eviction_policy="evict_last")
                squares += again.to(tl.float32) * again.to(tl.float32)
        if SPLITS_HERE == 1:
            product, value = one_product, one_value
        else:
            product += one_product
            value += one_value
    if NORM:
        square = tl.sum(squares, axis=1)
    if SPLITS_HERE < SPLITS:
        tl.static_assert(SPLITS_HERE == 1)
        TILE: tl.constexpr = OUTPUT_BLOCK * ROW_BLOCK
        PART: tl.constexpr = TILE * (2 if GATED else 1) + (ROW_BLOCK if NORM else 0)
        tile = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        parts = part_ptr + tile.to(tl.int64) * (SPLITS * PART)
        mine = parts + tl.program_id(2) * PART
        within = tl.arange(0, OUTPUT_BLOCK)[:, None] + tl.arange(0, ROW_BLOCK)[None, :] * OUTPUT_BLOCK
        of_row = PART - ROW_BLOCK + tl.arange(0, ROW_BLOCK)
        tl.store(mine + within, product)
        if GATED:
            tl.store(mine + TILE + within, value)
        if NORM:
            tl.store(mine + of_row, square)
        tl.debug_barrier()  # the count goes up when all threads have written
        if tl.atomic_add(arrivals_ptr + tile, 1, sem="acq_rel") < SPLITS - 1:
            if PREFETCH_MATRIX or PREFETCH_POSITIONS:
                prefetch_at_end(
                    prefetch_ptr, prefetch_keys_ptr, prefetch_values_ptr, prefetch_slots_ptr, prefetch_positions_ptr,
                    rows, PREFETCH_MATRIX, PREFETCH_POSITIONS, PREFETCH_SLOT, PREFETCH_POSITION,
                )  # fmt: skip
            return
        tl.store(arrivals_ptr + tile, 0)
        if ADDED:
            added = tl.load(place, mask=written, other=0.0)
        product = tl.zeros((OUTPUT_BLOCK, ROW_BLOCK), tl.float32)
        if GATED:
            value = tl.zeros((OUTPUT_BLOCK, ROW_BLOCK), tl.float32)
        if NORM:
            square = tl.zeros((ROW_BLOCK,), tl.float32)
        for split in tl.static_range(SPLITS):
            product += tl.load(parts + split * PART + within, cache_modifier=".cg")
            if GATED:
                value += tl.load(parts + split * PART + TILE + within, cache_modifier=".cg")
            if NORM:
                square += tl.load(parts + split * PART + of_row, cache_modifier=".cg")
    if SCALED:
        product *= tl.load(scale_ptr + output, mask=is_output, other=0.0)[:, None]
        if GATED:
            value *= tl.load(scale_ptr + OUTPUTS + output, mask=is_output, other=0.0)[:, None]
    if NORM:
        length = tl.rsqrt(square / WIDTH + eps)[None, :]
        product, value = product * length, value * length
    if GATED:
        product = product * tl.sigmoid(product) * value
    if ADDED:
        product += added.to(tl.float32)
    tl.store(place, product.to(out_ptr.dtype.element_ty), mask=written)
    if PREFETCH_MATRIX or PREFETCH_POSITIONS:
        prefetch_at_end(
            prefetch_ptr, prefetch_keys_ptr, prefetch_values_ptr, prefetch_slots_ptr, prefetch_positions_ptr, rows,
            PREFETCH_MATRIX, PREFETCH_POSITIONS, PREFETCH_SLOT, PREFETCH_POSITION,
        )  # fmt: skip
