"""Vectors of sixteen numbers (AVX-512) in parts of kernels that are compiled for a level of processors without them.

One compiled kernel has both: whether the processor at hand has them is read while it runs. So an image holds kernels
for all processors, and a part with wide vectors must compute the same bits as the part without.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WIDE = 16  # float32 of a vector
_FEATURES = ("avx512f", "avx512bw", "avx512dq", "avx512vl")  # of x86-64-v4
_ATTRIBUTE = '"target-features"="{}"'.format(",".join(f"+{name}" for name in _FEATURES))
_FLAG, _BYTE = "csm_has_wide_vectors", ir.IntType(8)
_is_x86 = platform.machine() in ("x86_64", "AMD64")


def processor_has_wide_vectors() -> bool:
    """Whether it has those of x86-64-v4. A virtual machine may hide them."""
    has = llvmlite.binding.get_host_cpu_features() if _is_x86 else {}
    return all(has.get(feature) for feature in _FEATURES)


_flag = ctypes.c_int8(processor_has_wide_vectors())
llvmlite.binding.add_symbol(_FLAG, ctypes.addressof(_flag))  # an address that kernels find when they are loaded


@contextmanager
def narrow_vectors() -> Iterator[None]:
    """Kernels of this process use no wide vectors meanwhile, as on a processor that has none."""
    before, _flag.value = _flag.value, 0
    try:
        yield
    finally:
        _flag.value = before


@intrinsic
def has_wide_vectors(typing_context):
    """Whether functions that call `in_wide_vectors` may be called."""

    def generate(context, builder, signature, arguments):
        flag = builder.module.globals.get(_FLAG) or ir.GlobalVariable(builder.module, _BYTE, _FLAG)
        flag.linkage = "external"
        return builder.icmp_signed("!=", builder.load(flag), _BYTE(0))

    return types.boolean(), generate


@intrinsic
def in_wide_vectors(typing_context):
    """The function that calls it is compiled with them. It must not be inlined: `njit(**CALLED)`."""

    def generate(context, builder, signature, arguments):
        if _is_x86:
            set.add(builder.function.attributes, _ATTRIBUTE)  # llvmlite knows no attributes of processors
        return context.get_dummy_value()

    return types.void(), generate
