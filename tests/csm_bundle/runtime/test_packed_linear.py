"""Products with weights in oneDNN's layout, compared with torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from csm_bundle.runtime import packed_linear
from csm_bundle.runtime.packed_linear import PackedLinear, can_pack, pack_linears, packed

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


@DTYPES
@pytest.mark.parametrize("packed_for", [1, 16])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 100), (2, 33, 7), (16, 96, 192), (300, 50, 20)])
@torch.inference_mode()
def test_equals_torch_s_linear_for_any_rows(
    dtype: torch.dtype, packed_for: int, rows: int, inputs: int, outputs: int
) -> None:
    if not can_pack(torch.empty(1, dtype=dtype)):
        pytest.skip("this processor has no such product")
    torch.manual_seed(0)
    linear, x = nn.Linear(inputs, outputs, dtype=dtype), torch.randn(rows, inputs).to(dtype)
    expected = linear(x).float()
    tolerance = 1e-5 if dtype is torch.float32 else 1e-2
    assert (PackedLinear(linear, packed_for)(x).float() - expected).abs().max() <= tolerance * expected.abs().max()
    row = packed_linear.packed_linear(x[0], packed(linear.weight, packed_for), linear.bias)
    assert (row.float() - expected[0]).abs().max() <= tolerance * expected.abs().max()


@torch.inference_mode()
def test_every_large_linear_inside_is_replaced_and_follows_a_change_of_type() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(300, 1000), nn.Sequential(nn.GELU(), nn.Linear(1000, 300, bias=False)), nn.Linear(300, 4)
    )
    expected = copy.deepcopy(module)
    pack_linears(module, rows=2)
    assert [type(child) for child in module.modules() if isinstance(child, nn.Linear)] == [
        PackedLinear,
        PackedLinear,
        nn.Linear,
    ]
    x = torch.randn(3, 5, 300)
    torch.testing.assert_close(module(x), expected(x))
    with torch.no_grad():
        module.bfloat16()
    torch.testing.assert_close(module(x.bfloat16()).float(), expected(x), rtol=0.05, atol=0.05)


def test_other_types_and_devices_are_not_replaced() -> None:
    assert not can_pack(torch.empty(1, dtype=torch.float64))
    assert not can_pack(torch.empty(1, device="meta"))
    module = nn.Sequential(nn.Linear(2, 2, dtype=torch.float64))
    pack_linears(module, rows=1)
    assert type(module[0]) is nn.Linear
