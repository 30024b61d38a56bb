"""PTX instructions that compute a value from values, lane by lane, without memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.kernels.ptx.values import (
    TYPES,
    Lanes,
    from_bf16,
    from_e4m3,
    halves,
    joined,
    to_bf16,
    to_e4m3,
)

# Words of a name that change no value here: roundings to nearest, flushed subnormal numbers, approximations.
_IGNORED = {"rn", "ftz", "approx", "full", "lo", "uni"}


@dataclass(frozen=True, slots=True)
class Operation:
    """A function of registers. sources: the type of each operand. result: the type of the result."""

    sources: tuple[type[np.generic], ...]
    function: Callable[..., Lanes]


_COMPARE: dict[str, Callable[..., Any]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal
}  # fmt: skip
_SAME: dict[str, Callable[..., Any]] = {
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "add": np.add, "sub": np.subtract,
    "min": np.fmin, "max": np.fmax,
}  # fmt: skip
_ALONE: dict[str, Callable[..., Any]] = {
    "not": np.invert, "neg": np.negative, "abs": np.abs, "mov": lambda a: a, "ex2": np.exp2, "lg2": np.log2,
    "sqrt": np.sqrt, "rsqrt": lambda a: (1 / np.sqrt(a)).astype(a.dtype), "rcp": lambda a: (1 / a).astype(a.dtype),
}  # fmt: skip


def operation(name: str) -> Operation | None:
    """The operation of an instruction; None for one of another kind. Raises: KeyError for an unknown variant."""
    kind, *words = (word for word in name.split(".") if word not in _IGNORED)
    last = words[-1] if words else ""
    if kind in _ALONE:
        return Operation((TYPES[last],), _ALONE[kind])
    if kind == "cvt":
        return _conversion(words)
    if kind == "setp":
        return Operation((TYPES[last],) * 2, _COMPARE[words[0]])
    if kind == "selp":
        return Operation((TYPES[last], TYPES[last], np.bool_), lambda a, b, p: np.asarray(np.where(p, a, b)))
    if kind in ("mul", "mad"):
        return _product(kind, words)
    if kind == "fma":
        wide: Any = np.float64 if last == "f32" else np.longdouble
        return Operation((TYPES[last],) * 3, lambda a, b, c: (a.astype(wide) * b + c).astype(a.dtype))
    if kind == "div":
        return Operation((TYPES[last],) * 2, np.divide if last.startswith("f") else _quotient)
    if kind in ("shl", "shr"):
        return Operation((TYPES[last], np.uint32), _shift_left if kind == "shl" else _shift_right)
    if kind == "bfe":
        return Operation((TYPES[last], np.uint32, np.uint32), _field)
    if kind == "prmt":
        return Operation((np.uint32,) * 3, _permuted)
    if kind in _SAME and last == "bf16x2":
        return Operation((np.uint32,) * 2, _by_halves(_SAME[kind]))
    if kind in _SAME:
        return Operation((TYPES[last],) * 2, _SAME[kind])
    return None


def _product(kind: str, words: list[str]) -> Operation:
    source = TYPES[words[-1]]
    if words[-1] == "bf16x2":
        return Operation((np.uint32,) * 2, _by_halves(np.multiply))
    size = np.dtype(source).itemsize
    wider = np.dtype(f"{np.dtype(source).kind}{2 * size}").type if "wide" in words or "hi" in words else source
    if "hi" in words:
        return Operation((source,) * 2, lambda a, b: (a.astype(wider) * b.astype(wider) >> 8 * size).astype(source))
    if kind == "mul":
        return Operation((source,) * 2, lambda a, b: a.astype(wider) * b.astype(wider))
    return Operation((source, source, wider), lambda a, b, c: a.astype(wider) * b.astype(wider) + c)


def _by_halves(function: Callable[..., Any]) -> Callable[..., Lanes]:
    """An operation on two bfloat16 in each register."""

    def of(a: Lanes, b: Lanes) -> Lanes:
        pairs = zip(halves(a), halves(b), strict=True)
        return joined(*(to_bf16(function(from_bf16(one), from_bf16(other))) for one, other in pairs))

    return of


def _quotient(a: Lanes, b: Lanes) -> Lanes:
    """Rounds towards zero."""
    whole = np.abs(a.astype(np.int64)) // np.abs(b.astype(np.int64))
    return (whole * np.sign(a) * np.sign(b)).astype(a.dtype)


def _shift_left(a: Lanes, by: Lanes) -> Lanes:
    bits = 8 * a.dtype.itemsize
    return np.asarray(np.where(by >= bits, a.dtype.type(0), a << np.minimum(by, bits - 1).astype(a.dtype)))


def _shift_right(a: Lanes, by: Lanes) -> Lanes:
    bits = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(by, bits - 1).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else np.asarray(np.where(by >= bits, a.dtype.type(0), shifted))


def _field(a: Lanes, first: Lanes, length: Lanes) -> Lanes:
    bits = 8 * a.dtype.itemsize
    up = (bits - np.minimum(first + length, bits)).astype(a.dtype)
    return np.asarray((a << up) >> (up + first.astype(a.dtype)))


def _permuted(a: Lanes, b: Lanes, selector: Lanes) -> Lanes:
    """Four of the eight bytes of a and b. The highest bit of a selector's part selects the byte's sign instead."""
    source = np.stack([(word >> np.uint32(8 * byte)) & np.uint32(255) for word in (a, b) for byte in range(4)])
    result, lanes = np.zeros_like(a), np.arange(len(a))
    for byte in range(4):
        part = (selector >> np.uint32(4 * byte)) & np.uint32(15)
        chosen = source[part & np.uint32(7), lanes]
        chosen = np.where(part & np.uint32(8), np.where(chosen & np.uint32(128), np.uint32(255), np.uint32(0)), chosen)
        result |= chosen.astype(np.uint32) << np.uint32(8 * byte)
    return result


def _conversion(words: list[str]) -> Operation:
    to, source = [word for word in words if word != "satfinite"]
    special: dict[tuple[str, str], Operation] = {
        ("bf16x2", "f32"): Operation((np.float32,) * 2, lambda a, b: joined(to_bf16(b), to_bf16(a))),
        ("e4m3x2", "f32"): Operation((np.float32,) * 2, _to_both_e4m3),
        ("f16x2", "e4m3x2"): Operation((np.uint16,), _both_e4m3),
        ("bf16", "f32"): Operation((np.float32,), to_bf16),
        ("bf16", "f16"): Operation((np.float16,), lambda a: to_bf16(a.astype(np.float32))),
    }
    if found := special.get((to, source)):
        return found
    if source == "bf16":
        return Operation((np.uint16,), lambda a: from_bf16(a).astype(TYPES[to]))
    return Operation((TYPES[source],), lambda a: a.astype(TYPES[to]))


def _to_both_e4m3(high: Lanes, low: Lanes) -> Lanes:
    return to_e4m3(low).astype(np.uint16) | (to_e4m3(high).astype(np.uint16) << np.uint16(8))


def _both_e4m3(pairs: Lanes) -> Lanes:
    low, high = (pairs & np.uint16(255)).astype(np.uint8), (pairs >> np.uint16(8)).astype(np.uint8)
    return joined(from_e4m3(low).view(np.uint16), from_e4m3(high).view(np.uint16))
