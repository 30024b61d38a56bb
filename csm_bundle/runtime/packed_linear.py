"""Linear layers on a CPU whose weights are converted once to oneDNN's own layout.

torch's linear uses MKL for float32, which is slow for few rows on some processors, and for bfloat16 converts the
weights to oneDNN's layout in every call. With converted weights, 1 to 64 rows take a half to a third of the time. The
operators are those of torch's own compiler for frozen weights (torch/_inductor/mkldnn_lowerings.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

_PLAIN: tuple[str, list[float], str] = ("none", [], "")  # no operation fused after the product
_SMALL = 2**18  # size of a float32 weight up to which packing does not pay


def can_pack(weight: Tensor) -> bool:
    """Whether this machine has the operators for a weight of this dtype and device."""
    return weight.device.type == "cpu" and _has_operators(weight.dtype)


def is_worth_packing(weight: Tensor) -> bool:
    """Whether packing is possible and faster. The operators' overhead is 12 us (measured on Zen 4)."""
    return can_pack(weight) and (weight.dtype is torch.bfloat16 or weight.numel() > _SMALL)


def packed(weight: Tensor, rows: int) -> Tensor:
    """weight: (N, K) -> an opaque tensor for packed_linear. rows: the batch size that the layout is chosen for."""
    opaque: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)
    return opaque


def packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (..., K); weight: from `packed`; bias: (N,) -> (..., N)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *_PLAIN)
    return y


class PackedLinear(nn.Linear):
    """A linear layer with a packed weight. Equals the original layer; cannot be trained or loaded."""

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        """linear: one that can be packed; rows: as `packed`."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._rows = rows
        self._packed: Tensor | None = packed(self.weight, rows)

    def forward(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return nn.functional.linear(x, self.weight, self.bias)
        return packed_linear(x, self._packed, self.bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        """Packs the weight again after `to` has changed its dtype, if the machine can pack that."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._packed = packed(self.weight, self._rows) if can_pack(self.weight) else None
        return self


def pack_linears(module: nn.Module, rows: int) -> None:
    """Replaces every nn.Linear that is worth packing by a PackedLinear."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and is_worth_packing(child.weight):
                setattr(parent, name, PackedLinear(child, rows))


@cache
def _has_operators(dtype: torch.dtype) -> bool:
    """The operators are private. If a release of torch lacks one of them, nothing is packed."""
    operators = getattr(torch.ops, "mkldnn", None)
    names = ["_linear_pointwise", "_reorder_linear_weight"]
    if dtype is torch.bfloat16:
        names.append("_is_mkldnn_bf16_supported")
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not all(hasattr(operators, name) for name in names):
        return False
    return dtype is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
