"""Kernels that show what a barrier between all programs of a launch costs. Importing needs triton."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from csm_engine.execution.ops.depth.grid_barrier import wait_for_all

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)

PATIENCE = 2**20  # looks; a second or so
STREAM_WARPS = 8


@triton.jit
def barriers_kernel(counter_ptr, left_ptr, number, patience):
    """`number` barriers in a row. left (programs,) int32: the patience that each program has left, 0: gave up."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    left = patience
    for _ in range(number):
        left = wait_for_all(counter_ptr, program, programs, left)
    tl.store(left_ptr + program, left)


@triton.jit
def stream_kernel(
    counter_ptr, left_ptr, data_ptr, sum_ptr, rounds, patience,
    PARTS: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, THREADS: tl.constexpr,
    BARRIERS: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    """Reads all of data `rounds` times, in PARTS parts with a barrier behind each. sum (programs,) int32: of all that
    a program has read.

    data (PARTS, programs, BLOCKS, BLOCK) int32. BARRIERS: whether there are any. PREFETCH: behind a part, a program
    asks for its next one, so that it comes into the L2 cache while the program waits.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    left = patience
    total = tl.zeros((BLOCK,), tl.int32)
    PIECE: tl.constexpr = BLOCKS * BLOCK // THREADS
    for _ in range(rounds):
        for part in range(PARTS):
            place = data_ptr + (part * programs + program).to(tl.int64) * (BLOCKS * BLOCK)
            for block in range(BLOCKS):
                total += tl.load(place + block * BLOCK + tl.arange(0, BLOCK), eviction_policy="evict_first")
            if PREFETCH:
                following = (part + 1) % PARTS
                ahead = data_ptr + (following * programs + program).to(tl.int64) * (BLOCKS * BLOCK)
                ahead += tl.arange(0, THREADS) * PIECE
                tl.inline_asm_elementwise(
                    "cp.async.bulk.prefetch.L2.global [$1], $2; // $0", "=r,l,r",
                    [ahead.to(tl.int64), tl.full((THREADS,), PIECE * 4, tl.int32)],
                    dtype=tl.int32, is_pure=False, pack=1,
                )  # fmt: skip
            if BARRIERS:
                left = wait_for_all(counter_ptr, program, programs, left)
    tl.store(sum_ptr + program, tl.sum(total, axis=0))
    tl.store(left_ptr + program, left)


def run_barriers(counter: Tensor, left: Tensor, number: int, warps: int) -> None:
    """counter: (1,) int32; left: (programs,) int32, as the kernels have them."""
    barriers_kernel[(len(left),)](counter, left, number, PATIENCE, num_warps=warps, launch_cooperative_grid=True)


def run_stream(
    counter: Tensor, left: Tensor, data: Tensor, sums: Tensor, rounds: int, *, barriers: bool, prefetch: bool
) -> None:
    """data: (parts, programs, blocks, block) int32; left, sums: (programs,) int32."""
    parts, programs, blocks, block = data.shape
    stream_kernel[(programs,)](
        counter, left, data, sums, rounds, PATIENCE,
        PARTS=parts, BLOCK=block, BLOCKS=blocks, THREADS=32 * STREAM_WARPS, BARRIERS=barriers, PREFETCH=prefetch,
        num_warps=STREAM_WARPS, launch_cooperative_grid=True,
    )  # fmt: skip
