"""What the device remembers of every running sequence, indexed by slot. It knows no requests."""

from __future__ import annotations

import torch
from torch import Tensor

from csm_engine.types import SamplingParams


class SlotState:
    """One row per slot, and a spare last row for padding.

    next_embedding: (S + 1, D) the backbone's next input; position, frame: (S + 1,) int64 where it goes and which
    frame comes of it; seed, top_k: (S + 1,) int64; temperature: (S + 1,) float32.
    """

    def __init__(self, num_slots: int, dim: int, *, device: torch.device, dtype: torch.dtype) -> None:
        rows = num_slots + 1
        self.next_embedding = torch.zeros(rows, dim, device=device, dtype=dtype)
        self.position = torch.zeros(rows, device=device, dtype=torch.int64)
        self.frame = torch.zeros(rows, device=device, dtype=torch.int64)
        self.seed = torch.zeros(rows, device=device, dtype=torch.int64)
        self.temperature = torch.zeros(rows, device=device, dtype=torch.float32)
        self.top_k = torch.ones(rows, device=device, dtype=torch.int64)

    def start(self, slot: int, embedding: Tensor, *, position: int, frame: int, sampling: SamplingParams) -> None:
        """Makes the slot ready for its first frame step: embedding (D,) enters at `position`."""
        self.next_embedding[slot] = embedding
        self.position[slot] = position
        self.frame[slot] = frame
        self.seed[slot] = sampling.seed
        self.temperature[slot] = sampling.temperature
        self.top_k[slot] = sampling.top_k

    def advance(self, slots: Tensor, embeddings: Tensor) -> None:
        """slots: (B,); embeddings: (B, D) of the frames just made."""
        self.next_embedding[slots] = embeddings
        self.position[slots] += 1
        self.frame[slots] += 1
        self.position[-1:] = 0  # padding stays where it is, however often it runs
