"""Triton kernel that samples one code of every row and looks up the depth decoder's input for it.

Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.dependent_launch import await_inputs

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def gumbel_noise(seed, frame, codebook, BLOCK: tl.constexpr):
    """(BLOCK,) float32 of one row and codebook. Four neighbouring ids share one block of Philox."""
    block = tl.arange(0, BLOCK // 4).to(tl.uint32)
    zero = block * 0
    of_codebook, of_frame = (zero + codebook).to(tl.uint32), zero + frame.to(tl.uint32)
    word0, word1, word2, word3 = tl.philox(seed, block, of_codebook, of_frame, zero)
    word = tl.reshape(tl.join(tl.join(word0, word2), tl.join(word1, word3)), (BLOCK,))
    uniform = ((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2**-23
    return -tl.log(-tl.log(uniform))


@triton.jit
def order_of(values):
    """float32 as uint32 of the same order, NaN above all numbers. Not for -0.0, which is below 0.0."""
    bits = values.to(tl.uint32, bitcast=True)
    bits = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FFFFFFF, bits)
    return tl.where(bits >> 31 != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def best_logits(logits_ptr, top_k, CODEBOOK_SIZE: tl.constexpr, BLOCK: tl.constexpr, KEY_BITS: tl.constexpr):
    """(BLOCK,) float32: the logits of one row at logits_ptr, those below the k-th largest -inf.

    The k-th largest is found two bits at a time on an order-preserving integer key; KEY_BITS: 16 where the logits are
    bfloat16, whose lower half is zero, otherwise 32.
    """
    ids = tl.arange(0, BLOCK)
    valid = ids < CODEBOOK_SIZE
    logits = tl.load(logits_ptr + ids, mask=valid, other=0.0).to(tl.float32) + 0.0  # no -0.0
    key = tl.where(valid, order_of(logits), 0)  # below every bound
    threshold = tl.zeros((), tl.uint32)
    for step in tl.static_range(KEY_BITS // 2):
        low, middle, high = (
            threshold | (1 << (30 - 2 * step)), threshold | (2 << (30 - 2 * step)), threshold | (3 << (30 - 2 * step))
        )  # fmt: skip
        # Three counts in one sum: how many keys reach each bound, 20 bits apart.
        reached = (key >= low).to(tl.int64) + ((key >= middle).to(tl.int64) << 20) + ((key >= high).to(tl.int64) << 40)
        counts = tl.sum(reached, axis=0)
        threshold = tl.where((counts & 0xFFFFF) >= top_k, low, threshold)
        threshold = tl.where(((counts >> 20) & 0xFFFFF) >= top_k, middle, threshold)
        threshold = tl.where((counts >> 40) >= top_k, high, threshold)
    return tl.where(valid & (key >= threshold), logits, float("-inf"))


@triton.jit
def first_best(scores, CODEBOOK_SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """The id of the largest of (BLOCK,) scores, the lowest of several, or CODEBOOK_SIZE if a score is NaN. One number
    holds score and id: the largest of such numbers takes fewer registers than the compiler's argmax, which spilled in
    the depth kernel.
    """
    behind = (BLOCK - 1 - tl.arange(0, BLOCK)).to(tl.uint64)
    best = tl.max((order_of(scores + 0.0).to(tl.uint64) << 32) | behind, axis=0)
    is_number = (best >> 32) <= 0xFF800000  # which is infinity
    return tl.where(is_number, BLOCK - 1 - (best & 0xFFFFFFFF).to(tl.int32), CODEBOOK_SIZE)


@triton.jit(do_not_specialize=["codebook"])
def sample_kernel(
    logits_ptr, slot_ptr, frame_ptr, seed_ptr, temperature_ptr, top_k_ptr, code_ptr, table_ptr, fed_ptr, codebook,
    vocab_size,
    STRIDE: tl.constexpr, CODE_STRIDE: tl.constexpr, CODEBOOK_SIZE: tl.constexpr, BLOCK: tl.constexpr,
    KEY_BITS: tl.constexpr, FEED: tl.constexpr, WIDTH: tl.constexpr, WIDTH_BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (B,): samples one code of a row from logits, STRIDE values a row. seed, temperature and top_k are by slot.

    code (B,) int64, CODE_STRIDE apart, CODEBOOK_SIZE where a logit is NaN; table ((K - 1) V, WIDTH) -> fed (B, WIDTH).
    """
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_ptr + row)
    noise = gumbel_noise(tl.load(seed_ptr + slot), tl.load(frame_ptr + row), codebook, BLOCK)
    temperature = tl.load(temperature_ptr + slot)
    top_k = tl.minimum(tl.load(top_k_ptr + slot), CODEBOOK_SIZE)
    await_inputs(PDL)  # earlier reads are of values written before the previous kernel
    logits = best_logits(logits_ptr + row * STRIDE, top_k, CODEBOOK_SIZE, BLOCK, KEY_BITS)
    code = first_best(logits + temperature * noise, CODEBOOK_SIZE, BLOCK)
    tl.store(code_ptr + row * CODE_STRIDE, code.to(tl.int64))
    if FEED:
        width = tl.arange(0, WIDTH_BLOCK)
        inside = width < WIDTH
        known = tl.minimum(code, vocab_size - 1)  # whatever follows a logit that is no number is of no use
        source = table_ptr + (codebook * vocab_size + known).to(tl.int64) * WIDTH
        tl.store(fed_ptr + row * WIDTH + width, tl.load(source + width, mask=inside), mask=inside)
