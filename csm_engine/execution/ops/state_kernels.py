"""Triton kernels between the slots' state and the rows of one frame. One launch gathers a frame's inputs, and one
advances the state. They do what `SlotState.gather` and `SlotState.advance` do. Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.dependent_launch import await_inputs

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def gather_kernel(
    slot_ptr, active_ptr, embedding_ptr, position_ptr, frame_ptr,
    live_ptr, x_ptr, positions_ptr, frames_ptr, pad_slot,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (B,): slot (B,) -> live (B,), the spare slot where the slot is not active, and the slot's state by row.

    active and the others by slot: (S + 1,); embedding: (S + 1, WIDTH) -> x (B, WIDTH).
    """
    await_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_ptr + row)
    slot = tl.where(tl.load(active_ptr + slot) != 0, slot, pad_slot).to(tl.int64)
    tl.store(live_ptr + row, slot)
    tl.store(positions_ptr + row, tl.load(position_ptr + slot))
    tl.store(frames_ptr + row, tl.load(frame_ptr + slot))
    index = tl.arange(0, BLOCK)
    inside = index < WIDTH
    x = tl.load(embedding_ptr + slot * WIDTH + index, mask=inside)
    tl.store(x_ptr + row * WIDTH + index, x, mask=inside)


@triton.jit
def advance_kernel(
    live_ptr, code_ptr, table_ptr, embedding_ptr, position_ptr, frame_ptr, max_frames_ptr, active_ptr, out_ptr,
    pad_slot, max_positions, vocab_size,
    CODEBOOKS: tl.constexpr, CODEBOOK_BLOCK: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    CODEBOOK_SIZE: tl.constexpr, NOTHING: tl.constexpr, FRAME: tl.constexpr, END_OF_SPEECH: tl.constexpr,
    MAX_FRAMES: tl.constexpr, CONTEXT_WINDOW: tl.constexpr, INVALID_FRAME: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (B, WIDTH / BLOCK): sums the codes' embeddings into the slot's next input. The first column advances the
    slot's position and frame, and decides the row's outcome.

    live: (B,) as gathered; code: (B, CODEBOOKS) int64; table: (CODEBOOKS * vocab_size, WIDTH)
    -> out (B, CODEBOOKS + 1) int16. Rows of the spare slot change nothing and are NOTHING.
    """
    await_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(live_ptr + row)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = index < WIDTH
    total = tl.zeros((BLOCK,), tl.float32)
    for codebook in range(CODEBOOKS):
        code = tl.minimum(tl.load(code_ptr + row * CODEBOOKS + codebook), vocab_size - 1)  # more where a logit was NaN
        total += tl.load(table_ptr + (codebook * vocab_size + code) * WIDTH + index, mask=inside, other=0.0).to(
            tl.float32
        )
    is_live = slot != pad_slot
    tl.store(embedding_ptr + slot * WIDTH + index, total.to(embedding_ptr.dtype.element_ty), mask=inside & is_live)
    if tl.program_id(1) == 0:
        column = tl.arange(0, CODEBOOK_BLOCK)
        codes = tl.load(code_ptr + row * CODEBOOKS + column, mask=column < CODEBOOKS, other=0)
        tl.store(out_ptr + row * (CODEBOOKS + 1) + column, codes.to(tl.int16), mask=column < CODEBOOKS)
        position = tl.load(position_ptr + slot) + 1
        frame = tl.load(frame_ptr + slot) + 1
        outcome = tl.where(position >= max_positions, CONTEXT_WINDOW, FRAME)
        outcome = tl.where(frame >= tl.load(max_frames_ptr + slot), MAX_FRAMES, outcome)
        largest = tl.max(codes, axis=0)
        outcome = tl.where(largest == 0, END_OF_SPEECH, outcome)
        outcome = tl.where(largest >= CODEBOOK_SIZE, INVALID_FRAME, outcome)
        outcome = tl.where(is_live, outcome, NOTHING)
        tl.store(out_ptr + row * (CODEBOOKS + 1) + CODEBOOKS, outcome.to(tl.int16))
        tl.store(position_ptr + slot, position, mask=is_live)
        tl.store(frame_ptr + slot, frame, mask=is_live)
        tl.store(active_ptr + slot, (outcome == FRAME).to(tl.int8), mask=is_live)
