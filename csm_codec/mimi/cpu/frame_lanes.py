"""Lanes of streams on a CPU, as decoder.py describes them, over one FrameNetwork."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from csm_bundle.runtime.torch_threads import one_thread
from csm_codec.mimi.cpu.frame_network import FrameNetwork, RowState
from csm_codec.mimi.loader import Mimi
from csm_codec.mimi.reach import steps_per_frame


class FrameLanes:
    def __init__(self, mimi: Mimi, num_lanes: int, lane_width: int, dtype: torch.dtype) -> None:
        """mimi: one whose model `is_usual`. dtype: of all but the quantizer."""
        with torch.inference_mode(), one_thread():
            self._network = FrameNetwork(mimi.model, lane_width, dtype)
        self._steps, self._width = steps_per_frame(mimi.model), lane_width
        self._lanes = [self._new_lane() for _ in range(num_lanes)]

    def with_own_memory(self) -> FrameLanes:
        """As many lanes with the same weights, for another thread."""
        other = copy(self)
        other._network = self._network.with_own_memory()
        other._lanes = [other._new_lane() for _ in self._lanes]
        return other

    def begin(self, lane: int, row: int, frame: int) -> None:
        self._lanes[lane][row].begin(frame * self._steps)

    @torch.inference_mode()
    def latent_step(self, lane: int, codes: Tensor, exec_mask: Tensor) -> None:
        self._network.step(codes[exec_mask], self._states(lane, exec_mask), audio=False)

    @torch.inference_mode()
    def frame_step(self, lane: int, codes: Tensor, exec_mask: Tensor, reset_mask: Tensor) -> Tensor:
        for row in reset_mask.nonzero().flatten().tolist():
            self._lanes[lane][row].begin(0)
        pcm = self._network.step(codes[exec_mask], self._states(lane, exec_mask), audio=True).float()
        return torch.zeros(self._width, pcm.shape[1]).masked_scatter(exec_mask[:, None], pcm)

    def forget(self, lane: int, row: int) -> None:
        self._lanes[lane][row] = self._network.new_row()

    def rebuild(self, lane: int) -> None:
        self._lanes[lane] = self._new_lane()

    def _new_lane(self) -> list[RowState]:
        return [self._network.new_row() for _ in range(self._width)]

    def _states(self, lane: int, exec_mask: Tensor) -> list[RowState]:
        return [self._lanes[lane][row] for row in exec_mask.nonzero().flatten().tolist()]
