"""Triton kernel of the backbone's attention over a slot: rotary embedding, cache write and attention in one launch.

Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.dependent_launch import await_inputs
from csm_engine.execution.ops.eight_bits import widened
from csm_engine.execution.ops.prefetch.prefetch_kernel import prefetch_at_end
from csm_engine.execution.ops.rotary import load_turned

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def backbone_attention_kernel(
    qkv_ptr, keys_ptr, values_ptr, slots_ptr, positions_ptr, rope_ptr, part_ptr, peak_ptr, total_ptr, arrivals_ptr,
    out_ptr, prefetch_ptr, max_positions, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, MEMBERS: tl.constexpr,
    SPLIT: tl.constexpr, SPLITS: tl.constexpr, ALL_SPLITS: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr,
    PDL: tl.constexpr, PREFETCH_MATRIX: tl.constexpr,
):  # fmt: skip
    """Grid (B, G, SPLITS): the query heads of one key head attend over keys SPLIT * z .. of the row's slot, if any.

    qkv (B, (H + 2 G) E); keys, values (S, L, G, E), of any type; out (B, H, E). part (B, H, SPLITS, E), peak and total
    (B, H, SPLITS), float32: unnormalised sum, largest score, sum of weights. arrivals (B, G) int32: zero before and
    after. The program that arrives last combines the splits, in their order. The split size is fixed, so the order of
    the sums depends only on the position. MEMBERS: query heads of a key head, filled up to 16; ALL_SPLITS: SPLITS
    filled up to a power of two. WIDE: multiplies in float32, for Triton's interpreter. PREFETCH_MATRIX: bytes of a
    matrix that are prefetched at the end, as in `prefetch_at_end`.
    """
    await_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    GROUP: tl.constexpr = HEADS // KV_HEADS
    position = tl.load(positions_ptr + row).to(tl.int32)
    first = split * SPLIT
    if first > position:
        if PREFETCH_MATRIX:
            prefetch_at_end(prefetch_ptr, None, None, None, None, 0, PREFETCH_MATRIX, 0, 0, 0)
        return
    slot = tl.load(slots_ptr + row).to(tl.int64)
    member = tl.arange(0, MEMBERS)
    is_member = member < GROUP
    whole = tl.arange(0, HEAD_DIM)
    inside = whole < HEAD_DIM
    row_heads = qkv_ptr + row * (HEADS + 2 * KV_HEADS) * HEAD_DIM
    rope = rope_ptr + position.to(tl.int64) * HEAD_DIM
    in_group = (kv_head * GROUP + member)[:, None] * HEAD_DIM
    query = load_turned(row_heads + in_group, rope, whole[None, :] + member[:, None] * 0, is_member[:, None])
    cached = slot * max_positions * KV_HEADS * HEAD_DIM + kv_head * HEAD_DIM
    used = position // SPLIT + 1
    is_last = split == used - 1
    own_key = load_turned(row_heads + (HEADS + kv_head) * HEAD_DIM, rope, whole, inside)
    own_key = own_key.to(keys_ptr.dtype.element_ty)
    own_value = tl.load(row_heads + (HEADS + KV_HEADS + kv_head) * HEAD_DIM + whole).to(values_ptr.dtype.element_ty)
    if is_last:
        own = cached + position.to(tl.int64) * KV_HEADS * HEAD_DIM + whole
        tl.store(keys_ptr + own, own_key)
        tl.store(values_ptr + own, own_value)
    own_score = tl.sum(query.to(tl.float32) * own_key.to(tl.float32)[None, :], axis=1) * scale
    peak = tl.where(is_last, own_score, float("-inf"))
    total = tl.where(is_last, 1.0, 0.0) + tl.zeros((MEMBERS,), tl.float32)
    part = tl.where(is_last, own_value.to(tl.float32)[None, :], 0.0) + tl.zeros((MEMBERS, HEAD_DIM), tl.float32)
    end = tl.minimum(first + SPLIT, position)
    if WIDE:
        query = query.to(tl.float32)
    for start in range(first, end, BLOCK):
        key = start + tl.arange(0, BLOCK)
        seen = key < end
        offset = cached + key.to(tl.int64)[:, None] * (KV_HEADS * HEAD_DIM) + whole[None, :]
        keys = tl.load(keys_ptr + offset, mask=seen[:, None], other=0.0)
        values = tl.load(values_ptr + offset, mask=seen[:, None], other=0.0)
        keys, values = widened(keys, query.dtype, False), widened(values, query.dtype, False)
        scores = tl.dot(query, tl.trans(keys), input_precision="ieee") * scale
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=1))
        fade = tl.exp(peak - higher)
        weights = tl.exp(scores - higher[:, None])
        total = total * fade + tl.sum(weights, axis=1)
        part = tl.dot(weights.to(query.dtype), values, part * fade[:, None], input_precision="ieee")
        peak = higher
    heads = row * HEADS + kv_head * GROUP + member
    written = is_member[:, None]
    if used == 1:
        attended = (part / total[:, None]).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + heads[:, None] * HEAD_DIM + whole[None, :], attended, mask=written)
    else:
        entry = heads * SPLITS + split
        tl.store(part_ptr + entry[:, None] * HEAD_DIM + whole[None, :], part, mask=written)
        tl.store(peak_ptr + entry, peak, mask=is_member)
        tl.store(total_ptr + entry, total, mask=is_member)
        tl.debug_barrier()  # all threads must have written before the count goes up
        counter = arrivals_ptr + row * KV_HEADS + kv_head
        if tl.atomic_add(counter, 1, sem="acq_rel") == used - 1:
            tl.store(counter, 0)
            index = tl.arange(0, ALL_SPLITS)
            is_used = index < used
            for one in tl.static_range(GROUP):
                head = row * HEADS + kv_head * GROUP + one
                entries = head * SPLITS + index
                peaks = tl.load(peak_ptr + entries, mask=is_used, other=float("-inf"), cache_modifier=".cg")
                totals = tl.load(total_ptr + entries, mask=is_used, other=0.0, cache_modifier=".cg")
                places = part_ptr + entries[:, None] * HEAD_DIM + whole[None, :]
                parts = tl.load(places, mask=is_used[:, None], other=0.0, cache_modifier=".cg")
                rise = tl.exp(peaks - tl.max(peaks, axis=0))
                joined = tl.sum(parts * rise[:, None], axis=0) / tl.sum(totals * rise, axis=0)
                tl.store(out_ptr + head * HEAD_DIM + whole, joined.to(out_ptr.dtype.element_ty))
    if PREFETCH_MATRIX:
        prefetch_at_end(prefetch_ptr, None, None, None, None, 0, PREFETCH_MATRIX, 0, 0, 0)
