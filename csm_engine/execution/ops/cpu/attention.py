"""Attention of rows over the keys and values of a slot. Part of the kernels of both stacks, in float32.

Shapes: B rows; H, G query and key heads; E head dimension, a multiple of eight; P positions, at least eight.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from csm_bundle.runtime.compiled import CALLED, INLINE, exp
from csm_bundle.runtime.panels import LANES
from csm_bundle.runtime.vector_tiles import eight_dots, vector_sum, weighted_sums

_f = np.float32
_WIDE = 32  # numbers of a head
_CHUNK = 64  # positions, whose values stay in the nearest cache
_of_two, _of_one = weighted_sums(2, _WIDE // LANES, adds=True), weighted_sums(1, _WIDE // LANES, adds=True)
_narrow = weighted_sums(1, 1, adds=True)


@njit(**INLINE)
def _turn(heads, row, count, rope):
    """Rotates neighbouring pairs of a row's first `count` numbers. rope: (E / 2, 2), cosine and sine."""
    pairs = rope.shape[0]
    for n in range(count // 2):
        cosine, sine = rope[n % pairs, 0], rope[n % pairs, 1]
        a, b = heads[row, 2 * n], heads[row, 2 * n + 1]
        heads[row, 2 * n] = a * cosine - b * sine
        heads[row, 2 * n + 1] = a * sine + b * cosine


@njit(**INLINE)
def write(joint, row, queries, keys, values, position, rope):
    """Writes keys and values of one position of a row, and turns its queries. joint: (B, (H + 2 G) E or more), not
    turned yet, queries before keys before values; queries: H E; keys, values: (P, G, E), of the row; rope: (E / 2, 2).
    """
    num_keys, size = keys.shape[1], keys.shape[2]
    _turn(joint, row, queries + num_keys * size, rope)
    for key in range(num_keys):
        for n in range(size):
            keys[position, key, n] = joint[row, queries + key * size + n]
            values[position, key, n] = joint[row, queries + (num_keys + key) * size + n]


@njit(**CALLED)
def _softmax(scores, scale):
    """Scores become weights."""
    largest, whole = scores[0], len(scores) // LANES * LANES
    for p in range(len(scores)):
        largest = max(largest, scores[p])
    for p in range(len(scores)):
        scores[p] = exp((scores[p] - largest) * scale)
    total = vector_sum(scores, 0, whole)
    for p in range(whole, len(scores)):
        total += scores[p]
    for p in range(len(scores)):
        scores[p] /= total


@njit(**INLINE)
def _add_values(scores, of, values, at, step, count, attended, into, group, size):
    """Adds `count` weighted values of a key head to what its group's heads attended to.

    scores: (rows, H / G, P), weights now; of, at, into: where those of the first head, the values and the result begin
    in their whole arrays; step: from a position's values to the next.
    """
    length = scores.shape[2]
    for column in range(0, size // _WIDE * _WIDE, _WIDE):
        for head in range(0, group - 1, 2):
            to = into + head * size + column
            _of_two(scores, of + head * length, length, values, at + column, step, count, attended, to, size)
        if group % 2:
            to = into + (group - 1) * size + column
            _of_one(scores, of + (group - 1) * length, 0, values, at + column, step, count, attended, to, 0)
    for column in range(size // _WIDE * _WIDE, size, LANES):
        for head in range(group):
            to = into + head * size + column
            _narrow(scores, of + head * length, 0, values, at + column, step, count, attended, to, 0)


@njit(**CALLED)
def attend(joint, row, num_rows, keys, values, position, scores, attended):
    """Rows from `row` on attend up to their positions, of which the first is given and the others follow. All of them
    are written, in one slot. Together, rows read its keys and values once, from caches near the processor.

    joint: as `write` left it; keys, values: (P, G, E), of the slot; scores: (num_rows or more, H / G, P); attended:
    (B, H E).
    """
    length, num_keys, size = keys.shape
    group, step, wide, width = scores.shape[1], num_keys * size, joint.shape[1], attended.shape[1]
    for key in range(num_keys):
        first = key * group * size  # of the group's heads, in queries and in `attended`
        for block in range(0, position + num_rows, LANES):
            p = min(block, length - LANES)  # scores past a row's position are not read
            for r in range(max(0, block - position), num_rows):
                for head in range(group):
                    query, into = (row + r) * wide + first + head * size, (r * group + head) * length + p
                    eight_dots(joint, query, keys, p * step + key * size, step, size, scores, into)
        for r in range(num_rows):
            for head in range(group):
                _softmax(scores[r, head, : position + r + 1], _f(1 / math.sqrt(size)))
            for n in range(first, first + group * size):
                attended[row + r, n] = _f(0)
        for begin in range(0, position + num_rows, _CHUNK):
            for r in range(max(0, begin - position), num_rows):
                count = min(_CHUNK, position + r + 1 - begin)
                of, into = r * group * length + begin, (row + r) * width + first
                _add_values(scores, of, values, begin * step + key * size, step, count, attended, into, group, size)
