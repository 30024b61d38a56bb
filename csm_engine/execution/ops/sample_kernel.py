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
def best_code(
    logits_ptr, noise, temperature, top_k,
    CODEBOOK_SIZE: tl.constexpr, BLOCK: tl.constexpr, KEY_BITS: tl.constexpr,
):  # fmt: skip
    """The code of one row, whose logits are at logits_ptr.

    The k-th largest logit is found two bits at a time on an order-preserving integer key; KEY_BITS: 16 where the logits
    are bfloat16, whose lower half is zero, otherwise 32.
    """
    ids = tl.arange(0, BLOCK)
    valid = ids < CODEBOOK_SIZE
    logits = tl.load(logits_ptr + ids, mask=valid, other=0.0).to(tl.float32) + 0.0  # no -0.0
    bits = logits.to(tl.uint32, bitcast=True)
    key = tl.where(bits >> 31 != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)
    key = tl.where(valid, key, 0)  # below every bound
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
    scores = tl.where(valid & (key >= threshold), logits + temperature * noise, float("-inf"))
    return tl.argmax(scores, axis=0, tie_break_left=True)


@triton.jit(do_not_specialize=["codebook"])
def sample_kernel(
    logits_ptr, slot_ptr, frame_ptr, seed_ptr, temperature_ptr, top_k_ptr, code_ptr, table_ptr, fed_ptr, codebook,
    vocab_size,
    STRIDE: tl.constexpr, CODE_STRIDE: tl.constexpr, CODEBOOK_SIZE: tl.constexpr, BLOCK: tl.constexpr,
    KEY_BITS: tl.constexpr, FEED: tl.constexpr, WIDTH: tl.constexpr, WIDTH_BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (B,): samples one code of a row from logits, STRIDE values a row. seed, temperature and top_k are by slot.

    code (B,) int64, CODE_STRIDE apart; table ((K - 1) V, WIDTH) -> fed (B, WIDTH).
    """
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_ptr + row)
    noise = gumbel_noise(tl.load(seed_ptr + slot), tl.load(frame_ptr + row), codebook, BLOCK)
    temperature = tl.load(temperature_ptr + slot)
    top_k = tl.minimum(tl.load(top_k_ptr + slot), CODEBOOK_SIZE)
    await_inputs(PDL)  # earlier reads are of values written before the previous kernel
    code = best_code(logits_ptr + row * STRIDE, noise, temperature, top_k, CODEBOOK_SIZE, BLOCK, KEY_BITS)
    tl.store(code_ptr + row * CODE_STRIDE, code.to(tl.int64))
    if FEED:
        width = tl.arange(0, WIDTH_BLOCK)
        inside = width < WIDTH
        source = table_ptr + (codebook * vocab_size + code).to(tl.int64) * WIDTH
        tl.store(fed_ptr + row * WIDTH + width, tl.load(source + width, mask=inside), mask=inside)
