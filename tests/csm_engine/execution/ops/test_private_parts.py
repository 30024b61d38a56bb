"""What is used of torch's private parts may be missing in another release: results stay the same without it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from csm_bundle.runtime import packed_linear
from csm_engine.execution.matrix import plain, quantized
from csm_engine.execution.ops import dispatch as ops

WEIGHT = torch.randn(64, 32, generator=torch.Generator().manual_seed(1)).bfloat16()
X = torch.randn(3, 32, generator=torch.Generator().manual_seed(2)).bfloat16()
OPERATORS = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")


@pytest.fixture(autouse=True)
def fresh_operator_cache() -> Iterator[None]:
    packed_linear._has_operators.cache_clear()
    yield
    packed_linear._has_operators.cache_clear()


@pytest.mark.parametrize("missing", [*OPERATORS, "all of them"])
def test_without_the_packed_operators_weights_stay_plain(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    expected = ops.linear(X, plain(WEIGHT, rows=3)).float()
    packed_linear._has_operators.cache_clear()
    there = {name: lambda *_: True for name in OPERATORS if name != missing}
    monkeypatch.setattr(torch.ops, "mkldnn", None if missing == "all of them" else SimpleNamespace(**there))
    matrix = plain(WEIGHT, rows=3)
    assert matrix.layout == "rows"
    torch.testing.assert_close(ops.linear(X, matrix).float(), expected, rtol=2e-2, atol=2e-2)


def test_without_the_int8_product_the_weight_is_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = quantized(WEIGHT, "int8")
    expected = ops.linear(X, matrix).float()
    monkeypatch.delattr(torch, "_weight_int8pack_mm")
    torch.testing.assert_close(ops.linear(X, matrix).float(), expected, rtol=2e-2, atol=2e-2)
