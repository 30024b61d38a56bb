"""A weight matrix of the fast step: in the model's type, or in eight bits with a scale for each output.

In the model's type on a CPU it is in the layout of packed_linear.py. Eight bits are float8_e4m3fn (arXiv 2209.05433) or
whole numbers: weights alone, activations stay in the model's type. Who multiplies is the business of ops/.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from csm_bundle.runtime.packed_linear import is_worth_packing, packed

Quantization = Literal["none", "float8", "int8"]

FLOAT8 = torch.float8_e4m3fn
_LARGEST = {FLOAT8: 448.0, torch.int8: 127.0}
_TYPES = {"float8": FLOAT8, "int8": torch.int8}


@dataclass(frozen=True, slots=True)
class Matrix:
    """N outputs, K inputs."""

    values: Tensor  # (N, K), of the model's type or in eight bits; opaque when `is_packed`
    scale: Tensor | None = None  # (N,) float32, what the rows are multiplied by; None is one
    fused: bool = False  # on CUDA, for few rows: by our own kernel, with what stands before and behind the product
    where_faster: bool = False  # if fused: only at sizes at which our kernel was measured to be the faster one
    is_packed: bool = False

    def first(self, outputs: int) -> Matrix:
        """The first outputs alone, over the same memory; all of them where the layout is opaque."""
        if self.is_packed or outputs == len(self.values):
            return self
        scale = None if self.scale is None else self.scale[:outputs]
        return replace(self, values=self.values[:outputs], scale=scale)


def plain(weight: Tensor, *, rows: int, fused: bool = False, where_faster: bool = False) -> Matrix:
    """weight: (N, K); rows: of a step, about."""
    if is_worth_packing(weight):
        return Matrix(packed(weight, rows), is_packed=True)
    return Matrix(weight, fused=fused, where_faster=where_faster)


def quantized(weight: Tensor, quantization: Literal["float8", "int8"]) -> Matrix:
    """weight: (N, K). The largest value of each row becomes the largest there is; others are rounded to nearest."""
    dtype = _TYPES[quantization]
    scale = weight.abs().amax(dim=1).float().clamp_min(torch.finfo(torch.float32).tiny) / _LARGEST[dtype]
    values = weight.float() / scale[:, None]
    return Matrix((values.round() if dtype is torch.int8 else values).to(dtype), scale, fused=True)
