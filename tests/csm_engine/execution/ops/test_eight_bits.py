"""The instructions that widen weights of eight bits, run one by one, make exactly the value of every byte."""

from __future__ import annotations

import operator
import re
import struct
from collections.abc import Callable

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import FLOAT8  # noqa: E402
from csm_engine.execution.ops.eight_bits import FROM_FLOAT8, FROM_INT8  # noqa: E402

OPERATIONS: dict[str, Callable[..., int]] = {
    "mov.b32": lambda value: value,
    "shr.u32": operator.rshift,
    "and.b32": operator.and_,
    "or.b32": operator.or_,
}


def bfloat16(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])


def bits_of(value: float) -> int:
    """Of a number that bfloat16 has. Raises: AssertionError where it would be rounded."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    assert bits & 0xFFFF == 0, f"{value} is rounded"
    return int(bits >> 16)


def on_halves(operation: str, left: int, right: int) -> int:
    made = 0
    for shift in (0, 16):
        a, b = bfloat16(left >> shift & 0xFFFF), bfloat16(right >> shift & 0xFFFF)
        made |= bits_of(a * b if operation == "mul" else a - b) << shift
    return made


def run(instructions: str, word: int) -> list[int]:
    """What the two registers $0 and $1 hold then, where $2 is `word`. Raises: KeyError for an unknown instruction."""
    registers = {"$2": word}

    def value(operand: str) -> int:
        return registers[operand] if operand in registers else int(operand, 0)

    for line in re.findall(r"[^;{}]+", instructions):
        name, _, operands = line.strip().partition(" ")
        if not name or name == ".reg":
            continue
        target, *given = [operand.strip() for operand in operands.split(",")]
        told = [value(operand) for operand in given]
        if name == "prmt.b32":
            source = (told[0] | told[1] << 32).to_bytes(8, "little")
            registers[target] = int.from_bytes([source[told[2] >> 4 * n & 7] for n in range(4)], "little")
        elif name in ("mul.rn.bf16x2", "sub.rn.bf16x2"):
            registers[target] = on_halves(name[:3], *told)
        else:
            registers[target] = OPERATIONS[name](*told)
    return [registers["$0"], registers["$1"]]


@pytest.mark.parametrize(("instructions", "dtype"), [(FROM_FLOAT8, FLOAT8), (FROM_INT8, torch.int8)])
def test_every_byte_becomes_its_value_in_its_place(instructions: object, dtype: torch.dtype) -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8)
    bytes_ = bytes_[bytes_.view(dtype).float().isfinite()]
    assert len(bytes_) >= 254
    for turn in range(4):  # each byte in each place, beside others
        four = torch.stack([bytes_.roll(n * 37 + turn) for n in range(4)], dim=1)
        for row in four:
            low, high = run(
                str(getattr(instructions, "value", instructions)), int.from_bytes(bytes(row.tolist()), "little")
            )
            made = [bfloat16(half) for half in (low & 0xFFFF, low >> 16, high & 0xFFFF, high >> 16)]
            assert made == row.view(dtype).float().tolist()
