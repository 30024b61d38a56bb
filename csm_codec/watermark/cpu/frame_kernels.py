"""What winograd.py and message_layer.py do around matrix products, in one pass over memory each. Compiled by numba.

Arrays are flat; the shapes are compiled in, because only then the loops over channels become vector instructions. An
input or output of a layer is (rows, channels) with a row of zeros, the bins, and zeros up to the last tile's neighbour,
so that tile t reads rows TILE * t to TILE * t + 7. Products are (points, tiles, channels), the values' channels before
the gates'. The formulas are those of winograd.py's transforms, written out; its tests compare them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numba import float32, int64, njit, types, uint16

from csm_bundle.runtime.compiled import INLINE, compiled, exp, load, store

TILE = 6  # outputs at a time
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # one more than TILE; the last point of all is at infinity
NUM_POINTS = len(POINTS) + 1
_f = np.float32
_ROWS = float32[:, ::1]

Kernel = Callable[..., None]


@lru_cache
def input_kernels(tiles: int, channels: int, narrow: bool) -> tuple[Kernel, Kernel]:
    """Of a pair's first frame: (x0, x1, x2, inputs of three products). Of its second: (x1, x3, inputs of one).

    narrow: the products are in bfloat16, given by its bits.
    """
    points = tiles * channels  # from one point to the next
    stored = uint16[::1] if narrow else float32[::1]
    variant = f"_{tiles}_{channels}_{stored.dtype}"

    @compiled(types.void(_ROWS, _ROWS, _ROWS, stored), variant=variant)
    def first(x0, x1, x2, into):
        x0, x1, x2 = x0.reshape(x0.size), x1.reshape(x1.size), x2.reshape(x2.size)
        for tile in range(tiles):
            for channel in range(channels):
                row, at = TILE * tile * channels + channel, tile * channels + channel
                _put_sum(into, at, points, channels, x0, x2, _f(-1), row)
                _put_sum(into, at + NUM_POINTS * points, points, channels, x1, x2, _f(1), row)
                _put_sum(into, at + 2 * NUM_POINTS * points, points, channels, x2, x1, _f(-1), row)

    @compiled(types.void(_ROWS, _ROWS, stored), variant=variant)
    def second(x1, x3, into):
        x1, x3 = x1.reshape(x1.size), x3.reshape(x3.size)
        for tile in range(tiles):
            for channel in range(channels):
                row, at = TILE * tile * channels + channel, tile * channels + channel
                _put_sum(into, at, points, channels, x1, x3, _f(-1), row)

    return first, second


@lru_cache
def output_kernels(tiles: int, channels: int, narrow: bool) -> tuple[Kernel, Kernel]:
    """Of a pair's first frame: (products, bias, shift, difference, num_bins, output), difference and output written. Of
    its second: (products, difference, bias, shift, num_bins, output).

    channels: of the output.
    """
    both = 2 * channels  # values and gates
    points = tiles * both
    product = NUM_POINTS * points
    stored = uint16[::1] if narrow else float32[::1]
    variant = f"_{tiles}_{channels}_{stored.dtype}"

    @compiled(types.void(stored, float32[::1], float32[::1], float32[::1], int64, _ROWS), variant=variant)
    def first(products, bias, shift, difference, num_bins, y):
        y = y.reshape(y.size)
        sums, filtered = np.empty(NUM_POINTS * both, np.float32), np.empty(TILE * both, np.float32)
        for tile in range(tiles):
            for point in range(NUM_POINTS):
                at = point * points + tile * both
                for c in range(both):
                    m1, m2 = load(products, at + product + c), load(products, at + 2 * product + c)
                    difference[at + c] = m1 - m2
                    sums[point * both + c] = load(products, at + c) + (m1 + m2)
            _finish(tile, channels, sums, bias, shift, filtered, y)
        _clear_rest(num_bins, channels, y)

    @compiled(types.void(stored, float32[::1], float32[::1], float32[::1], int64, _ROWS), variant=variant)
    def second(products, difference, bias, shift, num_bins, y):
        y = y.reshape(y.size)
        sums, filtered = np.empty(NUM_POINTS * both, np.float32), np.empty(TILE * both, np.float32)
        for tile in range(tiles):
            for point in range(NUM_POINTS):
                at = point * points + tile * both
                for c in range(both):
                    sums[point * both + c] = difference[at + c] + load(products, at + c)
            _finish(tile, channels, sums, bias, shift, filtered, y)
        _clear_rest(num_bins, channels, y)

    return first, second


@njit(**INLINE)
def _put_sum(into, at, points, channels, x, y, sign, row):
    """The points of one channel of a tile of x plus sign times y. row: of the bin before the tile."""
    d0 = x[row] + sign * y[row]
    d1 = x[row + channels] + sign * y[row + channels]
    d2 = x[row + 2 * channels] + sign * y[row + 2 * channels]
    d3 = x[row + 3 * channels] + sign * y[row + 3 * channels]
    d4 = x[row + 4 * channels] + sign * y[row + 4 * channels]
    d5 = x[row + 5 * channels] + sign * y[row + 5 * channels]
    d6 = x[row + 6 * channels] + sign * y[row + 6 * channels]
    d7 = x[row + 7 * channels] + sign * y[row + 7 * channels]
    even, odd = d6 + d2 - _f(4.25) * d4, d5 + d1 - _f(4.25) * d3
    even_2, odd_2 = d6 - _f(1.25) * d4 + _f(0.25) * d2, _f(2) * d5 - _f(2.5) * d3 + _f(0.5) * d1
    even_half, odd_half = d6 - _f(5) * d4 + _f(4) * d2, _f(0.5) * d5 - _f(2.5) * d3 + _f(2) * d1
    store(into, at, d6 - d0 + _f(5.25) * (d2 - d4))
    store(into, at + points, even + odd)
    store(into, at + 2 * points, even - odd)
    store(into, at + 3 * points, even_2 + odd_2)
    store(into, at + 4 * points, even_2 - odd_2)
    store(into, at + 5 * points, even_half + odd_half)
    store(into, at + 6 * points, even_half - odd_half)
    store(into, at + 7 * points, d7 - d1 + _f(5.25) * (d3 - d5))


@njit(**INLINE)
def _finish(tile, channels, sums, bias, shift, filtered, y):
    """From a tile's points to its rows of the output. sums: (points, values and gates). filtered: room for as many."""
    both = 2 * channels
    for c in range(both):
        m0, m7, b = sums[c], sums[c + 7 * both], bias[c]
        plus, minus = sums[c + both] + sums[c + 2 * both], sums[c + both] - sums[c + 2 * both]
        plus_2, minus_2 = sums[c + 3 * both] + sums[c + 4 * both], sums[c + 3 * both] - sums[c + 4 * both]
        plus_half, minus_half = sums[c + 5 * both] + sums[c + 6 * both], sums[c + 5 * both] - sums[c + 6 * both]
        filtered[c] = b + m0 + plus + plus_2 + plus_half
        filtered[c + both] = b + minus + _f(2) * minus_2 + _f(0.5) * minus_half
        filtered[c + 2 * both] = b + plus + _f(4) * plus_2 + _f(0.25) * plus_half
        filtered[c + 3 * both] = b + minus + _f(8) * minus_2 + _f(0.125) * minus_half
        filtered[c + 4 * both] = b + plus + _f(16) * plus_2 + _f(0.0625) * plus_half
        filtered[c + 5 * both] = b + minus + _f(32) * minus_2 + _f(0.03125) * minus_half + m7
    for row in range(TILE):
        values, out = row * both, (1 + TILE * tile + row) * channels
        for c in range(channels):
            y[out + c] = filtered[values + c] * sigmoid(filtered[values + channels + c]) + shift[c]


@njit(**INLINE)
def _clear_rest(num_bins, channels, y):
    """Writes zeros to the rows that are no bins."""
    y[:channels] = _f(0)
    y[(1 + num_bins) * channels :] = _f(0)


@njit(**INLINE)
def sigmoid(x):
    """The sigmoid to 1e-7."""
    return _f(1) / (_f(1) + exp(-x))


@compiled(types.void(_ROWS, _ROWS, float32[::1], float32[::1], float32, float32[::1]), "reassoc", "nsz")
def fill_message(x, weight, bias, norm, length, message):
    """x: (rows, inputs), as winograd.py has them. weight: (2, inputs), value and gate. norm: scale and shift.

    length: of the message as a vector.
    """
    power = np.float32(0)
    for bin_ in range(len(message)):
        value, gate = bias[0], bias[1]
        for channel in range(x.shape[1]):
            value += x[1 + bin_, channel] * weight[0, channel]
            gate += x[1 + bin_, channel] * weight[1, channel]
        message[bin_] = abs(value * sigmoid(gate) * norm[0] + norm[1])
        power += message[bin_] * message[bin_]
    scale = length / max(np.sqrt(power), np.finfo(np.float32).tiny)
    for bin_ in range(len(message)):
        message[bin_] *= scale
