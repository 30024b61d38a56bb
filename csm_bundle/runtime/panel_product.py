"""A matrix product on a CPU, compiled by numba, in which a row's bits depend on nothing but the row and the weights.

A sum goes over the inputs in their order, whatever the number of rows. The weights of a panel are one stream of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numba import float32, njit, types

from csm_bundle.runtime.compiled import CALLED, compiled
from csm_bundle.runtime.panels import LANES, PANEL
from csm_bundle.runtime.vector_tiles import weighted_sums
from csm_bundle.runtime.wide_vectors import WIDE, has_wide_vectors, in_wide_vectors

if TYPE_CHECKING:
    from torch import Tensor

# As many sums as registers hold: 8 or 12 of the 16 that processors without wide vectors have.
_one_row, _two_rows = weighted_sums(1, PANEL // LANES), weighted_sums(2, PANEL // LANES)
_six_rows, _HALF = weighted_sums(6, PANEL // LANES // 2), PANEL // 2
_four_wide, _eight_wide = (weighted_sums(rows, PANEL // WIDE, lanes=WIDE) for rows in (4, 8))


@njit(**CALLED)
def _begin_panel(x, at, step, rows, weight, panel, y):
    """Multiplies the first rows, as many as four divides."""
    in_wide_vectors()
    depth, width, eights = weight.shape[1], y.shape[1], rows // 8 * 8
    first, column = panel * depth * PANEL, panel * PANEL
    for row in range(0, eights, 8):
        _eight_wide(x, at + row * step, step, weight, first, PANEL, depth, y, row * width + column, width)
    if rows - eights >= 4:
        _four_wide(x, at + eights * step, step, weight, first, PANEL, depth, y, eights * width + column, width)


@njit(**CALLED)
def multiply_panel(x, at, step, rows, weight, panel, y):
    """The 32 outputs of one panel, of `rows` rows of x, which begin at `at` and are `step` apart. They may overlap.
    weight, y: as for `multiply`.
    """
    depth, width = weight.shape[1], y.shape[1]
    first, column = panel * depth * PANEL, panel * PANEL
    begin = rows // 4 * 4 if has_wide_vectors() else 0
    sixes, pairs = begin + (rows - begin) // 6 * 6, rows // 2 * 2
    if begin:
        _begin_panel(x, at, step, rows, weight, panel, y)
    for row in range(begin, sixes, 6):
        into = row * width + column
        _six_rows(x, at + row * step, step, weight, first, PANEL, depth, y, into, width)
        _six_rows(x, at + row * step, step, weight, first + _HALF, PANEL, depth, y, into + _HALF, width)
    for row in range(sixes, pairs, 2):
        _two_rows(x, at + row * step, step, weight, first, PANEL, depth, y, row * width + column, width)
    if pairs < rows:
        _one_row(x, at + pairs * step, step, weight, first, PANEL, depth, y, pairs * width + column, width)


@njit(**CALLED)
def multiply(x, weight, y):
    """As many outputs as y has. x: (B, K or more); weight: (panels, K, 32), as panels.py makes it; y: (B, N), N a
    multiple of 32. For float32 in C order. It checks no bounds.
    """
    for panel in range(y.shape[1] // PANEL):
        multiply_panel(x, 0, x.shape[1], len(x), weight, panel, y)


@compiled(types.void(float32[:, ::1], float32[:, :, ::1], float32[::1], float32[:, ::1]))
def _product(x, weight, bias, y):
    """As `multiply`. bias: (outputs,), or empty."""
    multiply(x, weight, y)
    for row in range(len(x)):
        for n in range(len(bias)):
            y[row, n] += bias[n]


def panel_linear(x: Tensor, weight: Tensor, outputs: int, bias: Tensor | None = None) -> Tensor:
    """As torch's linear. x: (B, K) float32; weight: (outputs, K), as panels.py makes it; bias: (outputs,)
    -> (B, outputs), in rows that are farther apart where outputs are no whole panels.
    """
    y = x.new_empty(len(x), len(weight) * PANEL)
    bias = x.new_empty(0) if bias is None else bias
    _product(x.contiguous().numpy(), weight.numpy(), bias.contiguous().numpy(), y.numpy())
    return y[:, :outputs]
