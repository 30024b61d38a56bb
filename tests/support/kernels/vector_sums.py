"""Small kernels around the sums of vector_tiles.py, to call them from a test."""

from __future__ import annotations

from numba import float32, int64, types

from csm_bundle.runtime.compiled import compiled
from csm_bundle.runtime.panels import LANES
from csm_bundle.runtime.vector_tiles import eight_dots, vector_max, vector_sum, weighted_sums

_rows = float32[:, ::1]
_dots, _dots_of_two = eight_dots(1), eight_dots(2)
_whole, _in_parts = weighted_sums(2, 1), weighted_sums(2, 1, adds=True)


@compiled(types.void(_rows, _rows, _rows, int64))
def two_rows(x, weight, y, part):
    """The product of two rows with eight columns, `part` rows of the weight at a time; whole if it is 0."""
    depth, wide = x.shape[1], weight.shape[1]
    if part == 0:
        _whole(x, 0, depth, weight, 0, wide, depth, y, 0, y.shape[1])
    else:
        for begin in range(0, depth, part):
            count = min(part, depth - begin)
            _in_parts(x, begin, depth, weight, begin * wide, wide, count, y, 0, y.shape[1])


@compiled(types.void(_rows, _rows, _rows))
def dots_of_two(x, weight, y):
    """As `dots`, for the first and the last row of x."""
    width, last = x.shape[1], len(x) - 1
    _dots_of_two(x, 0, last * width, weight, 0, width, width, y, 0, last * LANES)


@compiled(types.void(_rows, _rows, _rows))
def dots(x, weight, y):
    """Each row of x with eight rows of weight."""
    width = x.shape[1]
    for row in range(len(x)):
        _dots(x, row * width, width, weight, 0, width, width, y, row * LANES, LANES)


@compiled(types.void(float32[::1], float32[::1]))
def largest(x, y):
    """The largest of x, whose length is a multiple of eight, to y: (1,)"""
    y[0] = vector_max(x, 0, len(x))


@compiled(types.void(float32[::1], float32[::1]))
def total(x, y):
    """The sum of x, whose length is a multiple of eight, to y: (1,)"""
    y[0] = vector_sum(x, 0, len(x))
