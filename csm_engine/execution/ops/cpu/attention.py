"""Attention of rows over the keys and values of a slot. Part of the kernels of both stacks, in float32.

Shapes: B rows; H, G query and key heads; E head dimension, a multiple of eight; P positions, at least eight.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from csm_bundle.runtime.compiled import CALLED, INLINE, exp
from csm_bundle.runtime.panels import LANES
from csm_bundle.runtime.vector_tiles import eight_dots, vector_max, vector_sum, weighted_sums
from csm_bundle.runtime.wide_vectors import WIDE, has_wide_vectors, in_wide_vectors

_f = np.float32
_COLUMNS = 32  # numbers of a head that a tile adds to
_CHUNK = 64  # positions, whose values stay in the nearest cache
_one_head, _two_heads = weighted_sums(1, _COLUMNS // LANES, adds=True), weighted_sums(2, _COLUMNS // LANES, adds=True)
_four_wide, _narrow = weighted_sums(4, _COLUMNS // WIDE, lanes=WIDE, adds=True), weighted_sums(1, 1, adds=True)
_dots, _dots_of_two = eight_dots(1), eight_dots(2)


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
    whole = len(scores) // LANES * LANES
    largest = vector_max(scores, 0, whole)
    for p in range(whole, len(scores)):
        largest = max(largest, scores[p])
    for p in range(len(scores)):
        scores[p] = exp((scores[p] - largest) * scale)
    total = vector_sum(scores, 0, whole)
    for p in range(whole, len(scores)):
        total += scores[p]
    for p in range(len(scores)):
        scores[p] /= total


@njit(**CALLED)
def _score_two(heads, first, keys, at, step, scores, into, length):
    """As `_score`, for as many heads as two divides."""
    in_wide_vectors()
    size = heads.shape[1]
    for head in range(first, len(heads) - 1, 2):
        _dots_of_two(heads, head * size, size, keys, at, step, size, scores, into + head * length, length)


@njit(**INLINE)
def _score(heads, first, keys, at, step, scores, into, length):
    """Scores of eight positions for the heads from `first` on. heads: (Q, E); at: where the keys begin; into: where the
    scores of the first head begin; step, length: to those of the next position and head.
    """
    size, done = heads.shape[1], first
    if has_wide_vectors():
        _score_two(heads, first, keys, at, step, scores, into, length)
        done += (len(heads) - first) // 2 * 2
    for head in range(done, len(heads)):
        _dots(heads, head * size, size, keys, at, step, size, scores, into + head * length, length)


@njit(**CALLED)
def _add_values_to_four(scores, of, length, values, at, step, count, sums, first, last):
    in_wide_vectors()
    size = sums.shape[1]
    for column in range(0, size // _COLUMNS * _COLUMNS, _COLUMNS):
        for head in range(first, last - 3, 4):
            weights, into = of + head * length, head * size + column
            _four_wide(scores, weights, length, values, at + column, step, count, sums, into, size)


@njit(**INLINE)
def _add_values(scores, of, length, values, at, step, count, sums, first, last):
    """Adds `count` weighted values to what heads attended to. scores: weights now; of, at: where those of the first
    head, and the values, begin; sums: (Q, E); first, last: the heads.
    """
    size = sums.shape[1]
    begin = first
    if has_wide_vectors() and last - first >= 4:
        _add_values_to_four(scores, of, length, values, at, step, count, sums, first, last)
        begin += (last - first) // 4 * 4
    for column in range(0, size // _COLUMNS * _COLUMNS, _COLUMNS):
        for head in range(begin, last - 1, 2):
            weights, into = of + head * length, head * size + column
            _two_heads(scores, weights, length, values, at + column, step, count, sums, into, size)
        if (last - begin) % 2:
            weights, into = of + (last - 1) * length, (last - 1) * size + column
            _one_head(scores, weights, length, values, at + column, step, count, sums, into, size)
    for column in range(size // _COLUMNS * _COLUMNS, size, LANES):
        for head in range(first, last):
            weights, into = of + head * length, head * size + column
            _narrow(scores, weights, length, values, at + column, step, count, sums, into, size)


@njit(**CALLED)
def attend(joint, row, num_rows, keys, values, position, scores, heads, attended):
    """Rows from `row` on attend up to their positions, of which the first is given and the others follow. All of them
    are written, in one slot. Together, rows and heads read its keys and values once, in the order of memory.

    joint: as `write` left it; keys, values: (P, G, E), of the slot; overwritten are scores: (G, Q, P) and heads:
    (G, Q, E), for Q = num_rows H / G or more; attended: (B, H E).
    """
    length, num_keys, size = keys.shape
    group, step = attended.shape[1] // size // num_keys, num_keys * size
    num_heads, of_key = num_rows * group, scores.shape[1] * length  # scores of a key head
    for key in range(num_keys):
        for head in range(num_heads):
            for n in range(size):
                heads[key, head, n] = joint[row + head // group, (key * group + head % group) * size + n]
    for block in range(0, position + num_rows, LANES):
        p = min(block, length - LANES)  # scores past a row's position are not read
        first = max(0, block - position) * group
        for key in range(num_keys):
            at, into = p * step + key * size, key * of_key + p
            _score(heads[key, :num_heads], first, keys, at, step, scores, into, length)
    for key in range(num_keys):
        for head in range(num_heads):
            _softmax(scores[key, head, : position + head // group + 1], _f(1 / math.sqrt(size)))
    heads[:] = _f(0)
    for begin in range(0, position + 1, _CHUNK):
        count = min(_CHUNK, position + 1 - begin)
        for key in range(num_keys):
            at, of = begin * step + key * size, key * of_key + begin
            _add_values(scores, of, length, values, at, step, count, heads[key], 0, num_heads)
    begin = position + 1
    for r in range(1, num_rows):
        for key in range(num_keys):
            at, of = begin * step + key * size, key * of_key + begin
            _add_values(scores, of, length, values, at, step, r, heads[key], r * group, (r + 1) * group)
    for key in range(num_keys):
        for head in range(num_heads):
            for n in range(size):
                attended[row + head // group, (key * group + head % group) * size + n] = heads[key, head, n]
