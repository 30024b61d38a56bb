"""Launches of the kernels between the slots' state and the rows of one frame. Importing needs triton."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import next_power_of_2

from csm_engine.execution.ops import triton_ops
from csm_engine.execution.ops.state_kernels import advance_kernel, gather_kernel
from csm_engine.execution.slot_state import SlotRows, SlotState
from csm_engine.scheduling.outcome import Outcome

_ADVANCE_BLOCK = 256  # elements of an embedding that one program sums


def gather(state: SlotState, slots: Tensor) -> SlotRows:
    """As `SlotState.gather`."""
    rows, width = len(slots), state.next_embedding.shape[1]
    gathered = SlotRows(
        slots=torch.empty_like(slots),
        embedding=state.next_embedding.new_empty(rows, width),
        position=torch.empty_like(slots),
        frame=torch.empty_like(slots),
    )
    gather_kernel[(rows,)](
        slots, state.active.view(torch.int8), state.next_embedding, state.position, state.frame,
        gathered.slots, gathered.embedding, gathered.position, gathered.frame, state.pad_slot,
        WIDTH=width, BLOCK=next_power_of_2(width), **triton_ops.launch_options(),
    )  # fmt: skip
    return gathered


def advance(state: SlotState, slots: Tensor, codes: Tensor, table: Tensor, vocab_size: int) -> Tensor:
    """As `SlotState.advance`, the codes' embeddings looked up in table (K * vocab_size, D) and summed in float32."""
    (rows, codebooks), width = codes.shape, table.shape[1]
    out = torch.empty(rows, codebooks + 1, device=codes.device, dtype=torch.int16)
    block = min(_ADVANCE_BLOCK, next_power_of_2(width))
    advance_kernel[(rows, -(-width // block))](
        slots, codes, table, state.next_embedding, state.position, state.frame, state.max_frames,
        state.active.view(torch.int8), out, state.pad_slot, state.max_positions, vocab_size,
        CODEBOOKS=codebooks, CODEBOOK_BLOCK=next_power_of_2(codebooks), WIDTH=width, BLOCK=block,
        CODEBOOK_SIZE=state.codebook_size, NOTHING=int(Outcome.NOTHING), FRAME=int(Outcome.FRAME),
        END_OF_SPEECH=int(Outcome.END_OF_SPEECH), MAX_FRAMES=int(Outcome.MAX_FRAMES),
        CONTEXT_WINDOW=int(Outcome.CONTEXT_WINDOW), INVALID_FRAME=int(Outcome.INVALID_FRAME),
        **triton_ops.launch_options(),
    )  # fmt: skip
    return out
