"""A layer of the backbone, and the depth decoder's whole frame, each in one call. Compiled by numba, in float32.

Torch takes some 10 us for an operation however small it is, and a frame has hundreds. Products go over the inputs in
their order, so a row's sums do not depend on how many rows there are.

Shapes: B rows; K codebooks; L layers; D, F widths; H, G query and key heads; E head dimension; S slots; P positions;
V codes; R rows of the table for a codebook.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, int64, njit, types

from csm_bundle.runtime.compiled import INLINE, compiled, exp

_f, _u = np.float32, np.uint64
_ROUNDS = 10
_MULTIPLIERS = (_u(0xD2511F53), _u(0xCD9E8D57))  # Philox4x32-10, as in sampling.py
_WEYL = (_u(0x9E3779B9), _u(0xBB67AE85))
_MASK = _u(0xFFFFFFFF)
_HALF_BITS, _SEED_BITS, _LANE_BITS = _u(32), _u(9), _u(2)

_floats, _rows, _stack, _cache = float32[::1], float32[:, ::1], float32[:, :, ::1], float32[:, :, :, ::1]
_ints, _int_rows = int64[::1], int64[:, ::1]
_REORDERED = {
    "forceinline": True,
    "fastmath": {"contract", "reassoc", "nsz"},
}  # in an order that the sizes alone decide


@njit(**INLINE)
def _multiply(x, weight, y):
    """x: (B, N), weight: (N, M), N a multiple of four -> y: (B, M)."""
    for b in range(y.shape[0]):
        for m in range(y.shape[1]):
            y[b, m] = _f(0)
    for n in range(0, weight.shape[0], 4):
        for b in range(x.shape[0]):
            x0, x1, x2, x3 = x[b, n], x[b, n + 1], x[b, n + 2], x[b, n + 3]
            for m in range(weight.shape[1]):
                y[b, m] += x0 * weight[n, m] + x1 * weight[n + 1, m] + x2 * weight[n + 2, m] + x3 * weight[n + 3, m]


@njit(**INLINE)
def _norm(x, scale, eps, y):
    """RMS norm of each row. x, y: (B, d); scale: (d,)."""
    width = x.shape[1]
    for b in range(x.shape[0]):
        squares = 0.0
        for n in range(width):
            squares += x[b, n] * x[b, n]
        factor = _f(1 / math.sqrt(squares / width + eps))
        for n in range(width):
            y[b, n] = x[b, n] * factor * scale[n]


@njit(**INLINE)
def _copy(x, y):
    for b in range(x.shape[0]):
        for n in range(x.shape[1]):
            y[b, n] = x[b, n]


@njit(**INLINE)
def _add(x, y):
    for b in range(x.shape[0]):
        for n in range(x.shape[1]):
            x[b, n] += y[b, n]


@njit(**INLINE)
def _gate(gate_up, inner):
    """SiLU of the gate times up. gate_up: (B, 2 F); inner: (B, F)."""
    width = inner.shape[1]
    for b in range(inner.shape[0]):
        for n in range(width):
            gate = gate_up[b, n]
            inner[b, n] = gate / (_f(1) + exp(-gate)) * gate_up[b, width + n]


@njit(**INLINE)
def _turn(heads, row, count, rope):
    """Rotates neighbouring pairs of a row's first `count` numbers. rope: (E / 2, 2), cosine and sine."""
    pairs = rope.shape[0]
    for n in range(count // 2):
        cosine, sine = rope[n % pairs, 0], rope[n % pairs, 1]
        a, b = heads[row, 2 * n], heads[row, 2 * n + 1]
        heads[row, 2 * n] = a * cosine - b * sine
        heads[row, 2 * n + 1] = a * sine + b * cosine


@njit(**_REORDERED)
def _dot(a, b):
    total = _f(0)
    for n in range(len(a)):
        total += a[n] * b[n]
    return total


@njit(**INLINE)
def _attend(joint, row, keys, values, position, rope, scores, attended):
    """Writes one position of a row and attends up to it. joint: (B, (H + 2 G) E), not turned yet; keys, values:
    (P, G, E), of the row; rope: (E / 2, 2); scores: (P,); attended: (B, H E).
    """
    num_keys, size = keys.shape[1], keys.shape[2]
    queries = attended.shape[1]
    group = queries // size // num_keys  # query heads of a key head
    _turn(joint, row, queries + num_keys * size, rope)
    for key in range(num_keys):
        for n in range(size):
            keys[position, key, n] = joint[row, queries + key * size + n]
            values[position, key, n] = joint[row, queries + (num_keys + key) * size + n]
    for head in range(num_keys * group):
        first, key = head * size, head // group
        largest = _f(-math.inf)
        for p in range(position + 1):
            scores[p] = _dot(joint[row, first : first + size], keys[p, key]) * _f(1 / math.sqrt(size))
            largest = max(largest, scores[p])
        total = _f(0)
        for p in range(position + 1):
            scores[p] = exp(scores[p] - largest)
            total += scores[p]
        for n in range(size):
            attended[row, first + n] = _f(0)
        for p in range(position + 1):
            weight = scores[p] / total
            for n in range(size):
                attended[row, first + n] += weight * values[p, key, n]


@njit(**INLINE)
def _finish(x, attended, out, mlp_norm, gate_up, down, eps, y, gates, inner):
    """Output projection, residual, MLP, residual. x, y: (B, D); y, gates and inner are overwritten."""
    _multiply(attended, out, y)
    _add(x, y)
    _norm(x, mlp_norm, eps, y)
    _multiply(y, gate_up, gates)
    _gate(gates, inner)
    _multiply(inner, down, y)
    _add(x, y)


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
def _draw(logits, heap, temperature, top_k, seed, frame, codebook):
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
        codes[row] = _draw(logits[row, :num_codes], heap, temperature[row], top_k[row], seed[row], frame[row], codebook)


@compiled(
    types.void(
        _rows, _rows, _rows, _rows, _rows, _floats, _floats, _cache, _cache, _ints, _ints, _stack, types.float64
    )
)  # fmt: skip
def backbone_layer(
    x, qkv, out, gate_up, down, attention_norm, mlp_norm, keys, values, slots, positions, rope, eps
):  # fmt: skip
    """One position of each row. x: (B, D), changed in place; qkv: (D, (H + 2 G) E); out: (H E, D); gate_up: (D, 2 F);
    down: (F, D); norms: (D,); keys, values: (S, P, G, E); slots, positions: (B,); rope: (P or more, E / 2, 2).
    """
    num_rows, width = x.shape
    y, joint = np.empty((num_rows, width), _f), np.empty((num_rows, qkv.shape[1]), _f)
    attended = np.empty((num_rows, out.shape[0]), _f)
    gates, inner = np.empty((num_rows, gate_up.shape[1]), _f), np.empty((num_rows, down.shape[0]), _f)
    scores = np.empty(keys.shape[1], _f)
    _norm(x, attention_norm, eps, y)
    _multiply(y, qkv, joint)
    for row in range(num_rows):
        slot, position = slots[row], positions[row]
        _attend(joint, row, keys[slot], values[slot], position, rope[position], scores, attended)
    _finish(x, attended, out, mlp_norm, gate_up, down, eps, y, gates, inner)


@compiled(
    types.void(
        _rows, _rows, _stack, _stack, _stack, _stack, _rows, _rows, _floats, _stack, _rows, _stack, types.float64,
        int64, _floats, _ints, _ints, _ints, _int_rows,
    )
)  # fmt: skip
def depth_frame(
    first, second, qkv, out, gate_up, down, attention_norms, mlp_norms, norm, heads, inputs, rope, eps, num_keys,
    temperature, top_k, seed, frame, codes,
):  # fmt: skip
    """Codebooks 1..K-1 of each row. first, second: (B, D), inputs of positions 0 and 1; weights: as of a layer, for all
    layers (L, ...); norm: (D,); heads: (K - 1, D, V); inputs: ((K - 1) R, D), by code; num_keys: G; sampling parameters
    and frames: (B,); codes: (B, K), of which codebook 0 is left as it is.
    """
    num_rows, num_codebooks = codes.shape
    num_layers, width, joined = qkv.shape
    num_codes, size = heads.shape[2], 2 * rope.shape[1]
    table_rows = inputs.shape[0] // (num_codebooks - 1)
    x, y, joint = np.empty((num_rows, width), _f), np.empty((num_rows, width), _f), np.empty((num_rows, joined), _f)
    attended = np.empty((num_rows, out.shape[1]), _f)
    gates, inner = np.empty((num_rows, gate_up.shape[2]), _f), np.empty((num_rows, down.shape[1]), _f)
    keys = np.empty((num_layers, num_rows, num_codebooks, num_keys, size), _f)
    values = np.empty((num_layers, num_rows, num_codebooks, num_keys, size), _f)
    scores, logits, heap = np.empty(num_codebooks, _f), np.empty((num_rows, num_codes), _f), np.empty(num_codes, _f)
    for position in range(num_codebooks):
        if position < 2:
            _copy(first if position == 0 else second, x)
        for layer in range(num_layers):
            _norm(x, attention_norms[layer], eps, y)
            _multiply(y, qkv[layer], joint)
            for row in range(num_rows):
                _attend(joint, row, keys[layer, row], values[layer, row], position, rope[position], scores, attended)
            if position == 0 and layer == num_layers - 1:
                break  # later positions need only its keys and values
            _finish(x, attended, out[layer], mlp_norms[layer], gate_up[layer], down[layer], eps, y, gates, inner)
        if position == 0:
            continue
        _norm(x, norm, eps, y)
        _multiply(y, heads[position - 1], logits)
        for row in range(num_rows):
            code = _draw(logits[row], heap, temperature[row], top_k[row], seed[row], frame[row], position)
            codes[row, position] = code
            if position < num_codebooks - 1:
                fed = inputs[position * table_rows + min(code, num_codes - 1)]
                for n in range(width):
                    x[row, n] = fed[n]
