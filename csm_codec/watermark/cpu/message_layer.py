"""The decoder's last layer: one output for each bin, from that bin alone, and the message made of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from csm_codec.watermark.cpu.frame_kernels import fill_message
from csm_codec.watermark.networks.silentcipher import scale_and_shift


class MessageLayer:
    """Turns the output of the earlier layers for a frame into its message."""

    def __init__(self, layer: Any, *, band: int, num_bins: int, amplitude: float) -> None:
        """amplitude: the message's rms over `num_bins` bins, of which all but the lowest `band` are zero."""
        self._weight = torch.cat((layer.conv.weight, layer.gate.weight)).flatten(1).numpy()  # (2, inputs)
        self._bias = torch.cat((layer.conv.bias, layer.gate.bias)).numpy()
        self._norm = torch.cat(scale_and_shift(layer.bn)).numpy()
        self._band, self._length = band, np.float32(amplitude * num_bins**0.5)

    def __call__(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(rows, inputs), as winograd.py has them, to (band,), positive."""
        message = np.empty(self._band, np.float32)
        fill_message(x, self._weight, self._bias, self._norm, self._length, message)
        return message
