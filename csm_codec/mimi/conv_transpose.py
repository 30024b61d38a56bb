"""Transposed convolution over a few steps at a time, for streams on a CPU. It has no state and knows no codec."""

from __future__ import annotations

from torch import Tensor, nn


class GemmConvTranspose1d(nn.Module):
    """A transposed convolution as one matrix product and an overlap-add. Equals the nn.ConvTranspose1d it is made from.

    For two input steps, torch's own module spends nearly all its time reordering the weights.
    """

    def __init__(self, conv: nn.ConvTranspose1d) -> None:
        """conv: one that `fits`."""
        super().__init__()
        weight = conv.weight.flatten(1).t()  # (outputs * kernel, inputs)
        self.product = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.product.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = conv.bias  # (outputs,)
        self.kernel_size, self.stride, self.out_channels = conv.kernel_size, conv.stride, conv.out_channels

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
        product = self.product(x.transpose(1, 2).reshape(-1, inputs))  # one for all rows: weights pass once
        pieces = product.view(rows, steps, self.out_channels, overlap, stride)
        y = x.new_zeros(rows, self.out_channels, steps + overlap - 1, stride)
        for index in range(overlap):
            y[:, :, index : index + steps] += pieces[:, :, :, index].transpose(1, 2)
        y = y.flatten(2)
        return y if self.bias is None else y + self.bias[:, None]
