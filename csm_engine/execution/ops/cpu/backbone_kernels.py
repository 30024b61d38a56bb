"""The backbone's kernels: frame steps and prefill run the same ones. Compiled by numba, in float32.

So a row's bits depend on its own conversation alone: not on the other rows, not on how a prompt was split into passes,
and not on whether the keys and values that it attends to come from frame steps or from prefill.

Shapes: B rows; K codebooks; D, F widths; H, G query and key heads; E head dimension; S slots; P positions; V ids of a
codebook. Matrices are in panels (panels.py).
"""

from __future__ import annotations

import numpy as np
from numba import float32, float64, int64, njit, types

from csm_bundle.runtime.compiled import CALLED, compiled
from csm_bundle.runtime.panel_product import multiply
from csm_bundle.runtime.panels import PANEL
from csm_engine.execution.ops.cpu.attention import attend, write
from csm_engine.execution.ops.cpu.layer_parts import finish, rms_norm

_f = np.float32
_ROWS = 32  # in the making, whose numbers stay in a cache
_TOGETHER = 4  # rows of a slot that attend together
_floats, _rows, _panels, _cache = float32[::1], float32[:, ::1], float32[:, :, ::1], float32[:, :, :, ::1]
_ints = int64[::1]


@compiled(types.void(int64[:, :], int64, int64, _rows, _rows, _rows))
def embed(ids, num_codebooks, vocab_size, audio_table, text_table, x):
    """The sums of the rows' embeddings, in the order of the ids.

    ids: (B, K) or (B, K + 1) with a text id, -1 where masked; audio_table: (K V, D); text_table: (text ids, D);
    x: (B, D). An audio id past the last, which stands for a logit that is not a number, is taken as the last.
    """
    width = x.shape[1]
    for row in range(len(x)):
        for n in range(width):
            x[row, n] = _f(0)
        for column in range(ids.shape[1]):
            if ids[row, column] < 0:
                continue
            if column < num_codebooks:
                embedding = audio_table[column * vocab_size + min(ids[row, column], vocab_size - 1)]
            else:
                embedding = text_table[ids[row, column]]
            for n in range(width):
                x[row, n] += embedding[n]


@compiled(types.void(_rows, _panels, _floats, int64, _cache, _cache, _ints, _ints, _panels, float64, _rows))
def begin_layer(x, qkv, attention_norm, queries, keys, values, slots, positions, rope, eps, joint):
    """Writes keys and values of one position of each row. x: (B, D); qkv: D to (H + 2 G) E; attention_norm: (D,);
    queries: H E; keys, values: (S, P, G, E); slots, positions: (B,); rope: (P or more, E / 2, 2); joint: (B, whole
    panels), written for `finish_layer`.
    """
    y = np.empty(x.shape, _f)
    rms_norm(x, attention_norm, eps, y)
    multiply(y, qkv, joint)
    for row in range(len(x)):
        slot, position = slots[row], positions[row]
        write(joint, row, queries, keys[slot], values[slot], position, rope[position])


@njit(**CALLED)
def _finish_some(x, joint, out, gate_up, down, mlp_norm, keys, values, slots, positions, eps):
    num_rows = len(x)
    y, attended = np.empty((num_rows, down.shape[0] * PANEL), _f), np.empty((num_rows, out.shape[1]), _f)
    gates, inner = np.empty((num_rows, gate_up.shape[0] * PANEL), _f), np.empty((num_rows, down.shape[1]), _f)
    length, num_keys, size = keys.shape[1:]
    most = _TOGETHER * out.shape[1] // size // num_keys
    scores, heads = np.empty((num_keys, most, length), _f), np.empty((num_keys, most, size), _f)
    row = 0
    while row < num_rows:
        slot, position, count = slots[row], positions[row], 1
        while (
            count < min(_TOGETHER, num_rows - row)
            and slots[row + count] == slot
            and positions[row + count] == position + count
        ):
            count += 1
        attend(joint, row, count, keys[slot], values[slot], position, scores, heads, attended)
        row += count
    finish(x, attended, out, mlp_norm, gate_up, down, eps, y, gates, inner)


@compiled(types.void(_rows, _rows, _panels, _panels, _panels, _floats, _cache, _cache, _ints, _ints, float64))
def finish_layer(x, joint, out, gate_up, down, mlp_norm, keys, values, slots, positions, eps):
    """Each row attends over its slot up to its position, all of which must be written. x: (B, D), changed in place;
    joint: from `begin_layer`; out: H E to D; gate_up: D to 2 F; down: F to D; mlp_norm: (D,); else as `begin_layer`.
    """
    for begin in range(0, len(x), _ROWS):
        rows = slice(begin, min(begin + _ROWS, len(x)))
        _finish_some(
            x[rows], joint[rows], out, gate_up, down, mlp_norm, keys, values, slots[rows], positions[rows], eps
        )  # fmt: skip


@compiled(types.void(_rows, _floats, float64, _rows))
def normalize(x, scale, eps, y):
    """RMS norm. x, y: (B, D); scale: (D,)"""
    rms_norm(x, scale, eps, y)
