"""Instructions of whole warps for matrices: tensor core products, and loads from and stores to shared memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.kernels.ptx import tensor_cores
from tests.support.kernels.ptx.operands import address_of, names_in, reader, write
from tests.support.kernels.ptx.products import NO_NUMBER, Tile
from tests.support.kernels.ptx.values import as_type
from tests.support.kernels.ptx.warp import Outcome, Registers, Step, Warp


def matrix_step(name: str, operands: Sequence[str]) -> Step:
    if name.startswith("wgmma"):
        return _group_product(name, operands)
    if name.startswith("mma"):
        return _product(name, operands)
    transposed, number = ".trans." in name, int(name.split(".x")[1][0])
    if name.startswith("ldmatrix"):
        names, address = names_in(operands[0]), address_of(operands[1], np.uint32)

        def load(warp: Warp, registers: Registers) -> Outcome:
            rows = warp.shared.read(address(registers)[: 8 * number], 16, warp.number)
            for index, one in enumerate(names):
                matrix = rows[8 * index : 8 * index + 8]
                write(registers, one, tensor_cores.from_matrix(matrix, transposed=transposed))
            return None

        return load
    readers, address = [reader(one, np.uint32) for one in names_in(operands[1])], address_of(operands[0], np.uint32)

    def store(warp: Warp, registers: Registers) -> Outcome:
        rows = [tensor_cores.to_matrix(one(registers), transposed=transposed) for one in readers]
        warp.shared.write(address(registers)[: 8 * number], np.concatenate(rows), warp.number)
        return None

    return store


def _product(name: str, operands: Sequence[str]) -> Step:
    sums: Any
    if name.endswith("m16n8k16.row.col.f32.bf16.bf16.f32"):
        left, right, sums = tensor_cores.left_bf16, tensor_cores.right_bf16, np.float32
    elif name.endswith("m16n8k32.row.col.satfinite.s32.s8.s8.s32"):
        left, right, sums = tensor_cores.left_int8, tensor_cores.right_int8, np.int32
    else:
        raise NotImplementedError(name)
    names = names_in(operands[0])
    rows, columns, before = (
        [reader(one, dtype) for one in names_in(operand)]
        for operand, dtype in zip(operands[1:], (np.uint32, np.uint32, sums), strict=True)
    )

    def step(warp: Warp, registers: Registers) -> Outcome:
        product = left([one(registers) for one in rows]) @ right([one(registers) for one in columns])
        product = product + tensor_cores.to_sums([one(registers) for one in before])
        for one, values in zip(names, tensor_cores.from_sums(product), strict=True):
            write(registers, one, values)
        return None

    return step


def _group_product(name: str, operands: Sequence[str]) -> Step:
    if name.startswith("wgmma.commit_group"):
        return lambda warp, registers: warp.products.commit()
    if name.startswith("wgmma.wait_group"):
        most = int(operands[0])

        def wait(warp: Warp, registers: Registers) -> Outcome:
            for register, values in warp.products.wait(most).items():
                write(registers, register, values)
            return None

        return wait
    found = re.fullmatch(r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k16\.f32\.bf16\.bf16", name)
    if found is None or operands[4:6] != ("1", "1"):
        raise NotImplementedError(f"{name} {operands}")
    columns, names = int(found[1]), tuple(names_in(operands[0]))
    in_registers, turned = operands[1].startswith("{"), [word == "1" for word in operands[6:]]
    left = [reader(one, np.uint32) for one in names_in(operands[1])] if in_registers else []
    descriptors = [reader(operand, np.uint64) for operand in operands[2 if in_registers else 1 : 3]]
    is_added = reader(operands[3], np.bool_)

    def start(warp: Warp, registers: Registers) -> Outcome:
        *first, right = (int(one(registers)[0]) for one in descriptors)
        rows = warp.number % 4 * 16
        tile = Tile(first[0], 64, turned[0], rows) if first else [one(registers) for one in left]
        before = [as_type(registers[one], np.float32) for one in names] if is_added(registers)[0] else None
        warp.products.start(names, before, tile, Tile(right, columns, turned[-1]))
        for one in names:
            write(registers, one, NO_NUMBER)
        return None

    return start
