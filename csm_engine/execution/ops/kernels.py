"""Row-wise Triton kernels of the fast step. Each computes what the function of its name in torch_ops.py computes.

Everything that varies between steps is read from device memory, so a captured launch stays valid. The order of
sums does not depend on the batch, so a row's bits do not depend on the other rows. Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.dependent_launch import await_inputs

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def rms_norm_kernel(
    x_ptr,
    weight_ptr,
    out_ptr,
    eps,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    WEIGHTED: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (B,): one row of x (B, WIDTH). WEIGHTED: times weight (WIDTH,)."""
    await_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, BLOCK)
    inside = index < WIDTH
    x = tl.load(x_ptr + row * WIDTH + index, mask=inside, other=0.0).to(tl.float32)
    normed = x * tl.rsqrt(tl.sum(x * x, axis=0) / WIDTH + eps)
    if WEIGHTED:
        normed *= tl.load(weight_ptr + index, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * WIDTH + index, normed.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def silu_mul_kernel(gate_up_ptr, out_ptr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr):
    """Grid (B, WIDTH / BLOCK): gate_up (B, 2 WIDTH) -> out (B, WIDTH)."""
    await_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = index < WIDTH
    gate = tl.load(gate_up_ptr + row * 2 * WIDTH + index, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * 2 * WIDTH + WIDTH + index, mask=inside, other=0.0).to(tl.float32)
    activated = (gate * tl.sigmoid(gate)).to(out_ptr.dtype.element_ty).to(tl.float32)
    tl.store(out_ptr + row * WIDTH + index, (activated * up).to(out_ptr.dtype.element_ty), mask=inside)
