"""Counts a function's work on a device: kernels of Triton, operations of torch, and the bytes that they touch.

Torch's operations are counted as torch dispatches them, without views. A vendor's library may launch one more kernel
for an operation (cuBLAS does where it splits a product's sum). Bytes are those of the inputs and outputs. Of caches and
tables, only the rows that a frame reads count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.kernel_proof.pretended_gpu import Launch, pretended_gpu

_NO_KERNEL = frozenset(
    "view _unsafe_view reshape _reshape_alias t transpose permute slice select expand unsqueeze squeeze alias detach"
    " as_strided unbind split chunk split_with_sizes is_same_size empty new_empty empty_like empty_strided"
    " new_empty_strided lift_fresh unfold view_as_real view_as_complex resolve_conj resolve_neg".split()
)
_PRODUCTS = frozenset(
    "mm addmm addmm_ bmm baddbmm linear matmul _scaled_mm _int_mm conv1d convolution"
    " _scaled_dot_product_efficient_attention".split()
)
_MAYBE_NOTHING = frozenset(  # they return what they are given where that will do
    "to contiguous flatten unflatten".split()
)
_LAYERS = ("qkv_weight", "out_weight", "gate_up_weight", "down_weight")  # read once in each pass of a frame
PRODUCT = "product of torch"
OTHER = "other of torch"
DEPTH_FRAME = "depth_frame_kernel"
_PREFETCHED = "prefetch_"  # prefix of arguments that a launch prefetches and does not read


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one launch by storage: those that it touches, and those that it prefetches for later launches."""

    touched: dict[int, int]
    prefetched: dict[int, int]


@dataclass
class Operations:
    """Counts by class, which is a Triton kernel's name, PRODUCT or OTHER. traffic: of each launch."""

    counts: Counter[str] = field(default_factory=Counter)
    bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    launches: list[Launch] = field(default_factory=list)
    traffic: list[Traffic] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes.values())


def count(function: Callable[[], object], partly_read: dict[int, int] | None = None) -> Operations:
    """Counts the function's operations. partly_read: bytes that a launch reads of a storage, by `storage_of`."""
    mode = _Counting(partly_read or {})
    with pretended_gpu(mode.record), mode:
        function()
    return mode.made


def count_torch(function: Callable[[], object], partly_read: dict[int, int] | None = None) -> Operations:
    """The same for a function that launches no kernel of Triton. This process may interpret kernels."""
    with _Counting(partly_read or {}) as mode:
        function()
    return mode.made


class _Counting(TorchDispatchMode):
    def __init__(self, partly_read: dict[int, int]) -> None:
        super().__init__()
        self.made, self._partly = Operations(), partly_read

    def record(self, launch: Launch) -> None:
        touched = self._sizes_of(x for name, x in launch.tensors.items() if not name.startswith(_PREFETCHED))
        self.made.launches.append(launch)
        self.made.traffic.append(Traffic(touched, self._prefetched(launch)))
        self.made.counts[launch.name] += 1
        self.made.bytes[launch.name] += sum(touched.values()) + _read_again(launch)

    def _prefetched(self, launch: Launch) -> dict[int, int]:
        named, options = launch.tensors, launch.options
        prefetched = {}
        if matrix := options.get("PREFETCH_MATRIX"):
            prefetched[storage_of(named["prefetch_ptr"])] = matrix
        if positions := options.get("PREFETCH_POSITIONS"):
            most = len(named["prefetch_slots_ptr"]) * positions * options["PREFETCH_POSITION"]
            for name in ("prefetch_keys_ptr", "prefetch_values_ptr"):
                (storage, size), *_ = self._sizes_of([named[name]]).items()
                prefetched[storage] = min(size, most)
        return prefetched

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = _added_product(*args) if _is_added_product(func, args) else func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        if name in _NO_KERNEL or (name in _MAYBE_NOTHING and storage_of(result) == storage_of(args[0])):
            return result
        group = PRODUCT if name in _PRODUCTS else OTHER
        self.made.counts[group] += 1
        if name == "index_put_":  # it touches only what it writes
            self.made.bytes[group] += 2 * args[2].numel() * args[2].element_size()
            return result
        listed = [tensor for given in args if isinstance(given, (tuple, list)) for tensor in given]
        results = result if isinstance(result, (tuple, list)) else [result]
        tensors = [tensor for tensor in (*args, *listed, *results) if isinstance(tensor, Tensor)]
        self.made.bytes[group] += self._size_of(tensors)
        return result

    def _size_of(self, tensors: list[Tensor]) -> int:
        return sum(self._sizes_of(tensors).values())

    def _sizes_of(self, tensors: Iterable[Tensor]) -> dict[int, int]:
        sizes = {}
        for tensor in tensors:
            whole = tensor.numel() * tensor.element_size()
            sizes[storage_of(tensor)] = min(whole, self._partly.get(storage_of(tensor), whole))
        return sizes


def _is_added_product(func: Any, args: Any) -> bool:
    return func is torch.ops.aten.addmm_.default and args[0].is_meta


def _added_product(into: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """What addmm_ returns, if it can be. Without data torch decomposes it in Python, which takes half of a trace."""
    shape, dtypes = (left.shape[0], right.shape[1]), {tensor.dtype for tensor in (into, left, right)}
    if into.shape != shape or left.shape[1] != right.shape[0] or len(dtypes) > 1:
        raise RuntimeError(f"{left.shape} times {right.shape} cannot be added to {into.shape}, of {dtypes}")
    return into


def _read_again(launch: Launch) -> int:
    """Bytes that a launch reads repeatedly: the depth decoder's layers, in all passes but the first."""
    if launch.name != DEPTH_FRAME:
        return 0
    layers = [launch.tensors[name] for name in _LAYERS]
    return (launch.options["S"].codebooks - 2) * sum(matrix.numel() * matrix.element_size() for matrix in layers)


def storage_of(tensor: Tensor) -> int:
    """The key of a tensor's storage, which its views share."""
    return tensor.untyped_storage()._cdata
