"""Functions of Triton by which programs prefetch what is read later, so that the L2 cache has it by then.
Importing needs triton.

Nothing is waited for, and no result depends on it. One thread requests a long piece at a time: where each thread of a
warp requests its own, the instruction runs once for each of them, one after the other.
"""

from __future__ import annotations

import triton
import triton.language as tl

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)

PIECE = tl.constexpr(2**16)  # bytes


@triton.jit
def prefetch(program, programs, start_ptr, BYTES: tl.constexpr):
    """Prefetches the program's pieces of BYTES bytes, a multiple of 16."""
    whole = tl.full((), BYTES, tl.int32)
    for piece in range(program, (BYTES + PIECE - 1) // PIECE, programs):
        prefetch_piece(start_ptr.to(tl.int64) + piece * PIECE, tl.minimum(whole - piece * PIECE, PIECE))


@triton.jit
def prefetch_piece(address, size):
    """address: int64; size: bytes, int32. The first thread of the program requests it."""
    tl.inline_asm_elementwise(
        "{ .reg .b32 thread; .reg .pred first; mov.u32 thread, %tid.x; setp.eq.u32 first, thread, 0;"
        " @first cp.async.bulk.prefetch.L2.global [$1], $2; } // $0",
        "=r,l,r", [address, size], dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@triton.jit
def prefetch_at_end(
    matrix_ptr, keys_ptr, values_ptr, slots_ptr, positions_ptr, rows,
    MATRIX: tl.constexpr, MOST_POSITIONS: tl.constexpr, SLOT: tl.constexpr, POSITION: tl.constexpr,
):  # fmt: skip
    """What a program of an ordinary launch prefetches where it ends, when its own loads are there.

    matrix: MATRIX bytes, 0 for none. keys, values: slots of SLOT positions of POSITION bytes; slots, positions (rows,)
    int64. Of each row, the positions before its own are prefetched, the first MOST_POSITIONS of them; 0 for none.
    Programs that started last come first.
    """
    programs = tl.num_programs(0) * tl.num_programs(1) * tl.num_programs(2)
    program = tl.program_id(0) + tl.num_programs(0) * (tl.program_id(1) + tl.num_programs(1) * tl.program_id(2))
    program = programs - 1 - program
    if MATRIX:
        prefetch(program, programs, matrix_ptr, MATRIX)
    if MOST_POSITIONS:
        PIECES: tl.constexpr = (MOST_POSITIONS * POSITION + PIECE - 1) // PIECE  # of a row
        for piece in range(program, rows * PIECES, programs):
            row = piece // PIECES
            first = piece % PIECES * PIECE
            size = tl.load(positions_ptr + row).to(tl.int32)
            size = tl.minimum(tl.minimum(size, MOST_POSITIONS) * POSITION - first, PIECE)
            if size > 0:
                place = tl.load(slots_ptr + row) * (SLOT * POSITION) + first
                prefetch_piece(keys_ptr.to(tl.int64) + place, size)
                prefetch_piece(values_ptr.to(tl.int64) + place, size)
