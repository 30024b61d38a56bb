"""A layer's matrix product over inputs that kernels write, with weights in oneDNN's layout where that pays."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from csm_bundle.runtime.packed_linear import is_worth_packing, packed, packed_linear

Array = npt.NDArray[Any]


class Product:
    """(rows, inputs) to (rows, outputs). A row of the result depends on its own inputs and on the number of rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int, dtype: torch.dtype) -> None:
        """weight: (outputs, inputs). bias: (outputs,)"""
        self._weight = weight.detach().to(dtype).contiguous()
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._is_packed = is_worth_packing(self._weight)
        if self._is_packed:
            self._weight = packed(self._weight, rows)
        self.rows, self.num_inputs = rows, weight.shape[1]
        self.use(torch.zeros(self.size, dtype=dtype))

    def with_own_memory(self) -> Product:
        """The same weights, for another thread."""
        other = copy(self)
        other.use(torch.zeros_like(self._inputs).view(-1))
        return other

    @property
    def size(self) -> int:
        return self.rows * self.num_inputs

    def use(self, workspace: Tensor) -> None:
        """Takes `inputs`, (rows * inputs,), from memory that other products may share, (at least `size`,)."""
        self._inputs = workspace[: self.size].view(self.rows, self.num_inputs)
        self.inputs = flat(self._inputs)

    def fill(self, x: Tensor) -> None:
        """x: (rows, inputs)"""
        self._inputs.copy_(x)

    def multiply(self) -> Array:
        """What came of `inputs`, (rows * outputs,). Its own memory."""
        return flat(self._product())

    def multiply_gelu(self, into: Product) -> None:
        """The inputs of the next product."""
        into.fill(functional.gelu(self._product()))

    def _product(self) -> Tensor:
        if self._is_packed:
            return packed_linear(self._inputs, self._weight, self._bias)
        return functional.linear(self._inputs, self._weight, self._bias)


def flat(x: Tensor) -> Array:
    """The same memory, of one dimension. As numpy has no bfloat16, its bits."""
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).view(-1).numpy()
