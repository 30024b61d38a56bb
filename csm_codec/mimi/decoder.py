"""Codes to audio, frame by frame, for many streams at once: Mimi's decoder half with one state per stream.

Each stream has one row of one lane. A lane is a batch of fixed width with states of its own. A frame step computes one
lane, so lanes without work cost nothing. A row's result never depends on its neighbours, bit for bit.
It does not know which stream has which row (see lanes.py).

A row may also begin in the middle of a stream. Attention and convolutions reach a fixed number of frames back. When so
many frames have been computed, the row's state is that of a stream computed from its beginning, bit for bit: positions,
and with them the order of the keys in the ring, are counted from the beginning. For the attention alone the latent is
enough, which costs less than a frame of audio.

On a CPU the network is computed by cpu/, which takes less than half the time of moshi's modules. On a GPU batch/
computes it in captured steps. A network of another build than Mimi's usual one is left to moshi's modules.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from csm_codec.mimi import reach
from csm_codec.mimi.batch.lanes import BatchLanes
from csm_codec.mimi.loader import Mimi
from csm_codec.mimi.module_lanes import ModuleLanes
from csm_codec.mimi.usual_build import is_usual

if TYPE_CHECKING:
    from csm_codec.mimi.cpu.frame_lanes import FrameLanes


class Form(Enum):
    """What computes the network."""

    FRAMES = "frames"  # cpu/
    BATCH = "batch"  # batch/, on any device
    MODULES = "modules"  # moshi's, which convert the weights in place for bfloat16


class MimiDecoder:
    """`num_lanes` lanes of `lane_width` rows each."""

    def __init__(
        self,
        mimi: Mimi,
        *,
        num_lanes: int,
        lane_width: int,
        dtype: torch.dtype = torch.float32,
        form: Form | None = None,
        constant_shape: bool = False,
    ) -> None:
        """dtype: of all but the quantizer, which stays as loaded. form: what computes it; None is the device's own.

        constant_shape: see BatchLanes; other forms have one shape anyway.
        """
        self.identity = mimi.identity
        self.num_lanes, self.lane_width = num_lanes, lane_width
        self.device = next(mimi.model.parameters()).device
        self._reach = reach.latent_frames(mimi.model), reach.audio_frames(mimi.model)
        if form is None:
            form = Form.FRAMES if self.device.type == "cpu" else Form.BATCH
            form = form if is_usual(mimi.model) else Form.MODULES
        self._half: FrameLanes | BatchLanes | ModuleLanes
        match form:
            case Form.FRAMES:
                from csm_codec.mimi.cpu.frame_lanes import FrameLanes  # with numba, which a GPU does not need

                self._half = FrameLanes(mimi, num_lanes, lane_width, dtype)
            case Form.BATCH:
                self._half = BatchLanes(mimi, num_lanes, lane_width, dtype, constant_shape)
            case Form.MODULES:
                self._half = ModuleLanes(mimi, num_lanes, lane_width, dtype)

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
        Returns (rows, frame size) fp32, the lane's rows or its first ones up to the last of `exec_mask` at least. Rows
        outside `exec_mask` hold nothing of use and keep their state.
        """
        return self._half.frame_step(lane, codes, exec_mask, reset_mask)

    def forget(self, lane: int, row: int) -> None:
        """Clears a row that is not finite."""
        self._half.forget(lane, row)

    def rebuild(self, lane: int) -> None:
        """Fresh states for a lane after a failed step; what its streams had is lost."""
        self._half.rebuild(lane)
