"""Draws the codes of a codebook. Compiled by numba, in float32.

Shapes: B rows; V codes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, int64, njit, types

from csm_bundle.runtime.compiled import INLINE, compiled

_f, _u = np.float32, np.uint64
_ROUNDS = 10
_MULTIPLIERS = (_u(0xD2511F53), _u(0xCD9E8D57))  # Philox4x32-10, as in sampling.py
_WEYL = (_u(0x9E3779B9), _u(0xBB67AE85))
_MASK = _u(0xFFFFFFFF)
_HALF_BITS, _SEED_BITS, _LANE_BITS = _u(32), _u(9), _u(2)

_floats, _rows, _ints = float32[::1], float32[:, ::1], int64[::1]


@njit(**INLINE)
def _noise(seed, frame, codebook, candidate):
    """The Gumbel noise of a candidate, as sampling.py defines it."""
    c0, c1, c2, c3 = _u(candidate) >> _LANE_BITS, _u(codebook), _u(frame), _u(0)
    k0, k1 = _u(seed) & _MASK, _u(seed) >> _HALF_BITS
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _HALF_BITS) ^ c1 ^ k0,
            product1 & _MASK,
            (product0 >> _HALF_BITS) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    lane = candidate & 3
    word = c0 if lane == 0 else c1 if lane == 1 else c2 if lane == 2 else c3
    uniform = (_f(word >> _SEED_BITS) + _f(0.5)) * _f(2.0**-23)
    return -np.log(-np.log(uniform))


@njit(**INLINE)
def _threshold(logits, top_k, heap):
    """The top_k-th largest of the logits. heap: room for top_k of them, the largest so far, with the least in front."""
    for n in range(top_k):
        at, value = n, logits[n]
        while at > 0 and heap[(at - 1) // 2] > value:
            heap[at] = heap[(at - 1) // 2]
            at = (at - 1) // 2
        heap[at] = value
    for n in range(top_k, len(logits)):
        value = logits[n]
        if value > heap[0]:
            at, child = 0, 1
            while child < top_k:
                if child + 1 < top_k and heap[child + 1] < heap[child]:
                    child += 1
                if heap[child] >= value:
                    break
                heap[at] = heap[child]
                at, child = child, 2 * child + 1
            heap[at] = value
    return heap[0]


@njit(**INLINE)
def draw(logits, heap, temperature, top_k, seed, frame, codebook):
    """A code of one row; ties go to the lowest. V where a logit is NaN. logits: (V,); heap: room for as many."""
    size = len(logits)
    threshold = _threshold(logits, top_k, heap) if top_k < size else _f(-math.inf)
    best, code = _f(-math.inf), size
    for candidate in range(size):
        if not logits[candidate] < threshold:  # so NaN is a candidate
            score = logits[candidate]
            if temperature > 0:
                score += temperature * _noise(seed, frame, codebook, candidate)
            if math.isnan(score):
                return size
            if score > best or code == size:  # the first one, even of -inf
                best, code = score, candidate
    return code


@compiled(types.void(_rows, _floats, _ints, _ints, _ints, int64, int64, _ints))
def draw_codes(logits, temperature, top_k, seed, frame, codebook, num_codes, codes):
    """A code of one codebook for each row. logits: (B, V or more), of which the first num_codes may be drawn; sampling
    parameters, frames and codes: (B,).
    """
    heap = np.empty(num_codes, _f)
    for row in range(len(codes)):
        codes[row] = draw(logits[row, :num_codes], heap, temperature[row], top_k[row], seed[row], frame[row], codebook)
