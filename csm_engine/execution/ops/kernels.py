"""Triton kernels of the fast step. Each does what the function of the same name in torch_ops.py does.

Everything that varies between steps is read from device memory, so a captured launch stays right. Sums go in a fixed
order that does not depend on the batch: a row's bits do not change with its neighbours. Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def rms_norm_kernel(x_ptr, weight_ptr, out_ptr, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Grid (B,): one row of x (B, WIDTH)."""
    row = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, BLOCK)
    inside = index < WIDTH
    x = tl.load(x_ptr + row * WIDTH + index, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + index, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, axis=0) / WIDTH + eps)
    tl.store(out_ptr + row * WIDTH + index, (x * scale * weight).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def silu_mul_kernel(gate_up_ptr, out_ptr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Grid (B, WIDTH / BLOCK): gate_up (B, 2 WIDTH) -> out (B, WIDTH)."""
    row = tl.program_id(0).to(tl.int64)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = index < WIDTH
    gate = tl.load(gate_up_ptr + row * 2 * WIDTH + index, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * 2 * WIDTH + WIDTH + index, mask=inside, other=0.0).to(tl.float32)
    activated = (gate * tl.sigmoid(gate)).to(out_ptr.dtype.element_ty).to(tl.float32)
    tl.store(out_ptr + row * WIDTH + index, (activated * up).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def load_turned(heads_ptr, rope_ptr, HALF: tl.constexpr):
    """One head's neighbouring pairs, turned in float32 and rounded as stored: two blocks of HALF, even and odd."""
    pair = tl.arange(0, HALF)
    even = tl.load(heads_ptr + 2 * pair).to(tl.float32)
    odd = tl.load(heads_ptr + 2 * pair + 1).to(tl.float32)
    cosine = tl.load(rope_ptr + 2 * pair)
    sine = tl.load(rope_ptr + 2 * pair + 1)
    stored = heads_ptr.dtype.element_ty
    return (even * cosine - odd * sine).to(stored), (odd * cosine + even * sine).to(stored)


@triton.jit
def turn_and_write_kernel(
    qkv_ptr, query_ptr, keys_ptr, values_ptr, slots_ptr, positions_ptr, rope_ptr, max_positions,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
):  # fmt: skip
    """Grid (B, H + 2 G): one head of a row goes to the queries (B, H, E) or into the cache (S, L, G, E)."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    HALF: tl.constexpr = HEAD_DIM // 2
    pair = tl.arange(0, HALF)
    slot = tl.load(slots_ptr + row).to(tl.int64)
    position = tl.load(positions_ptr + row).to(tl.int64)
    source = qkv_ptr + (row * (HEADS + 2 * KV_HEADS) + head) * HEAD_DIM
    cached = (slot * max_positions + position) * KV_HEADS * HEAD_DIM
    if head < HEADS:
        even, odd = load_turned(source, rope_ptr + position * HEAD_DIM, HALF)
        query = query_ptr + (row * HEADS + head) * HEAD_DIM
        tl.store(query + 2 * pair, even)
        tl.store(query + 2 * pair + 1, odd)
    elif head < HEADS + KV_HEADS:  # the cache may hold another type
        even, odd = load_turned(source, rope_ptr + position * HEAD_DIM, HALF)
        key = keys_ptr + cached + (head - HEADS) * HEAD_DIM
        tl.store(key + 2 * pair, even.to(keys_ptr.dtype.element_ty))
        tl.store(key + 2 * pair + 1, odd.to(keys_ptr.dtype.element_ty))
    else:
        whole = tl.arange(0, HEAD_DIM)
        value = values_ptr + cached + (head - HEADS - KV_HEADS) * HEAD_DIM
        tl.store(value + whole, tl.load(source + whole).to(values_ptr.dtype.element_ty))


@triton.jit
def split_attention_kernel(
    query_ptr, keys_ptr, values_ptr, slots_ptr, positions_ptr, part_ptr, peak_ptr, total_ptr, max_positions, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    SPLIT: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid (B, G, SPLITS): the query heads of one key head over keys SPLIT * z .. of the row's slot, if it has any.

    part (B, H, SPLITS, E), peak and total (B, H, SPLITS): unnormalised sum, largest score, sum of weights, float32.
    The split size is fixed, so what is added to what depends only on the position.
    """
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    GROUP: tl.constexpr = HEADS // KV_HEADS
    position = tl.load(positions_ptr + row)
    first = split * SPLIT
    if first > position:
        return
    slot = tl.load(slots_ptr + row).to(tl.int64)
    member = tl.arange(0, GROUP)
    whole = tl.arange(0, HEAD_DIM)
    heads = row * HEADS + kv_head * GROUP + member
    query = tl.load(query_ptr + heads[:, None] * HEAD_DIM + whole[None, :]).to(tl.float32) * scale
    cached = slot * max_positions * KV_HEADS * HEAD_DIM + kv_head * HEAD_DIM
    peak = tl.full((GROUP,), float("-inf"), tl.float32)
    total = tl.zeros((GROUP,), tl.float32)
    part = tl.zeros((GROUP, HEAD_DIM), tl.float32)
    last = tl.minimum(first + SPLIT - 1, position)
    for start in range(first, last + 1, BLOCK):
        key = start + tl.arange(0, BLOCK)
        seen = key <= last
        offset = cached + key.to(tl.int64)[:, None] * (KV_HEADS * HEAD_DIM) + whole[None, :]
        keys = tl.load(keys_ptr + offset, mask=seen[:, None], other=0.0).to(tl.float32)
        values = tl.load(values_ptr + offset, mask=seen[:, None], other=0.0).to(tl.float32)
        scores = tl.sum(query[:, None, :] * keys[None, :, :], axis=2)  # (GROUP, BLOCK)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=1))
        fade = tl.exp(peak - higher)
        weights = tl.exp(scores - higher[:, None])
        total = total * fade + tl.sum(weights, axis=1)
        part = part * fade[:, None] + tl.sum(weights[:, :, None] * values[None, :, :], axis=1)
        peak = higher
    entry = heads * SPLITS + split
    tl.store(part_ptr + entry[:, None] * HEAD_DIM + whole[None, :], part)
    tl.store(peak_ptr + entry, peak)
    tl.store(total_ptr + entry, total)


@triton.jit
def join_splits_kernel(
    part_ptr, peak_ptr, total_ptr, positions_ptr, out_ptr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, SPLIT: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Grid (B, H): the splits that the row has, in order -> out (B, H, E)."""
    row = tl.program_id(0).to(tl.int64)
    head = row * HEADS + tl.program_id(1)
    whole = tl.arange(0, HEAD_DIM)
    used = tl.load(positions_ptr + row) // SPLIT + 1
    peak = float("-inf")
    total = 0.0
    joined = tl.zeros((HEAD_DIM,), tl.float32)
    for split in range(used):
        entry = head * SPLITS + split
        split_peak = tl.load(peak_ptr + entry)
        higher = tl.maximum(peak, split_peak)
        fade, rise = tl.exp(peak - higher), tl.exp(split_peak - higher)
        total = total * fade + tl.load(total_ptr + entry) * rise
        joined = joined * fade + tl.load(part_ptr + entry * HEAD_DIM + whole) * rise
        peak = higher
    tl.store(out_ptr + head * HEAD_DIM + whole, (joined / total).to(out_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["position"])
def depth_attention_kernel(
    qkv_ptr, keys_ptr, values_ptr, rope_ptr, out_ptr, position, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, LENGTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid (B, G): turns and writes one position of the frame, and attends over 0..position.

    qkv (B, (H + 2 G) E); keys, values (B, G, LENGTH, E); out (B, H, E). Its own key stays in registers.
    """
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    HALF: tl.constexpr = HEAD_DIM // 2
    GROUP: tl.constexpr = HEADS // KV_HEADS
    pair = tl.arange(0, HALF)
    whole = tl.arange(0, HEAD_DIM)
    rope = rope_ptr + position * HEAD_DIM
    heads = qkv_ptr + row * (HEADS + 2 * KV_HEADS) * HEAD_DIM
    own_even, own_odd = load_turned(heads + (HEADS + kv_head) * HEAD_DIM, rope, HALF)
    own_value = tl.load(heads + (HEADS + KV_HEADS + kv_head) * HEAD_DIM + whole)
    cache = (row * KV_HEADS + kv_head) * LENGTH * HEAD_DIM
    tl.store(keys_ptr + cache + position * HEAD_DIM + 2 * pair, own_even)
    tl.store(keys_ptr + cache + position * HEAD_DIM + 2 * pair + 1, own_odd)
    tl.store(values_ptr + cache + position * HEAD_DIM + whole, own_value)
    key = tl.arange(0, BLOCK)
    earlier = key < position
    at_pair = cache + key[:, None] * HEAD_DIM + 2 * pair[None, :]
    even = tl.load(keys_ptr + at_pair, mask=earlier[:, None], other=0.0).to(tl.float32)
    odd = tl.load(keys_ptr + at_pair + 1, mask=earlier[:, None], other=0.0).to(tl.float32)
    values = tl.load(
        values_ptr + cache + key[:, None] * HEAD_DIM + whole[None, :], mask=earlier[:, None], other=0.0
    ).to(tl.float32)
    for member in tl.static_range(GROUP):
        head = kv_head * GROUP + member
        query_even, query_odd = load_turned(heads + head * HEAD_DIM, rope, HALF)
        query_even, query_odd = query_even.to(tl.float32) * scale, query_odd.to(tl.float32) * scale
        scores = tl.sum(even * query_even[None, :] + odd * query_odd[None, :], axis=1)
        scores = tl.where(earlier, scores, float("-inf"))
        own = tl.sum(own_even.to(tl.float32) * query_even + own_odd.to(tl.float32) * query_odd, axis=0)
        peak = tl.maximum(tl.max(scores, axis=0), own)
        weights, own_weight = tl.exp(scores - peak), tl.exp(own - peak)
        attended = tl.sum(weights[:, None] * values, axis=0) + own_weight * own_value.to(tl.float32)
        attended = attended / (tl.sum(weights, axis=0) + own_weight)
        tl.store(out_ptr + (row * HEADS + head) * HEAD_DIM + whole, attended.to(out_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["codebook"])
def sample_kernel(
    logits_ptr, seed_ptr, frame_ptr, temperature_ptr, top_k_ptr, code_ptr, table_ptr, fed_ptr, codebook, vocab_size,
    CODEBOOK_SIZE: tl.constexpr, BLOCK: tl.constexpr, KEY_BITS: tl.constexpr,
    FEED: tl.constexpr, WIDTH: tl.constexpr, WIDTH_BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid (B,): draws one code of a row from logits (B, vocab_size) and looks up what the depth decoder is fed.

    The k-th largest logit is found bit by bit on an order-preserving integer key; KEY_BITS: 16 where the logits are
    bfloat16, whose lower half is zero, otherwise 32. code (B,) int64; table ((K - 1) V, WIDTH) -> fed (B, WIDTH).
    """
    row = tl.program_id(0).to(tl.int64)
    ids = tl.arange(0, BLOCK)
    valid = ids < CODEBOOK_SIZE
    logits = tl.load(logits_ptr + row * vocab_size + ids, mask=valid, other=0.0).to(tl.float32) + 0.0  # no -0.0
    bits = logits.to(tl.uint32, bitcast=True)
    key = tl.where(bits >> 31 != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)
    top_k = tl.minimum(tl.load(top_k_ptr + row), CODEBOOK_SIZE)
    threshold = tl.zeros((), tl.uint32)
    for step in tl.static_range(KEY_BITS):
        candidate = threshold | (1 << (31 - step))
        count = tl.sum(tl.where(valid & (key >= candidate), 1, 0), axis=0)
        threshold = tl.where(count >= top_k, candidate, threshold)
    seed = tl.load(seed_ptr + row)
    frame = tl.load(frame_ptr + row).to(tl.uint32)
    block = (ids >> 2).to(tl.uint32)
    zero = block * 0
    word0, word1, word2, word3 = tl.philox(seed, block, zero + codebook.to(tl.uint32), zero + frame, zero)
    lane = ids & 3
    word = tl.where(lane == 0, word0, tl.where(lane == 1, word1, tl.where(lane == 2, word2, word3)))
    uniform = ((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2**-23
    noise = -tl.log(-tl.log(uniform))
    temperature = tl.load(temperature_ptr + row)
    scores = tl.where(valid & (key >= threshold), logits + temperature * noise, float("-inf"))
    code = tl.argmax(scores, axis=0, tie_break_left=True)
    tl.store(code_ptr + row, code.to(tl.int64))
    if FEED:
        width = tl.arange(0, WIDTH_BLOCK)
        inside = width < WIDTH
        source = table_ptr + (codebook * vocab_size + code).to(tl.int64) * WIDTH
        tl.store(fed_ptr + row * WIDTH + width, tl.load(source + width, mask=inside), mask=inside)
