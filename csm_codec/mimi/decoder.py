"""Codes to audio, frame by frame, for many streams at once: Mimi's decoder half with one state per stream.

Each stream has one row of one lane. A lane is a batch of fixed width with states of its own. A frame step computes one
lane, so lanes without work cost nothing. A row's result never depends on its neighbours, bit for bit.
It does not know which stream has which row (see lanes.py).

A row may also begin in the middle of a stream. Attention and convolutions reach a fixed number of frames back. When so
many frames have been computed, the row's state is that of a stream computed from its beginning, bit for bit: positions,
and with them the order of the keys in the ring, are counted from the beginning. For the attention alone the latent is
enough, which costs less than a frame of audio.

On a CPU the network is computed by cpu/, which takes less than half the time of moshi's modules. On a GPU, and on a CPU
for a network of another build than Mimi's usual one, moshi's modules compute it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from csm_codec.mimi import reach
from csm_codec.mimi.cpu.frame_lanes import FrameLanes
from csm_codec.mimi.cpu.frame_network import FrameNetwork
from csm_codec.mimi.loader import Mimi
from csm_codec.mimi.module_lanes import ModuleLanes


class MimiDecoder:
    """`num_lanes` lanes of `lane_width` rows each."""

    def __init__(
        self,
        mimi: Mimi,
        *,
        num_lanes: int,
        lane_width: int,
        dtype: torch.dtype = torch.float32,
        modules: bool = False,
    ) -> None:
        """dtype: of all but the quantizer, which stays as loaded. modules: moshi's modules on a CPU too, which convert
        the weights in place for bfloat16.
        """
        self.identity = mimi.identity
        self.num_lanes, self.lane_width = num_lanes, lane_width
        self.device = next(mimi.model.parameters()).device
        self._reach = reach.latent_frames(mimi.model), reach.audio_frames(mimi.model)
        by_frames = not modules and self.device.type == "cpu" and FrameNetwork.fits(mimi.model)
        self._half: FrameLanes | ModuleLanes = (FrameLanes if by_frames else ModuleLanes)(
            mimi, num_lanes, lane_width, dtype
        )

    @property
    def latent_frames(self) -> int:
        """Frames that a frame's latent depends on, besides itself."""
        return self._reach[0]

    @property
    def audio_frames(self) -> int:
        """Frames whose latents a frame's audio depends on, besides its own."""
        return self._reach[1]

    def begin(self, lane: int, row: int, frame: int) -> None:
        """Starts a stream in the middle: that frame comes next in the row."""
        self._half.begin(lane, row, frame)

    def latent_step(self, lane: int, codes: Tensor, exec_mask: Tensor) -> None:
        """Like `frame_step` up to the latent: it costs less, and gives no audio."""
        self._half.latent_step(lane, codes, exec_mask)

    def frame_step(self, lane: int, codes: Tensor, exec_mask: Tensor, reset_mask: Tensor) -> Tensor:
        """One frame for the rows of `exec_mask`; rows of `reset_mask` start a new stream with it.

        codes: (lane_width, codebooks) int64, already checked. Rows outside `exec_mask` hold any valid codes.
        Returns (lane_width, frame size) fp32. Rows outside `exec_mask` hold nothing of use and keep their state.
        """
        return self._half.frame_step(lane, codes, exec_mask, reset_mask)

    def forget(self, lane: int, row: int) -> None:
        """Clears a row that is not finite."""
        self._half.forget(lane, row)

    def rebuild(self, lane: int) -> None:
        """Fresh states for a lane after a failed step; what its streams had is lost."""
        self._half.rebuild(lane)
