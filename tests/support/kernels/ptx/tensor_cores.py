"""The layouts of tensor core instructions: which lane has which value of a matrix. Sums are in float32 or int32.

Source: PTX ISA 8.7, 9.7.14 (mma, ldmatrix, stmatrix) and 9.7.15 (wgmma and its descriptors of shared memory).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tests.support.kernels.ptx.values import LANE, Lanes, from_bf16, halves

_GROUP, _MEMBER = LANE // 4, LANE % 4  # rows and pairs of columns


def left_bf16(registers: list[Lanes]) -> Lanes:
    """The matrix in four registers of a warp, (16, 16) float32."""
    matrix = np.zeros((16, 16), np.float32)
    for number, register in enumerate(registers):
        row, column = _GROUP + 8 * (number % 2), 2 * _MEMBER + 8 * (number // 2)
        for offset, half in enumerate(halves(register)):
            matrix[row, column + offset] = from_bf16(half)
    return matrix


def right_bf16(registers: list[Lanes]) -> Lanes:
    """The matrix in two registers, (16, 8) float32."""
    matrix = np.zeros((16, 8), np.float32)
    for number, register in enumerate(registers):
        for offset, half in enumerate(halves(register)):
            matrix[2 * _MEMBER + 8 * number + offset, _GROUP] = from_bf16(half)
    return matrix


def left_int8(registers: list[Lanes]) -> Lanes:
    """The matrix in four registers, (16, 32) int32."""
    matrix = np.zeros((16, 32), np.int32)
    for number, register in enumerate(registers):
        row, column = _GROUP + 8 * (number % 2), 4 * _MEMBER + 16 * (number // 2)
        for offset in range(4):
            matrix[row, column + offset] = _byte(register, offset)
    return matrix


def right_int8(registers: list[Lanes]) -> Lanes:
    """The matrix in two registers, (32, 8) int32."""
    matrix = np.zeros((32, 8), np.int32)
    for number, register in enumerate(registers):
        for offset in range(4):
            matrix[4 * _MEMBER + 16 * number + offset, _GROUP] = _byte(register, offset)
    return matrix


def _byte(register: Lanes, number: int) -> Lanes:
    return (register >> np.uint32(8 * number)).astype(np.uint8).view(np.int8).astype(np.int32)


def to_sums(registers: list[Lanes]) -> Lanes:
    """A register for each two of 4 rows, columns -> (16, 2 x registers) of the registers' type."""
    matrix = np.zeros((16, 2 * len(registers)), registers[0].dtype)
    for number, register in enumerate(registers):
        matrix[_GROUP + 8 * (number % 4 // 2), 8 * (number // 4) + 2 * _MEMBER + number % 2] = register
    return matrix


def from_sums(matrix: Lanes) -> list[Lanes]:
    """The inverse of `to_sums`."""
    return [
        matrix[_GROUP + 8 * (number % 4 // 2), 8 * (number // 4) + 2 * _MEMBER + number % 2]
        for number in range(matrix.shape[1] // 2)
    ]


def from_matrix(rows: Lanes, *, transposed: bool) -> Lanes:
    """The lanes' values, uint32, after ldmatrix of one matrix, (8, 16) uint8."""
    values = np.ascontiguousarray(rows).view(np.uint16)  # (8, 8)
    values = values.T if transposed else values
    return np.ascontiguousarray(values).view(np.uint32)[_GROUP, _MEMBER]


def to_matrix(register: Lanes, *, transposed: bool) -> Lanes:
    """The matrix, (8, 16) uint8, that stmatrix writes from the lanes' values, uint32."""
    values = np.ascontiguousarray(register.reshape(8, 4)).view(np.uint16)
    return np.ascontiguousarray(values.T if transposed else values).view(np.uint8)


@cache
def tile_addresses(descriptor: int, rows: int, inner: int, *, transposed: bool) -> Lanes:
    """Where a wgmma's tile of values of two bytes is, eight of them (16 bytes) together. inner: what is summed over.

    (rows, inner / 8); transposed: (inner, rows / 8), as eight values of a column are beside each other.
    Raises: NotImplementedError for a layout without swizzle.
    """
    first, leading, stride = ((descriptor >> at & 0x3FFF) << 4 for at in (0, 16, 32))
    swizzle = descriptor >> 62 & 3
    if not swizzle:
        raise NotImplementedError("a tile without swizzle")
    width = {1: 128, 2: 64, 3: 32}[swizzle]  # bytes of a row of the pattern, which has eight rows
    slow, fast = (inner, rows) if transposed else (rows, inner)
    line, place = np.arange(slow)[:, None], 16 * np.arange(fast // 8)[None, :]
    address = first + line // 8 * stride + line % 8 * width + place % width + place // width * leading
    return address ^ ((address >> 7 & (width // 16 - 1)) << 4)
