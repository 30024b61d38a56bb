"""The decoder's last layer: one output a bin, from that bin alone, and from it the message. Compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import float32, njit, types

from csm_engine.codec.watermark.winograd_kernels import OPTIONS, ROWS, sigmoid


class MessageLayer:
    """From what the layers before make of a frame to its message."""

    def __init__(self, layer: Any, *, band: int, num_bins: int, amplitude: float) -> None:
        """amplitude: the message's rms over `num_bins` bins, of which all but the lowest `band` are zero."""
        self._weight = torch.cat((layer.conv.weight, layer.gate.weight)).flatten(1).numpy()  # (2, inputs)
        self._bias = torch.cat((layer.conv.bias, layer.gate.bias)).numpy()
        norm = layer.bn
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        self._norm = torch.cat((scale, norm.bias - norm.running_mean * scale)).numpy()
        self._band, self._rms = band, np.float32(amplitude * num_bins**0.5)

    def __call__(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(rows, inputs), as winograd.py has them, to (band,), positive."""
        message = np.empty(self._band, np.float32)
        _message(x, self._weight, self._bias, self._norm, self._rms, message)
        return message


@njit(
    types.void(ROWS, ROWS, float32[::1], float32[::1], float32, float32[::1]),
    **{**OPTIONS, "fastmath": {"contract", "reassoc", "nsz"}},
)
def _message(x, weight, bias, norm, norm_of_all, message):
    power = np.float32(0)
    for bin_ in range(len(message)):
        value, gate = bias[0], bias[1]
        for channel in range(x.shape[1]):
            value += x[1 + bin_, channel] * weight[0, channel]
            gate += x[1 + bin_, channel] * weight[1, channel]
        message[bin_] = abs(value * sigmoid(gate) * norm[0] + norm[1])
        power += message[bin_] * message[bin_]
    scale = norm_of_all / max(np.sqrt(power), np.finfo(np.float32).tiny)
    for bin_ in range(len(message)):
        message[bin_] *= scale
