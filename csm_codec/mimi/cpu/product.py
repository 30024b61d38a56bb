"""A layer's matrix product over inputs that kernels write: in panels, in oneDNN's layout, or plain, where that pays."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from csm_bundle.runtime.packed_linear import is_worth_packing, packed, packed_linear
from csm_bundle.runtime.panel_product import panel_linear
from csm_bundle.runtime.panels import in_panels
from csm_codec.config import CPU_LANE_WIDTH

Array = npt.NDArray[Any]
_MOST_EACH_IN_PANELS = 16  # rows of a stream: with many more, oneDNN's wider vectors are faster on some processors


class Product:
    """(rows, inputs) to (rows, outputs). A row of the result depends on its own inputs alone, bit for bit.

    It does not depend on the number of rows either, where that may vary: in panels by construction. A vendor's product
    may add in another order for few rows, so `fewest_rows` is what they are filled up to. The product of a usual lane
    decides the bits of all narrower ones.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int, dtype: torch.dtype, *, each: int = 0) -> None:
        """weight: (outputs, inputs). bias: (outputs,). rows: at most; always so many if `each` is 0, otherwise any
        multiple of it, `each` for each stream.
        """
        self._weight = weight.detach().to(dtype).contiguous()
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._num_outputs, self.num_inputs = weight.shape
        self._in_panels = 0 < each <= _MOST_EACH_IN_PANELS and dtype is torch.float32
        self._is_packed = not self._in_panels and is_worth_packing(self._weight)
        most = max(rows, CPU_LANE_WIDTH * each)
        if self._in_panels:
            self._weight = in_panels(self._weight)
        elif self._is_packed:
            self._weight = packed(self._weight, most)  # in the layout of a usual lane, for the same bits
        self.fewest_rows = each or rows
        if each and not self._in_panels:
            self.fewest_rows = self._find_fewest_rows(most, each, dtype)
        self._rows = max(rows, self.fewest_rows)
        self.use(torch.zeros(self.size, dtype=dtype))

    def with_own_memory(self) -> Product:
        """The same weights, for another thread."""
        other = copy(self)
        other.use(torch.zeros_like(self._inputs).view(-1))
        return other

    @property
    def size(self) -> int:
        return self._rows * self.num_inputs

    def use(self, workspace: Tensor) -> None:
        """Takes `inputs`, (rows * inputs,), from memory that other products may share, (at least `size`,)."""
        self._inputs = workspace[: self.size].view(self._rows, self.num_inputs)
        self.inputs = flat(self._inputs)

    def fill(self, x: Tensor) -> None:
        """x: (rows, inputs)"""
        self._inputs[: len(x)].copy_(x)

    def multiply(self, rows: int) -> Array:
        """What came of the first rows of `inputs`, (rows * outputs,). Its own memory."""
        return flat(self._product(rows))

    def multiply_gelu(self, rows: int, into: Product) -> None:
        """The inputs of the next product."""
        into.fill(functional.gelu(self._product(rows)))

    def _product(self, rows: int) -> Tensor:
        return self._of(self._inputs[: max(rows, self.fewest_rows)])[:rows]

    def _of(self, x: Tensor) -> Tensor:
        if self._in_panels:
            return panel_linear(x, self._weight, self._num_outputs, self._bias).contiguous()
        if self._is_packed:
            return packed_linear(x, self._weight, self._bias)
        return functional.linear(x, self._weight, self._bias)

    def _find_fewest_rows(self, most: int, each: int, dtype: torch.dtype) -> int:
        """The number from which on, up to `most`, random rows have the same bits."""
        x = torch.randn(most, self.num_inputs, generator=torch.Generator().manual_seed(0)).to(dtype)
        whole = self._of(x)
        for fewer in range(most - each, 0, -each):
            if not torch.equal(self._of(x[:fewer]), whole[:fewer]):
                return fewer + each
        return each


def flat(x: Tensor) -> Array:
    """The same memory, of one dimension. As numpy has no bfloat16, its bits."""
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).view(-1).numpy()
