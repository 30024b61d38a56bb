"""Instructions that make a value of values, against torch and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.kernels.ptx.arithmetic import operation
from tests.support.kernels.ptx.tensor_cores import from_sums, to_sums
from tests.support.kernels.ptx.text import functions_of
from tests.support.kernels.ptx.values import LANES, from_bf16, immediate, to_bf16, to_e4m3


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("prmt.b32", (0x33221100, 0x77665544, 0x7531), 0x77553311),
        ("prmt.b32", (0x80, 0, 0x4148), 0xFF),  # a sign, then bytes 1 and 4, which are zero
        ("bfe.u32", (0xABCD1234, 8, 8), 0x12),
        ("bfe.s32", (0x00000F00, 8, 4), 0xFFFFFFFF),
        ("shr.s32", (0x80000000, 40), 0xFFFFFFFF),
        ("shl.b32", (1, 32), 0),
        ("mul.hi.u32", (0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFE),
        ("mad.wide.s32", (-3 & 0xFFFFFFFF, 5, 100), 85),
        ("div.s32", (-7 & 0xFFFFFFFF, 2), -3 & 0xFFFFFFFF),
        ("selp.b32", (7, 9, 0), 9),
        ("sub.rn.bf16x2", (0x43804380, 0x43004300), 0x43004300),  # 256 - 128
    ],
)
def test_integer_instructions_give_their_results(name: str, given: tuple[int, ...], expected: int) -> None:
    found = operation(name)
    assert found is not None
    operands = (immediate(str(number), dtype) for number, dtype in zip(given, found.sources, strict=True))
    result = found.function(*operands)
    assert result.shape == (LANES,)
    assert int(result.view(f"u{result.dtype.itemsize}")[0]) == expected


def test_roundings_are_those_of_torch() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 10
    values[:4] = torch.tensor([0.0, -0.0, 1e30, -448.0])
    assert np.array_equal(to_bf16(values.numpy()), values.bfloat16().view(torch.uint16).numpy())
    assert np.array_equal(from_bf16(to_bf16(values.numpy())), values.bfloat16().float().numpy())
    ours = torch.from_numpy(to_e4m3(values.numpy())).view(torch.float8_e4m3fn)
    assert torch.equal(ours.float(), values.clamp(-448, 448).to(torch.float8_e4m3fn).float())


def test_every_sum_has_one_lane_and_register() -> None:
    matrix = np.arange(16 * 64, dtype=np.float32).reshape(16, 64)
    registers = from_sums(matrix)
    assert sorted(np.concatenate(registers)) == list(range(16 * 64))
    assert np.array_equal(to_sums(registers), matrix)


def test_names_of_inline_assembly_have_the_width_of_their_scope() -> None:
    text = """.visible .entry one(.param .u64 one_param_0) .reqntid 32 { .reg .b32 %r<9>;
        { .reg .b16 a<2>; .reg .f32 b; mov.b32 {a0, a1}, %r1; cvt.f32.bf16 b, a1; }
        $L__BB0_1: @!%p1 bra $L__BB0_1; { .reg .b32 a; mov.b32 a, %r1; } ret; }"""
    kernel, functions = functions_of(text)
    code = functions[kernel].code
    assert [one.operands for one in code] == [
        ("{a0:16, a1:16}", "%r1"), ("b:32", "a1:16"), ("$L__BB0_1",), ("a:32", "%r1"), (),
    ]  # fmt: skip
    assert code[2].guard == ("%p1", True) and functions[kernel].labels == {"$L__BB0_1": 2}
