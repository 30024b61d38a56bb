"""A mode that refuses operations that a CUDA graph cannot capture, even on tensors without data.

Refused: reading a value on the host (`.item()`, `bool()`), shapes that depend on values (`nonzero`, masks as indices,
`unique`), copies between host and device, and random numbers of a generator that the graph does not own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_READS = frozenset({"_local_scalar_dense", "equal", "is_nonzero"})
_SHAPES_BY_VALUE = frozenset(
    "nonzero nonzero_static masked_select unique_consecutive _unique _unique2 unique_dim bincount".split()
)
_RANDOM = frozenset({"normal_", "uniform_", "exponential_", "random_", "bernoulli_", "rand", "randn", "multinomial"})
_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})


class NotCapturable(RuntimeError):
    """An operation that must not be inside a captured step."""


class Capturable(TorchDispatchMode):
    """Raises NotCapturable, naming the operation, before it runs. device: type of the device of the step's tensors."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        options = kwargs or {}
        if name in _READS:
            raise NotCapturable(f"{name} reads a value on the host")
        by_length = name == "repeat_interleave" and func._overloadname != "self_int"
        if name in _SHAPES_BY_VALUE or by_length:
            raise NotCapturable(f"{name} makes a shape that depends on values")
        if name in _INDEXING and any(_is_mask(index) for index in args[1]):
            raise NotCapturable(f"{name} with a mask makes a shape that depends on values")
        if name in _RANDOM:
            raise NotCapturable(f"{name} draws from a generator that the graph does not own")
        target = options.get("device")
        if target is not None and torch.device(target).type != self._device:
            raise NotCapturable(f"{name} makes a tensor on {target}; the step is on {self._device}")
        given = [argument for argument in args if isinstance(argument, Tensor)]
        if name in ("copy_", "_to_copy", "cat", "stack") and any(t.device.type != self._device for t in given):
            raise NotCapturable(f"{name} copies between host and device")
        return func(*args, **options)


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
