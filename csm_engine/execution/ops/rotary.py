"""Rotary embedding of one head inside a Triton kernel. Importing needs triton."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_turned(head_ptr, rope_ptr, index, mask):
    """Elements `index` of heads that start at head_ptr, neighbouring pairs rotated in float32, rounded as stored.

    rope_ptr: the position's row of the table, (E / 2, 2) cosine and sine. Each element is read with its partner: two
    reads of one cache line cost less than the shuffles that split pairs.
    """
    own = tl.load(head_ptr + index, mask=mask, other=0.0).to(tl.float32)
    partner = tl.load(head_ptr + (index ^ 1), mask=mask, other=0.0).to(tl.float32)
    cosine = tl.load(rope_ptr + (index & -2))
    sine = tl.load(rope_ptr + (index | 1))
    turned = own * cosine + tl.where((index & 1) == 0, -partner, partner) * sine
    return turned.to(head_ptr.dtype.element_ty)
