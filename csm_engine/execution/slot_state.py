"""The state of every running sequence on the device, indexed by slot. It does not know requests.

The device decides when a sequence ends, so the host can launch the next step before it has read the last one. Rows of a
slot that has ended run as padding until the host leaves the slot out. They change no sequence's state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csm_engine.execution.sampling import SamplingRows
from csm_engine.model.shapes import ModelConfig
from csm_engine.scheduling.outcome import Outcome
from csm_engine.types import SamplingParams

NO_LIMIT = 2**62  # frames


@dataclass(frozen=True, slots=True)
class SlotRows:
    """The inputs of one frame, gathered from each row's slot. B rows."""

    slots: Tensor  # (B,) int64, the pad slot for rows that have ended
    embedding: Tensor  # (B, D), a copy
    position: Tensor  # (B,) int64
    frame: Tensor  # (B,) int64


class SlotState:
    """The state tables: one row per slot, and a last row for the pad slot.

    next_embedding: (S + 1, D) the backbone's next input; position: (S + 1,) int64 its cache position; frame: (S + 1,)
    int64 the number of the frame that it makes; max_frames: (S + 1,) int64 the limit of frames; active: (S + 1,) bool,
    false once a sequence has ended and always for the pad slot; sampling: of S + 1 rows.
    """

    def __init__(self, config: ModelConfig, num_slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        rows, dim = num_slots + 1, config.backbone.dim
        self.pad_slot, self.codebook_size = num_slots, config.codebook_size
        self.max_positions = config.backbone.max_seq_len  # a sequence ends when a slot's are used up
        self.next_embedding = torch.zeros(rows, dim, device=device, dtype=dtype)
        self.position = torch.zeros(rows, device=device, dtype=torch.int64)
        self.frame = torch.zeros(rows, device=device, dtype=torch.int64)
        self.max_frames = torch.zeros(rows, device=device, dtype=torch.int64)
        self.active = torch.zeros(rows, device=device, dtype=torch.bool)
        self.sampling = SamplingRows.empty(rows, device)

    def start(
        self,
        slot: int,
        embedding: Tensor,
        *,
        position: int,
        frame: int,
        sampling: SamplingParams,
        max_frames: int = NO_LIMIT,
    ) -> None:
        """Prepares the slot for its first frame step. embedding: (D,), the backbone's input at `position`.

        frame: index of the frame that the step makes; max_frames: most frames, resumed ones included.
        """
        self.next_embedding[slot] = embedding
        self.position[slot] = position
        self.frame[slot] = frame
        self.max_frames[slot] = max_frames
        self.active[slot] = True
        self.sampling.set(slot, sampling)

    def start_rows(
        self,
        slots: Tensor,
        embeddings: Tensor,
        *,
        position: Tensor,
        frame: Tensor,
        max_frames: Tensor,
        sampling: SamplingRows,
    ) -> None:
        """As `start`, for many slots at once. slots and the numbers: (N,) int64; embeddings: (N, D).

        Unused rows have the pad slot, which stays inactive.
        """
        self.next_embedding[slots] = embeddings
        self.position[slots] = position
        self.frame[slots] = frame
        self.max_frames[slots] = max_frames
        self.active[slots] = slots != self.pad_slot
        self.sampling.set_rows(slots, sampling)

    def live(self, slots: Tensor) -> Tensor:
        """slots: (B,) int64 -> the same, with the pad slot in place of slots that have ended."""
        return slots.masked_fill(~self.active[slots], self.pad_slot)

    def gather(self, slots: Tensor) -> SlotRows:
        """slots: (B,) int64, each once except the pad slot -> the inputs of their next frame, as copies."""
        slots = self.live(slots)
        return SlotRows(
            slots=slots,
            embedding=self.next_embedding[slots],
            position=self.position[slots],
            frame=self.frame[slots],
        )

    def advance(self, slots: Tensor, codes: Tensor, embeddings: Tensor) -> Tensor:
        """Advances the rows by the frames just made.

        slots: (B,) as `live` returned them; codes: (B, K) int64; embeddings: (B, D) of those codes
        -> (B, K + 1) int16: the codes, and in the last column an Outcome.
        """
        position, frame = self.position[slots] + 1, self.frame[slots] + 1
        outcome = torch.full_like(frame, Outcome.FRAME)
        outcome.masked_fill_(position >= self.max_positions, Outcome.CONTEXT_WINDOW)
        outcome.masked_fill_(frame >= self.max_frames[slots], Outcome.MAX_FRAMES)
        outcome.masked_fill_((codes == 0).all(dim=1), Outcome.END_OF_SPEECH)
        outcome.masked_fill_((codes >= self.codebook_size).any(dim=1), Outcome.INVALID_FRAME)
        outcome.masked_fill_(~self.active[slots], Outcome.NOTHING)
        self.next_embedding[slots] = embeddings
        self.position[slots] = position
        self.frame[slots] = frame
        self.active[slots] = outcome == Outcome.FRAME
        self.position[-1:] = 0  # padding does not advance
        return torch.cat([codes, outcome.unsqueeze(1)], dim=1).to(torch.int16)
