"""The engine's step with rounded weights and rows, emulated in float32.

The factors of a product are eight-bit numbers times their scales, in float32. Sums are rounded as in float32, while a
device has exact int32 sums of each int8 block (a test compares both). A tensor core's shorter float8 sums are not
emulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_engine.execution.matrix import FLOAT8, Matrix, plain, quantized
from csm_engine.execution.ops import dispatch
from csm_engine.execution.ops.prefetch.launch_prefetch import NO_PREFETCH, Prefetch
from csm_engine.execution.weights import PackedWeights, pack, pack_stack
from csm_engine.model.csm import CSM

Form = Literal["float32", "bfloat16", "float8", "int8"]
_LARGEST = {"float8": 448.0, "int8": 127.0}


@dataclass(frozen=True, slots=True)
class Arm:
    """block: how many inputs of a row share a scale; None is the whole row. Weights have one scale for each output.

    parts: into how many parts the sums of `down` are split, each rounded to bfloat16; 1 rounds none.
    """

    stacks: Literal["depth", "both"] = "depth"
    weights: Form = "float32"
    rows: Form = "float32"
    block: int | None = 64
    norms: Literal["rows", "weights"] = "rows"  # what the norms' weights are multiplied into before rounding
    parts: int = 1

    def told(self) -> dict[str, object]:
        is_blocked = self.rows in _LARGEST
        block = (self.block or "row") if is_blocked else None
        rows = self.rows if self.parts == 1 else f"{self.rows}, {self.parts} parts of sums in bfloat16"
        return {"stacks": self.stacks, "weights": self.weights, "rows": rows, "block": block, "norms": self.norms}


@dataclass(frozen=True, slots=True)
class MatrixOfRoundedRows(Matrix):
    rows: Form = "float32"
    block: int | None = None
    parts: int = 1


def rounded(x: Tensor, form: Form, block: int | None) -> Tensor:
    """x, (B, K) float32, rounded to `form`, to nearest with ties to even.

    Each block of a row has its own scale: its largest magnitude over the form's largest number. The last block may be
    shorter.
    """
    if form == "float32":
        return x
    if form == "bfloat16":
        return x.bfloat16().float()
    width = x.shape[1]
    size = block or width
    blocks = F.pad(x, (0, -width % size)).unflatten(1, (-1, size))
    factor = blocks.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / _LARGEST[form]
    values = blocks / factor
    values = values.round() if form == "int8" else values.to(FLOAT8).float()
    return (values * factor).flatten(1)[:, :width]


def packed_as(model: CSM, arm: Arm, today: PackedWeights | None = None) -> PackedWeights:
    """Packed weights whose products round like the arm, inside `rows_rounded`. today: of `pack`, without compiled
    kernels.
    """
    today, folded = today or pack(model, compiled=False), arm.norms == "weights"

    def matrix(*parts: Tensor, norm: Tensor | None = None) -> Matrix:
        weight = torch.cat(parts)
        values = _rounded_weight(weight if norm is None else weight * norm, arm.weights)
        if arm.parts > 1 and norm is None and values.shape[1] > values.shape[0]:  # `down`
            return MatrixOfRoundedRows(values, rows=arm.rows, block=arm.block, parts=arm.parts)
        same = plain(values, rows=16)
        return MatrixOfRoundedRows(same.values, layout=same.layout, rows=arm.rows, block=arm.block)

    depth = pack_stack(model.depth_decoder, model.config.depth_decoder, matrix, folded)
    if arm.stacks == "depth":
        return replace(today, depth_decoder=depth)
    return replace(
        today, depth_decoder=depth, backbone=pack_stack(model.backbone, model.config.backbone, matrix, folded)
    )


@contextmanager
def rows_rounded() -> Iterator[None]:
    """While it lasts, the engine's products with a MatrixOfRoundedRows round their rows first."""
    linear, add_linear = dispatch.linear, dispatch.add_linear

    def rounding_linear(x: Tensor, matrix: Matrix) -> Tensor:
        return linear(_rows(x, matrix), matrix)

    def rounding_add_linear(x: Tensor, y: Tensor, matrix: Matrix, prefetch: Prefetch = NO_PREFETCH) -> Tensor:
        if isinstance(matrix, MatrixOfRoundedRows) and matrix.parts > 1:
            return x.add_(_in_parts(_rows(y, matrix), matrix))
        return x.add_(linear(_rows(y, matrix), matrix))

    dispatch.linear, dispatch.add_linear = rounding_linear, rounding_add_linear
    try:
        yield
    finally:
        dispatch.linear, dispatch.add_linear = linear, add_linear


def _in_parts(y: Tensor, matrix: MatrixOfRoundedRows) -> Tensor:
    """The sum of the product's parts, each rounded to bfloat16."""
    size = y.shape[1] // matrix.parts
    products = (F.linear(*both) for both in zip(y.split(size, 1), matrix.values.split(size, 1), strict=True))
    return torch.stack([rounded(one, "bfloat16", None) for one in products]).sum(dim=0)


def _rows(x: Tensor, matrix: Matrix) -> Tensor:
    return rounded(x, matrix.rows, matrix.block) if isinstance(matrix, MatrixOfRoundedRows) else x


def _rounded_weight(weight: Tensor, form: Form) -> Tensor:
    """Quantizes weights like the engine."""
    if form == "float32" or form == "bfloat16":
        return rounded(weight, form, None)
    matrix = quantized(weight, form)
    assert matrix.scale is not None
    return matrix.values.float() * matrix.scale[:, None]
