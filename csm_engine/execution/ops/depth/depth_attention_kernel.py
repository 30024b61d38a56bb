"""Triton kernel of the depth decoder's attention: one position of a frame over the positions up to it.

Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.dependent_launch import await_inputs
from csm_engine.execution.ops.eight_bits import ROW_SCALES, in_eight_bits
from csm_engine.execution.ops.rotary import load_turned

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def attend(
    qkv_ptr, keys_ptr, values_ptr, rope_ptr, out_ptr, out_scale_ptr, row, first_head, position, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, LENGTH: tl.constexpr,
    BLOCK: tl.constexpr, MEMBERS: tl.constexpr,
):  # fmt: skip
    """MEMBERS query heads of one key head of one row, from first_head on, attend over positions 0..position.

    qkv (B, (H + 2 G) E); keys, values (B, G, LENGTH, E); out (B, H, E). BLOCK: at least `position`, a power of two.
    The first heads of a key head write the position's key and value; all take them from registers.
    """
    GROUP: tl.constexpr = HEADS // KV_HEADS
    kv_head = first_head // GROUP
    whole = tl.arange(0, HEAD_DIM)
    inside = whole < HEAD_DIM
    rope = rope_ptr + position * HEAD_DIM
    heads = qkv_ptr + row * (HEADS + 2 * KV_HEADS) * HEAD_DIM
    cache = (row * KV_HEADS + kv_head) * LENGTH * HEAD_DIM
    key = tl.arange(0, BLOCK)
    earlier = key < position
    offset = cache + key[:, None] * HEAD_DIM + whole[None, :]
    keys = tl.load(keys_ptr + offset, mask=earlier[:, None], other=0.0)
    values = tl.load(values_ptr + offset, mask=earlier[:, None], other=0.0)
    own_key = load_turned(heads + (HEADS + kv_head) * HEAD_DIM, rope, whole, inside)
    own_value = tl.load(heads + (HEADS + KV_HEADS + kv_head) * HEAD_DIM + whole)
    if first_head % GROUP == 0:
        tl.store(keys_ptr + cache + position * HEAD_DIM + whole, own_key)
        tl.store(values_ptr + cache + position * HEAD_DIM + whole, own_value)
    for member in tl.static_range(MEMBERS):
        head = first_head + member
        query = load_turned(heads + head * HEAD_DIM, rope, whole, inside).to(tl.float32) * scale
        scores = tl.sum(keys.to(tl.float32) * query[None, :], axis=1)
        scores = tl.where(earlier, scores, float("-inf"))
        own = tl.sum(own_key.to(tl.float32) * query, axis=0)
        peak = tl.maximum(tl.max(scores, axis=0), own)
        weights, own_weight = tl.exp(scores - peak), tl.exp(own - peak)
        attended = tl.sum(weights[:, None] * values.to(tl.float32), axis=0) + own_weight * own_value.to(tl.float32)
        attended = attended / (tl.sum(weights, axis=0) + own_weight)
        if out_ptr.dtype.element_ty == tl.int8:
            eight, out_scale = in_eight_bits(attended[None, :])
            tl.store(out_ptr + (row * HEADS + head) * HEAD_DIM + whole[None, :], eight)
            tl.store(out_scale_ptr + head * ROW_SCALES + row + tl.arange(0, 1), out_scale)
        else:
            tl.store(out_ptr + (row * HEADS + head) * HEAD_DIM + whole, attended.to(out_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["position"])
def depth_attention_kernel(
    qkv_ptr, keys_ptr, values_ptr, rope_ptr, out_ptr, position, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, LENGTH: tl.constexpr,
    BLOCK: tl.constexpr, MEMBERS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (B, H / MEMBERS): MEMBERS query heads of one key head attend over positions 0..position.

    Shapes: as in `attend`.
    """
    await_inputs(PDL)
    attend(
        qkv_ptr, keys_ptr, values_ptr, rope_ptr, out_ptr, out_ptr,
        tl.program_id(0).to(tl.int64), tl.program_id(1) * MEMBERS,
        position, scale, HEADS, KV_HEADS, HEAD_DIM, LENGTH, BLOCK, MEMBERS,
    )  # fmt: skip
