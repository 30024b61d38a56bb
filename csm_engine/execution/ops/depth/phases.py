"""The phases of a frame of the depth decoder beside its products: taking rows, attention, sampling.
Importing needs triton.

A program takes the tiles or rows whose number is its own modulo the number of programs.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.depth.depth_attention_kernel import attend
from csm_engine.execution.ops.eight_bits import ROW_SCALES, in_eight_bits
from csm_engine.execution.ops.sample_kernel import best_logits, first_best, gumbel_noise

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def take_rows(
    program, programs, source_ptr, x_ptr, square_ptr, eight_ptr, x_scale_ptr, first, rows,
    WIDTH: tl.constexpr, PARTS: tl.constexpr, ROUNDED: tl.constexpr,
):  # fmt: skip
    """Copies source (rows, WIDTH) to x from row `first` on, and adds the squares of each row."""
    for row in range(program, rows, programs):
        take_row(
            source_ptr + row * WIDTH, x_ptr, square_ptr, eight_ptr, x_scale_ptr, first + row, WIDTH, PARTS, ROUNDED
        )


@triton.jit
def take_row(
    source_ptr, x_ptr, square_ptr, eight_ptr, x_scale_ptr, row,
    WIDTH: tl.constexpr, PARTS: tl.constexpr, ROUNDED: tl.constexpr,
):  # fmt: skip
    """One row, WIDTH values at source, to x, and the squares of each of its PARTS to square.

    ROUNDED: to eight as well, with a scale for each part.
    """
    part = tl.arange(0, PARTS)
    index = part[:, None] * (WIDTH // PARTS) + tl.arange(0, WIDTH // PARTS)[None, :]
    values = tl.load(source_ptr + index)
    tl.store(x_ptr + row * WIDTH + index, values)
    if ROUNDED:
        eight, x_scale = in_eight_bits(values.to(tl.float32))
        tl.store(eight_ptr + row * WIDTH + index, eight)
        tl.store(x_scale_ptr + part * ROW_SCALES + row, x_scale)
    wide = values.to(tl.float64)
    tl.store(square_ptr + row * PARTS + part, tl.sum(wide * wide, axis=1))


@triton.jit
def attend_rows(
    program, programs, qkv_ptr, keys_ptr, values_ptr, rope_ptr, out_ptr, out_scale_ptr, position, rows, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, LENGTH: tl.constexpr,
    BLOCK: tl.constexpr, MEMBERS: tl.constexpr,
):  # fmt: skip
    """One position of each row attends to the positions up to it. Shapes: as in `attend`."""
    GROUPS: tl.constexpr = HEADS // MEMBERS
    for task in range(program, rows * GROUPS, programs):
        attend(
            qkv_ptr, keys_ptr, values_ptr, rope_ptr, out_ptr, out_scale_ptr, task // GROUPS, task % GROUPS * MEMBERS,
            position, scale, HEADS, KV_HEADS, HEAD_DIM, LENGTH, BLOCK, MEMBERS,
        )  # fmt: skip


@triton.jit
def draw_row(
    row, logits_ptr, slot_ptr, frame_ptr, seed_ptr, temperature_ptr, top_k_ptr, code_ptr, table_ptr, x_ptr,
    square_ptr, eight_ptr, x_scale_ptr, qkv_ptr, codebook, vocab_size,
    CODEBOOKS: tl.constexpr, CODEBOOK_SIZE: tl.constexpr, KEY_BITS: tl.constexpr, WIDTH: tl.constexpr,
    PARTS: tl.constexpr, ROUNDED: tl.constexpr, QUERIES: tl.constexpr, KEYS_AND_VALUES: tl.constexpr,
):  # fmt: skip
    """Samples one code of a row and takes the next position's input for it, with layer 0's q, k and v, unless it is the
    last codebook's.

    logits: (rows, CODEBOOK_SIZE); seed, temperature, top_k: by slot; code: (rows, CODEBOOKS) int64, CODEBOOK_SIZE where
    a logit is NaN; table: inputs, ((CODEBOOKS - 1) vocab_size, WIDTH), then their q, k and v, ((CODEBOOKS - 1)
    vocab_size, QUERIES + KEYS_AND_VALUES).
    """
    slot = tl.load(slot_ptr + row)
    top_k = tl.minimum(tl.load(top_k_ptr + slot), CODEBOOK_SIZE)
    logits = best_logits(logits_ptr + row * CODEBOOK_SIZE, top_k, CODEBOOK_SIZE, CODEBOOK_SIZE, KEY_BITS)
    noise = gumbel_noise(tl.load(seed_ptr + slot), tl.load(frame_ptr + row), codebook, CODEBOOK_SIZE)
    code = first_best(logits + tl.load(temperature_ptr + slot) * noise, CODEBOOK_SIZE, CODEBOOK_SIZE)
    tl.store(code_ptr + row * CODEBOOKS + codebook, code.to(tl.int64))
    if codebook < CODEBOOKS - 1:
        place = (codebook * vocab_size + tl.minimum(code, vocab_size - 1)).to(tl.int64)
        query, other = tl.arange(0, QUERIES), QUERIES + tl.arange(0, KEYS_AND_VALUES)
        own = table_ptr + (CODEBOOKS - 1) * vocab_size * WIDTH + place * (QUERIES + KEYS_AND_VALUES)
        queries, others = tl.load(own + query), tl.load(own + other)  # on their way while x is taken
        take_row(table_ptr + place * WIDTH, x_ptr, square_ptr, eight_ptr, x_scale_ptr, row, WIDTH, PARTS, ROUNDED)
        tl.store(qkv_ptr + row * (QUERIES + KEYS_AND_VALUES) + query, queries)
        tl.store(qkv_ptr + row * (QUERIES + KEYS_AND_VALUES) + other, others)
