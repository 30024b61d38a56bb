"""The transposed convolution against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from csm_codec.mimi.conv_transpose import GemmConvTranspose1d


@pytest.mark.parametrize(("kernel", "stride"), [(16, 8), (12, 4), (3, 1), (5, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_conv_transpose_equals_torch_s(kernel: int, stride: int, bias: bool) -> None:
    torch.manual_seed(kernel)
    conv = nn.ConvTranspose1d(6, 5, kernel, stride, bias=bias).double()
    assert GemmConvTranspose1d.fits(conv)
    for steps in (1, 2, 9):
        x = torch.randn(3, 6, steps, dtype=torch.float64)
        torch.testing.assert_close(GemmConvTranspose1d(conv)(x), conv(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"groups": 2}, {"padding": 1}, {"output_padding": 1}, {"dilation": 2}])
def test_unsupported_arguments_are_left_to_torch(options: dict[str, Any]) -> None:
    assert not GemmConvTranspose1d.fits(nn.ConvTranspose1d(6, 4, 4, 2, **options))
    assert not GemmConvTranspose1d.fits(nn.ConvTranspose1d(6, 4, 5, 2))
