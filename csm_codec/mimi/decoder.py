"""Codes to audio, frame by frame, for many streams at once: Mimi's decoder half with one state per stream.

Each stream has one row of one lane. A lane is a batch of fixed width with its own states. A frame step computes one
lane, so lanes without work cost nothing. A row's result never depends on its neighbours, bit for bit. It does not know
which stream has which row (see lanes.py).

A row may also begin in the middle of a stream. Attention and convolutions have a finite reach. After that many frames
the row's state equals that of a stream computed from its beginning, bit for bit, because positions, and with them the
order of keys in the ring, are counted from the beginning. The attention's state needs only latents, which cost less
than audio.

On a CPU, cpu/ computes the network in less than half the time of moshi's modules; on a GPU, batch/ does in captured
steps. A network of an unusual architecture is computed by moshi's modules.
"""

from __future__ import annotations

from copy import copy
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
    """The implementation of the network."""

    FRAMES = "frames"  # cpu/
    BATCH = "batch"  # batch/, on any device
    MODULES = "modules"  # moshi's, which convert the weights in place for bfloat16


def usual_form(mimi: Mimi) -> Form:
    """The fastest form for a network and its device."""
    if not is_usual(mimi.model):
        return Form.MODULES
    return Form.FRAMES if next(mimi.model.parameters()).device.type == "cpu" else Form.BATCH


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
        """dtype: of all but the quantizer, which stays as loaded. form: the implementation; None is `usual_form`.

        constant_shape: see BatchLanes; other forms always have one shape.
        """
        self.identity = mimi.identity
        self.num_lanes, self.lane_width = num_lanes, lane_width
        self.device = next(mimi.model.parameters()).device
        self._reach = reach.latent_frames(mimi.model), reach.audio_frames(mimi.model)
        self._half: FrameLanes | BatchLanes | ModuleLanes
        match form or usual_form(mimi):
            case Form.FRAMES:
                from csm_codec.mimi.cpu.frame_lanes import FrameLanes  # compiles its kernels when imported

                self._half = FrameLanes(mimi, num_lanes, lane_width, dtype)
            case Form.BATCH:
                self._half = BatchLanes(mimi, num_lanes, lane_width, dtype, constant_shape)
            case Form.MODULES:
                self._half = ModuleLanes(mimi, num_lanes, lane_width, dtype)

    def with_own_memory(self) -> MimiDecoder:
        """As many lanes with the same weights, for another thread. Raises TypeError for other forms than FRAMES."""
        from csm_codec.mimi.cpu.frame_lanes import FrameLanes

        if not isinstance(self._half, FrameLanes):
            raise TypeError("Only lanes of the form FRAMES share weights.")
        other = copy(self)
        other._half = self._half.with_own_memory()
        return other

    @property
    def latent_frames(self) -> int:
        """Frames that a frame's latent depends on, besides itself."""
        return self._reach[0]

    @property
    def audio_frames(self) -> int:
        """Frames whose latents a frame's audio depends on, besides its own."""
        return self._reach[1]

    def begin(self, lane: int, row: int, frame: int) -> None:
        """Starts a stream in the middle: `frame_step` continues the row with that frame."""
        self._half.begin(lane, row, frame)

    def latent_step(self, lane: int, codes: Tensor, exec_mask: Tensor) -> None:
        """Like `frame_step`, but computes only the latents, which costs less and returns no audio."""
        self._half.latent_step(lane, codes, exec_mask)

    def frame_step(self, lane: int, codes: Tensor, exec_mask: Tensor, reset_mask: Tensor) -> Tensor:
        """One frame for the rows of `exec_mask`; rows of `reset_mask` start a new stream with it.

        codes: (lane_width, codebooks) int64, already checked. Rows outside `exec_mask` hold any valid codes.
        Returns (rows, frame size) fp32: at least the lane's first rows up to the last one of `exec_mask`. Rows outside
        `exec_mask` hold arbitrary values and keep their state.
        """
        return self._half.frame_step(lane, codes, exec_mask, reset_mask)

    def forget(self, lane: int, row: int) -> None:
        """Clears the state of a row that became NaN or infinite."""
        self._half.forget(lane, row)

    def rebuild(self, lane: int) -> None:
        """Resets the states of a lane after a failed step. Its streams are lost."""
        self._half.rebuild(lane)
