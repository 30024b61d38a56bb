"""What the kernels of both stacks do in a layer around attention. Part of their code, in float32.

Shapes: B rows; D, F widths; H, G query and key heads; E head dimension; P positions. A product fills whole panels, so
its result may be wider than its outputs (panels.py).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from csm_bundle.runtime.compiled import INLINE, exp
from csm_bundle.runtime.panel_product import multiply

_f = np.float32


@njit(**INLINE)
def rms_norm(x, scale, eps, y):
    """RMS norm of each row. x: (B, D); y: (B, D or more); scale: (D,)."""
    width = x.shape[1]
    for b in range(x.shape[0]):
        squares = 0.0
        for n in range(width):
            squares += x[b, n] * x[b, n]
        factor = _f(1 / math.sqrt(squares / width + eps))
        for n in range(width):
            y[b, n] = x[b, n] * factor * scale[n]


@njit(**INLINE)
def copy(x, y):
    """x: (B, D); y: (B, D or more)"""
    for b in range(x.shape[0]):
        for n in range(x.shape[1]):
            y[b, n] = x[b, n]


@njit(**INLINE)
def add(x, y):
    """x += y. x: (B, D); y: (B, D or more)"""
    for b in range(x.shape[0]):
        for n in range(x.shape[1]):
            x[b, n] += y[b, n]


@njit(**INLINE)
def silu_mul(gate_up, inner):
    """SiLU of the gate times up. gate_up: (B, 2 F or more); inner: (B, F)."""
    width = inner.shape[1]
    for b in range(inner.shape[0]):
        for n in range(width):
            gate = gate_up[b, n]
            inner[b, n] = gate / (_f(1) + exp(-gate)) * gate_up[b, width + n]


@njit(**INLINE)
def finish(x, attended, out, mlp_norm, gate_up, down, eps, y, gates, inner):
    """Output projection, residual, MLP, residual. x: (B, D); overwritten are y: (B, D or more), gates: (B, 2 F or more)
    and inner: (B, F).
    """
    multiply(attended, out, y)
    add(x, y)
    rms_norm(x, mlp_norm, eps, y)
    multiply(y, gate_up, gates)
    silu_mul(gates, inner)
    multiply(inner, down, y)
    add(x, y)
