"""The depth decoder's frame: its phases in one launch each, or all in one launch with barriers in between.

Both run the same `phase`. Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.depth.grid_barrier import wait_for_all
from csm_engine.execution.ops.depth.phases import attend_rows, draw_row, take_rows
from csm_engine.execution.ops.depth.products import added_product, gated_product, normed_product
from csm_engine.execution.ops.eight_bits import ROW_SCALES
from csm_engine.execution.ops.prefetch.prefetch_kernel import prefetch

# ruff: noqa: N803, N806  (constants are upper case, as is Triton's custom)

TAKE, QKV, ATTEND, OUT, GATE_UP, DOWN, HEAD, DRAW = (tl.constexpr(number) for number in range(8))


@triton.jit
def phase(
    PHASE: tl.constexpr, program, programs, codebook, layer, position, rows, inputs, weights, buffers, draw,
    S: tl.constexpr,
):  # fmt: skip
    """One phase of the pass that ends in a code of `codebook`. The pass of codebook 1 has positions 0 and 1, the rows
    of position 1 behind those of position 0; a later pass has the codebook's own position. rows: of one position.

    inputs, weights, buffers, draw: as `depth_frame_kernel` has them. S: a DepthShape.
    """
    first, fed = inputs
    qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope = weights
    x, square, qkv, attended, inner, logits, part, arrivals, cache, eight, row_scale = buffers
    attended_scale = row_scale + S.parts * ROW_SCALES
    inner_scale = attended_scale + S.heads * ROW_SCALES
    first_position = tl.where(codebook == 1, 0, codebook)
    here = rows * (codebook - first_position + 1)
    scale += layer * S.outputs
    rounded = eight if S.rounded else x  # what products read of x
    if PHASE == TAKE:
        take_rows(program, programs, first, x, square, eight, row_scale, 0, rows, S.dim, S.parts, S.rounded)
        take_rows(program, programs, fed, x, square, eight, row_scale, rows, rows, S.dim, S.parts, S.rounded)
    elif PHASE == QKV:
        normed_product(
            program, programs, rounded, row_scale, square, qkv_weight + layer * (S.qkv_rows * S.dim), scale, qkv,
            here, S.eps,
            S.dim, S.qkv_rows, S.scaled, S.parts, S.cuts.qkv.rows,
            S.cuts.qkv.block, S.qkv_step, S.x_block or S.qkv_step, S.cuts.qkv.stages, S.wide,
        )  # fmt: skip
    elif PHASE == ATTEND:
        keys = cache + layer * rows * (S.kv_heads * S.codebooks * S.head_dim)
        values = keys + S.layers * rows * (S.kv_heads * S.codebooks * S.head_dim)
        before = (position - first_position) * rows
        attend_rows(
            program, programs, qkv + before * S.qkv_rows, keys, values, rope,
            attended + before * S.attended, attended_scale + before, position, rows, S.head_dim**-0.5,
            S.heads, S.kv_heads, S.head_dim, S.codebooks, S.keys, S.members,
        )  # fmt: skip
    elif PHASE == OUT:
        added_product(
            program, programs, attended, attended_scale, out_weight + layer * (S.dim * S.attended),
            scale + S.qkv_rows, x, square, eight, row_scale, part, arrivals, here,
            S.attended, S.dim, S.scaled, S.rounded, 1, S.cuts.out.rows,
            S.cuts.out.block, S.out_step, S.attended_block or S.out_step, S.cuts.out.stages, S.wide,
        )  # fmt: skip
    elif PHASE == GATE_UP:
        gated_product(
            program, programs, rounded, row_scale, square, gate_up_weight + layer * (2 * S.ffn * S.dim),
            scale + S.qkv_rows + S.dim, inner, inner_scale, here, S.eps,
            S.dim, S.ffn, S.scaled, S.parts, S.cuts.gate_up.rows,
            S.cuts.gate_up.block, S.gate_up_step, S.x_block or S.gate_up_step, S.cuts.gate_up.stages, S.wide,
        )  # fmt: skip
    elif PHASE == DOWN:
        added_product(
            program, programs, inner, inner_scale, down_weight + layer * (S.dim * S.ffn),
            scale + (S.outputs - S.dim), x, square, eight, row_scale, part, arrivals, here,
            S.ffn, S.dim, S.scaled, S.rounded, S.splits, S.cuts.down.rows,
            S.cuts.down.block, S.down_step, S.inner_block or S.down_step, S.cuts.down.stages, S.wide,
        )  # fmt: skip
    elif PHASE == HEAD:
        before = here - rows
        normed_product(
            program, programs, x + before * S.dim, row_scale, square + before * S.parts,
            head_weight + (codebook - 1) * (S.head_rows * S.dim), scale, logits, rows, S.eps,
            S.dim, S.codebook_size, False, S.parts, S.cuts.heads.rows,
            S.heads_block, S.heads_step, S.heads_step, S.cuts.heads.stages, S.wide,
        )  # fmt: skip
    else:
        tl.static_assert(PHASE == DRAW)
        slot, frame, seed, temperature, top_k, codes = draw
        for row in range(program, rows, programs):
            draw_row(
                row, logits, slot, frame, seed, temperature, top_k, codes, table, x, square, eight, row_scale, qkv,
                codebook, S.vocab_size, S.codebooks, S.codebook_size, S.key_bits, S.dim, S.parts, S.rounded,
                S.attended, S.qkv_rows - S.attended,
            )  # fmt: skip


@triton.jit
def prefetch_qkv(program, programs, layer, weights, S: tl.constexpr):
    qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope = weights
    place = qkv_weight + layer * (S.qkv_rows * S.dim)
    prefetch(program, programs, place, S.weight_bytes * S.dim * S.qkv_rows)


@triton.jit
def prefetch_out(program, programs, layer, weights, S: tl.constexpr):
    qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope = weights
    place = out_weight + layer * (S.dim * S.attended)
    prefetch(program, programs, place, S.weight_bytes * S.attended * S.dim)


@triton.jit
def prefetch_gate_up(program, programs, layer, weights, S: tl.constexpr):
    qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope = weights
    place = gate_up_weight + layer * (2 * S.ffn * S.dim)
    prefetch(program, programs, place, S.weight_bytes * S.dim * 2 * S.ffn)


@triton.jit
def prefetch_next(PHASE: tl.constexpr, program, programs, codebook, layer, weights, S: tl.constexpr):
    """Behind a phase, prefetches the weights that come into the L2 cache while there are none to multiply by.

    The cache holds a layer's gate and up, the largest of all, beside a small matrix: so at most these are on their way.
    """
    qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope = weights
    if PHASE == TAKE:
        prefetch_qkv(program, programs, 0, weights, S)
        prefetch_out(program, programs, 0, weights, S)
        prefetch_gate_up(program, programs, 0, weights, S)
    elif PHASE == QKV:
        if layer > 0:
            prefetch_gate_up(program, programs, layer, weights, S)
    elif PHASE == GATE_UP:
        place = down_weight + layer * (S.dim * S.ffn)
        prefetch(program, programs, place, S.weight_bytes * S.ffn * S.dim)
    elif PHASE == DOWN:
        if layer + 1 < S.layers:
            prefetch_qkv(program, programs, layer + 1, weights, S)
            prefetch_out(program, programs, layer + 1, weights, S)
        else:
            place = head_weight + (codebook - 1) * (S.head_rows * S.dim)
            prefetch(program, programs, place, S.value_bytes * S.dim * S.codebook_size)
    elif PHASE == HEAD:
        if codebook + 1 < S.codebooks:
            prefetch_out(program, programs, 0, weights, S)
    elif PHASE == DRAW:
        if codebook + 1 < S.codebooks:
            prefetch_gate_up(program, programs, 0, weights, S)


@triton.jit(do_not_specialize=["codebook", "layer", "position", "rows"])
def depth_phase_kernel(
    first, fed,
    qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope,
    x, square, qkv, attended, inner, logits, part, arrivals, cache, eight, row_scale,
    slot, frame, seed, temperature, top_k, codes,
    codebook, layer, position, rows, PHASE: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """One phase. Any number of programs; arguments as of `depth_frame_kernel`."""
    phase(
        PHASE, tl.program_id(0), tl.num_programs(0), codebook, layer, position, rows, (first, fed),
        (qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope),
        (x, square, qkv, attended, inner, logits, part, arrivals, cache, eight, row_scale),
        (slot, frame, seed, temperature, top_k, codes), S,
    )  # fmt: skip


@triton.jit(noinline=True)  # so that phases share no registers
def step(
    PHASE: tl.constexpr, program, programs, codebook, layer, position, rows, inputs, weights, buffers, draw, counter,
    patience, S: tl.constexpr,
):  # fmt: skip
    """A phase, the prefetch of what comes next, and the barrier behind it. Returns the patience that is left."""
    # Zero, which the compiler does not know: it would compute places for every phase before the loops, and spill them.
    program += patience >> 31
    phase(PHASE, program, programs, codebook, layer, position, rows, inputs, weights, buffers, draw, S)
    if S.prefetches:
        prefetch_next(PHASE, program, programs, codebook, layer, weights, S)
    return wait_for_all(counter, program, programs, patience)


@triton.jit(do_not_specialize=["rows"])
def depth_frame_kernel(
    first, fed,
    qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope,
    x, square, qkv, attended, inner, logits, part, arrivals, cache, eight, row_scale,
    slot, frame, seed, temperature, top_k, codes,
    counter, rows, S: tl.constexpr,
):  # fmt: skip
    """Codebooks 1..K-1 of a frame of B rows in one cooperative launch of any number of programs.

    first, fed (B, d): inputs of positions 0 and 1. Weights of all layers: qkv (L, (H + 2 G) E, d), out (L, d, H E),
    gate_up (L, 2 F, d), down (L, d, F), head (K - 1, V, d); table as in `DepthWeights`. Buffers: `DepthBuffers`.
    slot, frame (B,) int64; seed, temperature, top_k by slot; codes (B, K) int64, of which the first column stays.
    counter: of the barriers.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    inputs = (first, fed)
    weights = (qkv_weight, out_weight, gate_up_weight, down_weight, head_weight, scale, table, rope)
    buffers = (x, square, qkv, attended, inner, logits, part, arrivals, cache, eight, row_scale)
    draw = (slot, frame, seed, temperature, top_k, codes)
    left = program * 0 + S.patience
    left = step(TAKE, program, programs, 1, 0, 0, rows, inputs, weights, buffers, draw, counter, left, S)
    zero = program * 0  # no constant, as in the loop: so one function serves both
    left = step(QKV, program, programs, zero + 1, zero, 0, rows, inputs, weights, buffers, draw, counter, left, S)
    for codebook in range(1, S.codebooks):
        for layer in range(S.layers):
            if codebook == 1:
                left = step(
                    ATTEND, program, programs, codebook, layer, codebook - 1, rows, inputs, weights, buffers, draw,
                    counter, left, S,
                )  # fmt: skip
            left = step(
                ATTEND, program, programs, codebook, layer, codebook, rows, inputs, weights, buffers, draw, counter,
                left, S,
            )  # fmt: skip
            left = step(
                OUT, program, programs, codebook, layer, 0, rows, inputs, weights, buffers, draw, counter, left, S
            )
            left = step(
                GATE_UP, program, programs, codebook, layer, 0, rows, inputs, weights, buffers, draw, counter, left, S
            )
            left = step(
                DOWN, program, programs, codebook, layer, 0, rows, inputs, weights, buffers, draw, counter, left, S
            )
            if layer + 1 < S.layers:  # layer 0's q, k and v come with the code
                left = step(
                    QKV, program, programs, codebook, layer + 1, 0, rows, inputs, weights, buffers, draw, counter, left,
                    S,
                )  # fmt: skip
        left = step(HEAD, program, programs, codebook, 0, 0, rows, inputs, weights, buffers, draw, counter, left, S)
        left = step(DRAW, program, programs, codebook, 0, 0, rows, inputs, weights, buffers, draw, counter, left, S)
    if left == 0:  # some program does not run, so the codes are worthless: the device reports a failed launch
        tl.inline_asm_elementwise("trap; mov.u32 $0, $1;", "=r,r", [left], dtype=tl.int32, is_pure=False, pack=1)
