"""The work of the depth kernel's tiles is counted in its machine code, and the model uses these counts."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from bench.kernel_proof.depth.depth_counts import complaints, kept_work  # noqa: E402
from bench.kernel_proof.depth.tile_work import TileWork, tile_work  # noqa: E402
from csm_engine.execution.ops.depth.depth_shape import cuts_of  # noqa: E402
from csm_engine.execution.ops.depth.frame_kernels import GATE_UP  # noqa: E402

PREFIX = "$depth_frame_kernel$csm_engine_$_execution_$_ops_$_depth_$_frame_kernels_$_step__"
OF_3_7, OF_3_6 = f"{PREFIX}c4_i32_c0_:", f"{PREFIX}i32_Pbf16_Pi64___$_0_$__$_cconstexpr_4___$_4_$__$_cconstexpr_0_:"


def code(*lines: tuple[str, int] | str) -> str:
    """As nvdisasm writes it. A line: a label, or an instruction and the clocks behind it."""
    text = []
    for number, line in enumerate(lines):
        if isinstance(line, str):
            text.append(line)
        else:
            half = 0x0000000000000F00 | 0b111 << 45 | line[1] << 41
            text.append(f"        /*{16 * number:04x}*/                   {line[0]} ;      /* 0x0000000000007802 */")
            text.append(f"                                              /* 0x{half:016x} */")
    return "\n".join(text)


LOOPS = (
    ("MOV R1, R2", 9),
    ".L_x_1:",
    ("LDSM.16.M88.4 R4, [R1]", 4),
    ".L_x_2:",
    ("DEPBAR.LE SB0, 0x4", 1),
    ("LDS.64 R8, [R1]", 2),
    ("@!PT LDS RZ, [RZ]", 1),
    ("LDSM.16.MT88.2 R4, [R1+0x100]", 3),
    ("HMMA.16816.F32.BF16 R12, R4, R8, R12", 2),
    ("@P1 BRA `(.L_x_2)", 5),
    ("DEPBAR.LE SB0, 0x0", 1),
    ("LDS.U8 R3, [R1]", 1),
    ("@!P0 BRA `(.L_x_1)", 5),
    ("EXIT", 5),
)
STEP, REST = TileWork(14, 6, 32 * 8 + 256, 1), TileWork(11, 4, 512 + 32, 0)
UNROLLED = (
    ".L_x_1:",
    ("DEPBAR.LE SB0, 0x1", 1),
    ("HMMA.16816.F32.BF16 R12, R4, R8, R12", 7),
    ("DEPBAR.LE SB0, 0x0", 1),
    ("HMMA.16816.F32.BF16 R12, R4, R8, R12", 8),
    ("DEPBAR.LE SB0, 0x0", 1),
    ("@P1 BRA `(.L_x_1)", 5),
    ".L_x_9:",
    ("BRA `(.L_x_9)", 15),
)


@pytest.mark.parametrize("name", [OF_3_7, OF_3_6], ids=["Triton 3.7", "Triton 3.6"])
def test_a_loop_over_steps_counts_as_often_as_there_are_steps(name: str) -> None:
    text = code(".text.depth_frame_kernel:", ("EXIT", 5), name, *LOOPS, f"{PREFIX}c2_i32_:", ("EXIT", 5))
    expected = TileWork(11 + 6 * 14, 4 + 6 * 6, 544 + 6 * 512, 6)
    assert tile_work(text, {4: 6}) == {4: expected}
    assert expected.clocks == REST.clocks + 6 * STEP.clocks


def test_steps_that_the_compiler_has_unrolled_count_once() -> None:
    assert tile_work(code(OF_3_7, *UNROLLED), {4: 2}) == {4: TileWork(23, 6, 0, 2)}


@pytest.mark.parametrize(
    ("text", "steps", "told"),
    [
        (
            code(OF_3_7, *UNROLLED),
            {4: 3},
            r"phase 4: loops with products that wait \[3\] times; known are \[1, 2\], \[4\]",
        ),
        (code(OF_3_7, *LOOPS[:8], *LOOPS[4:]), {4: 6}, r"that wait \[2, 3\] times"),
        (code(OF_3_7, ("EXIT", 5)), {4: 6}, r"that wait \[\] times"),
        (code(OF_3_7, *UNROLLED), {1: 2, 4: 2}, r"phases \[1\] have no function; \[4\] have"),
    ],
)
def test_loops_that_are_not_those_of_tiles_and_steps_are_refused(text: str, steps: dict[int, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        tile_work(text, steps)


def test_compiled_code_with_more_work_than_the_model_is_reported_with_both_numbers() -> None:
    kept = {"int8, 16 rows, DOWN": [1000, 600, 2000, 64]}
    assert complaints({"int8, 16 rows, DOWN": [1050, 620, 1900, 64]}, kept) == []
    assert complaints({"int8, 16 rows, DOWN": [1051, 600, 2000, 64]}, kept) == [
        "int8, 16 rows, DOWN: clocks of a tile are 1051 in the compiled code, 1000 in the model; 5% apart at most"
    ]
    assert (
        "products of a tile are 32 in the compiled code, 64"
        in complaints({"int8, 16 rows, DOWN": [1000, 600, 2000, 32]}, kept)[0]
    )
    assert "the model has no counts" in complaints({"int8, 128 rows, DOWN": [1, 1, 1, 1]}, kept)[0]


@pytest.mark.parametrize("weights", ["bfloat16", "float8_e4m3fn", "int8"])
@pytest.mark.parametrize("rows", [16, 32, 64])
def test_kept_products_are_those_that_a_tile_needs(weights: str, rows: int) -> None:
    """Gate and up: 128 outputs of 1,024 inputs in instructions of 16 rows, 8 outputs and 16 inputs, or 32 of eight bits
    on both sides, by the program's warps.
    """
    work = kept_work(weights, rows, GATE_UP.value)
    warps = cuts_of(rows, scaled=weights != "bfloat16", rounded=weights == "int8").warps
    assert warps * work.products == (rows // 16) * (128 // 8) * (1024 // (32 if weights == "int8" else 16))
    assert work.clocks >= work.instructions > work.products
