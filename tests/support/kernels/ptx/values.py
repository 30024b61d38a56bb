"""Values of PTX registers: 32 lanes of one type each, and the formats that numpy does not have."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Lanes = npt.NDArray[Any]

LANES = 32
LANE = np.arange(LANES)
EVERY = np.ones(LANES, np.bool_)
TYPES: dict[str, type[np.generic]] = {
    "pred": np.bool_,
    **dict.fromkeys(("b8", "u8"), np.uint8), "s8": np.int8,
    **dict.fromkeys(("b16", "u16"), np.uint16), "s16": np.int16, "f16": np.float16,
    **dict.fromkeys(("b32", "u32", "bf16x2", "f16x2"), np.uint32), "s32": np.int32, "f32": np.float32,
    **dict.fromkeys(("b64", "u64"), np.uint64), "s64": np.int64, "f64": np.float64,
    "bf16": np.uint16, "e4m3x2": np.uint16,
}  # fmt: skip
UNSIGNED: dict[int, type[np.generic]] = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_WIDTHS = {"%p": 1, "%rs": 16, "%r": 32, "%rd": 64, "%f": 32, "%fd": 64}


def width_of(register: str) -> int:
    """The number of bits of a register."""
    name, _, bits = register.partition(":")
    return int(bits) if bits else _WIDTHS[name.rstrip("0123456789")]


def as_type(values: Lanes, dtype: type[np.generic]) -> Lanes:
    """The lower bits of a register as another type of at most its width."""
    size = np.dtype(dtype).itemsize
    if values.dtype.itemsize == size:
        return values if values.dtype == dtype else values.view(dtype)
    return values.astype(UNSIGNED[8 * size]).view(dtype)


def to_register(values: Lanes, width: int) -> Lanes:
    """A result of at most the register's width: unsigned bits, the sign of a signed one extended."""
    if width == 1:
        return values.astype(np.bool_)
    size = values.dtype.itemsize
    if 8 * size == width:
        return values.view(UNSIGNED[width])
    if values.dtype.kind == "i":
        return values.astype(f"i{width // 8}").view(UNSIGNED[width])
    return values.view(UNSIGNED[8 * size]).astype(UNSIGNED[width])


def immediate(text: str, dtype: type[np.generic]) -> Lanes:
    """A number of the text in all lanes. Raises: ValueError for anything else."""
    if text.startswith("0f"):
        return np.full(LANES, struct.unpack("<f", struct.pack("<I", int(text[2:], 16)))[0], np.float32)
    if text.startswith("0d"):
        return np.full(LANES, struct.unpack("<d", struct.pack("<Q", int(text[2:], 16)))[0], np.float64)
    number, kind = int(text.rstrip("U"), 0), np.dtype(dtype)
    if kind.kind == "f":
        return np.full(LANES, float(text), kind)
    if kind.kind == "b":
        return np.full(LANES, number != 0, kind)
    bits = 8 * kind.itemsize
    return np.full(LANES, number & ((1 << bits) - 1), UNSIGNED[bits]).view(kind)


def from_bf16(bits: Lanes) -> Lanes:
    """bfloat16, as uint16, to float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(values: Lanes) -> Lanes:
    """float32 to bfloat16, as uint16; to nearest, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), rounded.astype(np.uint16))


def halves(pairs: Lanes) -> tuple[Lanes, Lanes]:
    """(lower half, upper half) of uint32, as uint16."""
    return pairs.astype(np.uint16), (pairs >> np.uint32(16)).astype(np.uint16)


def joined(low: Lanes, high: Lanes) -> Lanes:
    """uint32 from its lower and its upper half."""
    return low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))


def from_e4m3(bits: Lanes) -> Lanes:
    """float8, as uint8, to float16."""
    return torch.from_numpy(bits.copy()).view(torch.float8_e4m3fn).to(torch.float16).numpy()


def to_e4m3(values: Lanes) -> Lanes:
    """float32 to float8, as uint8; too large values become the largest one."""
    bounded = torch.from_numpy(np.clip(values, -448.0, 448.0))
    return bounded.to(torch.float8_e4m3fn).view(torch.uint8).numpy()
