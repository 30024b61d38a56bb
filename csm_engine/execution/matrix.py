"""A weight matrix of the fast step: in the model's type, or in eight bits with a scale for each output.

On a CPU, a matrix in the model's type has the layout of packed_linear.py, or of panels.py for the compiled kernels.
Eight bits are float8_e4m3fn (arXiv 2209.05433) or int8. Activations stay in the model's type; only the depth decoder's
kernel over int8 rounds them too. ops/dispatch.py chooses the matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from csm_bundle.runtime.packed_linear import is_worth_packing, packed
from csm_bundle.runtime.panels import in_panels, panels_of

Layout = Literal["rows", "onednn", "panels"]
Quantization = Literal["none", "float8", "int8"]

FLOAT8 = torch.float8_e4m3fn
_MAX_VALUES = {FLOAT8: 448.0, torch.int8: 127.0}
_TYPES = {"float8": FLOAT8, "int8": torch.int8}


@dataclass(frozen=True, slots=True)
class Matrix:
    """One weight matrix: N outputs, K inputs, and how to multiply by it."""

    values: Tensor  # (N, K), of the model's type or in eight bits; of another shape in another layout
    scale: Tensor | None = None  # (N,) float32, one per output; None is 1
    fused: bool = False  # on CUDA, for few rows: multiplied by a kernel of ops/, fused with norm, gate and residual
    where_faster: bool = False  # fused only at sizes where that kernel was measured to be faster
    layout: Layout = "rows"
    outputs: int = 0  # N, in panels

    def first(self, outputs: int) -> Matrix:
        """A view of the first `outputs` outputs; of all outputs where the layout is opaque."""
        if self.layout == "panels":
            return replace(self, values=self.values[: panels_of(outputs)], outputs=outputs)
        if self.layout == "onednn" or outputs == len(self.values):
            return self
        scale = None if self.scale is None else self.scale[:outputs]
        return replace(self, values=self.values[:outputs], scale=scale)


def plain(weight: Tensor, *, rows: int, fused: bool = False, where_faster: bool = False) -> Matrix:
    """A matrix in the model's type. weight: (N, K); rows: largest batch, for which the CPU layout is chosen."""
    if is_worth_packing(weight):
        return Matrix(packed(weight, rows), layout="onednn")
    return Matrix(weight, fused=fused, where_faster=where_faster)


def paneled(weight: Tensor) -> Matrix:
    """A matrix for the compiled kernels of a CPU. weight: (N, K) float32."""
    return Matrix(in_panels(weight), layout="panels", outputs=len(weight))


def quantized(weight: Tensor, quantization: Literal["float8", "int8"]) -> Matrix:
    """A matrix in eight bits. weight: (N, K). Each output's largest value becomes the type's; rounds to nearest."""
    dtype = _TYPES[quantization]
    scale = weight.abs().amax(dim=1).float().clamp_min(torch.finfo(torch.float32).tiny) / _MAX_VALUES[dtype]
    values = weight.float() / scale[:, None]
    return Matrix((values.round() if dtype is torch.int8 else values).to(dtype), scale, fused=True)
