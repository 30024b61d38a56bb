"""Transposed convolution of a few steps at a time, as streams need it on a CPU. It has no state and knows no codec."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from csm_engine.packed_linear import is_worth_packing, packed, packed_linear


class GemmConvTranspose1d(nn.Module):
    """The same as the nn.ConvTranspose1d that it is made from, as one matrix product and an overlap-add.

    For two input steps torch's own spends nearly all of its time in putting the weights into another order.
    """

    def __init__(self, conv: nn.ConvTranspose1d, rows: int) -> None:
        """conv: one that `fits`; rows: steps of all streams that come at a time, about."""
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias  # (inputs, outputs, kernel), (outputs,)
        self.kernel_size, self.stride, self.out_channels = conv.kernel_size, conv.stride, conv.out_channels
        self._rows = rows
        self._packed = self._in_best_layout()

    @staticmethod
    def fits(conv: nn.ConvTranspose1d) -> bool:
        """One group, no padding, no dilation, a kernel of whole strides."""
        plain = conv.groups == 1 and conv.padding == (0,) and conv.output_padding == (0,) and conv.dilation == (1,)
        return plain and conv.kernel_size[0] % conv.stride[0] == 0

    def forward(self, x: Tensor) -> Tensor:
        """(rows, inputs, steps) to (rows, outputs, (steps - 1) * stride + kernel)"""
        rows, inputs, steps = x.shape
        (stride,) = self.stride
        overlap = self.kernel_size[0] // stride
        product = self._product(x.transpose(1, 2).reshape(-1, inputs))  # one for all rows: weights pass once
        pieces = product.view(rows, steps, self.out_channels, overlap, stride)
        y = x.new_zeros(rows, self.out_channels, steps + overlap - 1, stride)
        for index in range(overlap):
            y[:, :, index : index + steps] += pieces[:, :, :, index].transpose(1, 2)
        y = y.flatten(2)
        return y if self.bias is None else y + self.bias[:, None]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GemmConvTranspose1d:
        """Another type, as by `to`: packed anew."""
        super()._apply(fn, recurse)
        self._packed = self._in_best_layout()
        return self

    def _in_best_layout(self) -> Tensor | None:
        return packed(self.weight.flatten(1).t(), self._rows) if is_worth_packing(self.weight) else None

    def _product(self, x: Tensor) -> Tensor:
        """(steps of all rows, inputs) to (.., outputs * kernel)"""
        return x @ self.weight.flatten(1) if self._packed is None else packed_linear(x, self._packed)
