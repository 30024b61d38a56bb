"""Triton kernels of a prefill pass: embeddings, cache writes and attention of prompt rows. Importing needs triton.

Each row carries its slot and position, so rows of many prompts share a launch. The order of a row's sums depends only
on its position.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.dependent_launch import await_inputs
from csm_engine.execution.ops.rotary import load_turned

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def embed_kernel(
    ids_ptr, audio_ptr, text_ptr, out_ptr, rows, vocab_size,
    CODEBOOKS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T, WIDTH / BLOCK): ids (CODEBOOKS + 1, T), -1 where masked, the last of text -> out (T, WIDTH).

    audio (CODEBOOKS * vocab_size, WIDTH); text (text vocabulary, WIDTH).
    """
    await_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = index < WIDTH
    total = tl.zeros((BLOCK,), tl.float32)
    for codebook in range(CODEBOOKS):
        code = tl.load(ids_ptr + codebook * rows + row)
        entry = audio_ptr + (tl.maximum(code, 0) + codebook * vocab_size) * WIDTH + index
        total += tl.load(entry, mask=inside & (code >= 0), other=0.0).to(tl.float32)
    token = tl.load(ids_ptr + CODEBOOKS * rows + row)
    entry = text_ptr + tl.maximum(token, 0) * WIDTH + index
    total += tl.load(entry, mask=inside & (token >= 0), other=0.0).to(tl.float32)
    tl.store(out_ptr + row * WIDTH + index, total.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def write_rows_kernel(
    qkv_ptr, keys_ptr, values_ptr, slots_ptr, positions_ptr, rope_ptr, max_positions,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T,): the row's rotated keys and its values go to its slot and position.

    qkv (T, (H + 2 G) E); keys, values (S, L, G, E), of any type. KV_BLOCK: G filled up to a power of two.
    """
    await_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + row).to(tl.int64)
    position = tl.load(positions_ptr + row).to(tl.int64)
    kv_head = tl.arange(0, KV_BLOCK)[:, None]
    inside = kv_head < KV_HEADS
    whole = tl.arange(0, HEAD_DIM)[None, :] + kv_head * 0
    heads = qkv_ptr + (row * (HEADS + 2 * KV_HEADS) + HEADS + kv_head) * HEAD_DIM
    key = load_turned(heads, rope_ptr + position * HEAD_DIM, whole, inside)
    value = tl.load(heads + KV_HEADS * HEAD_DIM + whole, mask=inside, other=0.0)
    place = ((slot * max_positions + position) * KV_HEADS + kv_head) * HEAD_DIM + whole
    tl.store(keys_ptr + place, key.to(keys_ptr.dtype.element_ty), mask=inside)
    tl.store(values_ptr + place, value.to(values_ptr.dtype.element_ty), mask=inside)


@triton.jit
def prompt_attention_kernel(
    qkv_ptr, keys_ptr, values_ptr, slots_ptr, positions_ptr, rope_ptr, out_ptr, rows, max_positions, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, MEMBERS: tl.constexpr, TILE: tl.constexpr,
    BLOCK: tl.constexpr, WIDE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T / TILE, G): the query heads of one key head, for TILE rows of one slot, attend to that slot.

    qkv (T, (H + 2 G) E); keys, values (S, L, G, E), of any type, the rows' own included; out (T, H, E). The slot is
    that of the tile's first row. Every row sees key blocks from 0 on in the same order; blocks past its position add
    zeros, so its bits depend only on its position. MEMBERS: query heads of a key head, filled up to a power of two.
    WIDE: multiplies in float32, for Triton's interpreter.
    """
    await_inputs(PDL)
    kv_head = tl.program_id(1)
    GROUP: tl.constexpr = HEADS // KV_HEADS
    line = tl.arange(0, TILE * MEMBERS)
    row = tl.program_id(0) * TILE + line // MEMBERS
    member = line % MEMBERS
    is_row = row < rows
    is_head = (is_row & (member < GROUP))[:, None]
    slot = tl.load(slots_ptr + tl.program_id(0) * TILE).to(tl.int64)
    position = tl.load(positions_ptr + row, mask=is_row, other=0)
    head = row.to(tl.int64) * (HEADS + 2 * KV_HEADS) + kv_head * GROUP + member
    whole = tl.arange(0, HEAD_DIM)
    index = whole[None, :] + line[:, None] * 0
    query = load_turned(qkv_ptr + head[:, None] * HEAD_DIM, rope_ptr + position[:, None] * HEAD_DIM, index, is_head)
    if WIDE:
        query = query.to(tl.float32)
    position = position.to(tl.int32)
    cached = slot * max_positions * KV_HEADS * HEAD_DIM + kv_head * HEAD_DIM
    peak = tl.full((TILE * MEMBERS,), float("-inf"), tl.float32)
    total = tl.zeros((TILE * MEMBERS,), tl.float32)
    part = tl.zeros((TILE * MEMBERS, HEAD_DIM), tl.float32)
    end = tl.max(position, axis=0) + 1
    for start in range(0, end, BLOCK):
        key = start + tl.arange(0, BLOCK)
        written = (key < end)[:, None]
        offset = cached + key.to(tl.int64)[:, None] * (KV_HEADS * HEAD_DIM) + whole[None, :]
        keys = tl.load(keys_ptr + offset, mask=written, other=0.0).to(query.dtype)
        values = tl.load(values_ptr + offset, mask=written, other=0.0).to(query.dtype)
        scores = tl.dot(query, tl.trans(keys), input_precision="ieee") * scale
        scores = tl.where(key[None, :] <= position[:, None], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=1))
        fade = tl.exp(peak - higher)
        weights = tl.exp(scores - higher[:, None])
        total = total * fade + tl.sum(weights, axis=1)
        part = tl.dot(weights.to(query.dtype), values, part * fade[:, None], input_precision="ieee")
        peak = higher
    out = out_ptr + (row.to(tl.int64) * HEADS + kv_head * GROUP + member)[:, None] * HEAD_DIM + whole[None, :]
    tl.store(out, (part / total[:, None]).to(out_ptr.dtype.element_ty), mask=is_head)
