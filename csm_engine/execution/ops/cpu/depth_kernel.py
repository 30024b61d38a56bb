"""The depth decoder's whole frame in one call. Compiled by numba, in float32.

Torch takes some 10 us for an operation however small it is, and a frame has hundreds.

Shapes: B rows; K codebooks; L layers; D, F widths; H, G query and key heads; E head dimension; V codes; R rows of the
table for a codebook.
"""

from __future__ import annotations

import numpy as np
from numba import float32, int64, types

from csm_bundle.runtime.compiled import compiled
from csm_bundle.runtime.panel_product import multiply
from csm_bundle.runtime.panels import LANES, PANEL
from csm_engine.execution.ops.cpu.attention import attend, write
from csm_engine.execution.ops.cpu.draw_kernel import draw
from csm_engine.execution.ops.cpu.layer_parts import copy, finish, rms_norm

_f = np.float32
_floats, _rows, _stack, _stacks = float32[::1], float32[:, ::1], float32[:, :, ::1], float32[:, :, :, ::1]
_ints, _int_rows = int64[::1], int64[:, ::1]


@compiled(
    types.void(
        _rows, _rows, _stacks, _stacks, _stacks, _stacks, _rows, _rows, _floats, _stacks, _rows, _stack, types.float64,
        int64, int64, _floats, _ints, _ints, _ints, _int_rows,
    )
)  # fmt: skip
def depth_frame(
    first, second, qkv, out, gate_up, down, attention_norms, mlp_norms, norm, heads, inputs, rope, eps, num_keys,
    num_codes, temperature, top_k, seed, frame, codes,
):  # fmt: skip
    """Codebooks 1..K-1 of each row. first, second: (B, D), inputs of positions 0 and 1; matrices in panels, of all
    layers, inputs before outputs: qkv: D to (H + 2 G) E; out: H E to D; gate_up: D to 2 F; down: F to D; heads: of the
    K - 1 codebooks, D to V or more; norms: (L, D); norm: (D,); inputs: ((K - 1) R, D), by code; num_keys: G; num_codes:
    V; sampling parameters and frames: (B,); codes: (B, K), of which codebook 0 is left as it is.
    """
    num_rows, num_codebooks = codes.shape
    num_layers, width, queries, size = qkv.shape[0], first.shape[1], out.shape[2], 2 * rope.shape[1]
    table_rows = inputs.shape[0] // (num_codebooks - 1)
    x, y = np.empty((num_rows, width), _f), np.empty((num_rows, down.shape[1] * PANEL), _f)
    joint, attended = np.empty((num_rows, qkv.shape[1] * PANEL), _f), np.empty((num_rows, queries), _f)
    gates, inner = np.empty((num_rows, gate_up.shape[1] * PANEL), _f), np.empty((num_rows, down.shape[2]), _f)
    positions = -(-num_codebooks // LANES) * LANES
    keys = np.empty((num_layers, num_rows, positions, num_keys, size), _f)
    values = np.empty((num_layers, num_rows, positions, num_keys, size), _f)
    logits = np.empty((num_rows, -(-num_codes // PANEL) * PANEL), _f)
    group = queries // size // num_keys
    scores, at_heads = np.empty((num_keys, group, positions), _f), np.empty((num_keys, group, size), _f)
    heap = np.empty(num_codes, _f)
    for position in range(num_codebooks):
        if position < 2:
            copy(first if position == 0 else second, x)
        for layer in range(num_layers):
            rms_norm(x, attention_norms[layer], eps, y)
            multiply(y, qkv[layer], joint)
            for row in range(num_rows):
                write(joint, row, queries, keys[layer, row], values[layer, row], position, rope[position])
            if position == 0 and layer == num_layers - 1:
                break  # later positions need only its keys and values
            for row in range(num_rows):
                attend(joint, row, 1, keys[layer, row], values[layer, row], position, scores, at_heads, attended)
            finish(x, attended, out[layer], mlp_norms[layer], gate_up[layer], down[layer], eps, y, gates, inner)
        if position == 0:
            continue
        rms_norm(x, norm, eps, y)
        multiply(y, heads[position - 1], logits)
        for row in range(num_rows):
            drawn = logits[row, :num_codes]
            code = draw(drawn, heap, temperature[row], top_k[row], seed[row], frame[row], position)
            codes[row, position] = code
            if position < num_codebooks - 1:
                fed = inputs[position * table_rows + min(code, num_codes - 1)]
                for n in range(width):
                    x[row, n] = fed[n]
