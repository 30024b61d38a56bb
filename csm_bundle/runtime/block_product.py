"""Products of overlapping blocks of a signal with a matrix, compiled by numba. No torch.

A block's bits do not depend on how many are computed together: each sum has one order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import float32, int64, types

from csm_bundle.runtime.compiled import compiled
from csm_bundle.runtime.panel_product import multiply_panel
from csm_bundle.runtime.panels import PANEL, panels_of

Numbers = npt.NDArray[np.float32]


class BlockProduct:
    """The matrix of a filter. Most of its numbers are zero: an output depends on a band of the inputs."""

    def __init__(self, matrix: Numbers) -> None:
        """matrix: (inputs, outputs)"""
        self.inputs, self.outputs = matrix.shape
        filled = np.zeros((self.inputs, panels_of(self.outputs) * PANEL), np.float32)
        filled[:, : self.outputs] = matrix
        panels = filled.reshape(self.inputs, -1, PANEL).transpose(1, 0, 2)
        bands = [np.flatnonzero(panel.any(axis=1)) for panel in panels]
        depth = max(band[-1] + 1 - band[0] for band in bands)
        self._firsts = np.array([min(band[0], self.inputs - depth) for band in bands])
        self._panels = np.stack(
            [panel[first : first + depth] for panel, first in zip(panels, self._firsts, strict=True)]
        )

    def of(self, samples: Numbers, step: int, blocks: int) -> Numbers:
        """(blocks, outputs), of blocks of `inputs` samples that begin `step` apart, the first one with the first
        sample.
        """
        assert len(samples) >= (blocks - 1) * step + self.inputs  # the kernel checks no bounds
        given = np.empty((blocks, len(self._panels) * PANEL), np.float32)
        _multiply(samples, step, self._panels, self._firsts, given)
        return given[:, : self.outputs]


@compiled(types.void(float32[::1], int64, float32[:, :, ::1], int64[::1], float32[:, ::1]))
def _multiply(samples, step, panels, firsts, given):
    """panels: (panels, band, 32), which begins at input `firsts`. given: (blocks, panels * 32)"""
    for panel in range(len(panels)):
        multiply_panel(samples, firsts[panel], step, len(given), panels, panel, given)
