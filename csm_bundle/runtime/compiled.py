"""What kernels compiled by numba share: the compiler's options and cache, bfloat16 in memory, an exponential.

Kernels are compiled for a level of processors (x86-64-v3, any Arm of 64 bits), not for the one at hand. So an image can
hold them compiled, and all replicas run the same code. On other processors numba compiles for the one at hand. Parts
that pay are in a kernel a second time, for AVX-512 (wide_vectors.py).
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import CodeType, FunctionType

import llvmlite.binding
import numba
import numpy as np
from filelock import FileLock
from llvmlite import ir
from numba import float32, float64, int32, njit, uint16, uint32
from numba.extending import intrinsic, overload

_f = np.float32
_LOG2_E = _f(math.log2(math.e))
_EXP2 = tuple(_f(math.log(2) ** power / math.factorial(power)) for power in range(8))  # of 2**x, |x| <= 1/2

_FROZEN = (bool, int, float, str, bytes, tuple, np.generic)  # globals that numba compiles in as constants
BUILT = Path(__file__).with_name("__kernels__")  # kernels that an image holds, compiled when it was built
_LEVEL = "x86-64-v3"  # Intel since Haswell (2013), AMD since Excavator (2015)
_ARM_LEVEL = "generic"  # LLVM's name for Armv8-A, of which vectors of four float32 and fused products are a part
_NEEDED = ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")  # what it has and the level before has not
_LONGEST_COMPILE_S = 60.0  # of one kernel, which takes a second or two
# By LLVM: loops are as fast as with numba's own inline="always", and Mimi's kernels compile in two thirds of the time.
INLINE = {"forceinline": True, "fastmath": {"contract"}}
# Not inlined (numba would pass that option on from a caller that is), so its loops have one order in all kernels.
CALLED = {"forceinline": False, "error_model": "numpy", "fastmath": {"contract"}}


def _choose_processor() -> None:
    """For the level if this processor is at it, unless NUMBA_CPU_NAME names another. Before anything is compiled."""
    if numba.config.CPU_NAME is not None:
        return
    machine = platform.machine()
    if machine in ("aarch64", "arm64"):
        numba.config.CPU_NAME, numba.config.CPU_FEATURES = _ARM_LEVEL, ""
    elif machine in ("x86_64", "AMD64"):
        has = llvmlite.binding.get_host_cpu_features()
        if all(has.get(feature) for feature in _NEEDED):
            numba.config.CPU_NAME, numba.config.CPU_FEATURES = _LEVEL, ""


def _copy_built() -> None:
    """numba reads no cache that it cannot write, so kernels of an image are copied to where it may do both."""
    folder = numba.config.CACHE_DIR
    if not folder or not BUILT.is_dir() or Path(folder).resolve() == BUILT.resolve():
        return
    try:
        shutil.copytree(BUILT, folder, dirs_exist_ok=True, copy_function=_copy_if_newer)
    except OSError:  # such as a full disk: what is missing is compiled
        pass


def _copy_if_newer(source: str, target: str) -> None:
    """Leaves an index to which this machine has added its own kernels. Another process sees the whole file or none."""
    if os.path.exists(target) and os.path.getmtime(target) >= os.path.getmtime(source):
        return
    new = f"{target}.{uuid.uuid4().hex}"
    shutil.copy2(source, new)
    os.replace(new, target)


_choose_processor()
_copy_built()


def _lock(folder: str, function: Callable[..., object]) -> FileLock:
    """While one process compiles a kernel, others that start wait for it and read it from the cache."""
    file = Path(folder) / f"{function.__module__}.{function.__qualname__}.lock"
    return FileLock(file, timeout=_LONGEST_COMPILE_S, fallback_to_soft=False)  # a crash would leave a soft lock behind


def _version(function: Callable[..., object]) -> str:
    """Of all that is compiled into a kernel: the files of its code, and constants, which may be of other files. numba
    compares only the file of the kernel itself.
    """
    files, constants, seen, found = {__file__}, {f"checked={numba.config.BOUNDSCHECK}"}, {function}, [function]
    while found:
        one = found.pop()
        files.add(one.__code__.co_filename)
        for name, value in _read_by(one):
            called = inspect.unwrap(value) if callable(value) else None  # of a kernel's part, of an intrinsic
            if isinstance(called, FunctionType) and called not in seen:
                seen.add(called)
                found.append(called)
            elif isinstance(value, _FROZEN):
                constants.add(f"{name}={value!r}")
    parts = [*(Path(file).read_bytes() for file in sorted(files)), *(line.encode() for line in sorted(constants))]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:8]


def _read_by(function: Callable[..., object]) -> Iterator[tuple[str, object]]:
    """Names and values of what a function reads outside of itself: its module's globals and enclosing variables."""
    outside = {**function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it has no value yet
            outside[name] = cell.cell_contents
    return ((name, outside[name]) for name in set(_names(function.__code__)) & outside.keys())


def _names(code: CodeType) -> Iterator[str]:
    yield from (*code.co_names, *code.co_freevars)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def compiled(signature, *fastmath, variant=""):
    """Compiles a kernel, or reads it from numba's cache. Works without a cache that cannot be read or written.

    variant: names each of the kernels that one function makes. Each has its own files in the cache. With shared files,
    two processes that start together could store the code of one kernel under the name of another. The version of
    the code is in the name too.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", *fastmath}}

    def decorate(function):
        function.__qualname__ += f"{variant}_{_version(function)}"
        try:
            folder = njit(cache=True)(function).stats.cache_path  # which numba has chosen; nothing is compiled yet
            with ExitStack() as stack:
                with suppress(OSError, NotImplementedError):  # a folder without locks, or a wait past the limit
                    stack.enter_context(_lock(folder, function))
                return njit(signature, cache=True, **options)(function)
        except Exception:  # full disks and files cut off by a crash raise anything at all; wrong code raises again
            return njit(signature, **options)(function)

    return decorate


@intrinsic
def _as_float32(typing_context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return float32(uint32), generate


@intrinsic
def _as_bits(typing_context, value):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return uint32(float32), generate


@njit(**INLINE)
def exp(x):
    """Of a float32, to 1e-7. Keeps NaN. Written out, because a library's does not become vector instructions."""
    power = x * _LOG2_E
    power = _f(-126) if power < _f(-126) else power
    power = _f(126) if power > _f(126) else power
    whole = np.floor(power + _f(0.5))
    rest = power - whole
    result = _EXP2[7]
    for index in range(6, -1, -1):
        result = result * rest + _EXP2[index]
    return result * _as_float32(uint32((int32(whole) + int32(127)) << int32(23)))


def exponential(x):
    """Of a float32 as `exp`, or of a float64."""


def elu(x):
    """Of a float32 to 1e-7, or of a float64. Keeps NaN."""


def load(array, at):
    """The value as float32, for float32 arrays and for bfloat16 bits."""


def store(array, at, value):
    """The value, rounded to what the array holds."""


@overload(exponential, jit_options=INLINE)
def _exponential_of_type(x):
    if x == float64:
        return lambda x: math.exp(x)
    return lambda x: exp(x)


@overload(elu, jit_options=INLINE)
def _elu_of_type(x):
    if x == float64:
        return lambda x: exponential(x) - 1.0 if x <= 0.0 else x
    return lambda x: exponential(x) - _f(1) if x <= _f(0) else x


@overload(load)
def _load_as_float32(array, at):
    if array.dtype == numba.uint16:
        return lambda array, at: _as_float32(uint32(array[at]) << uint32(16))
    return lambda array, at: array[at]


@overload(store)
def _store_rounded(array, at, value):
    if array.dtype == numba.uint16:

        def store(array, at, value):
            bits = _as_bits(value)
            array[at] = uint16((bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16))

        return store

    def store(array, at, value):
        array[at] = value

    return store
