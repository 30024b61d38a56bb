"""Kernels compile for Hopper and frames launch within the budget, and what exceeds it is reported."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from bench.kernel_proof.__main__ import REPRESENTATIVE_FORMS
from bench.kernel_proof.budget import OPERATIONS, complaints_about_code, complaints_about_frame
from bench.kernel_proof.machine_code import MachineCode
from bench.kernel_proof.operations import PRODUCT, count_torch
from bench.kernel_proof.time_model import Cost, Point, _fitted, class_of

FORMS = (
    ("auto", "plain"),
    ("fused", "float8"),
    ("int8", "float8-kv", "depth-kernel"),
    ("int8-depth-kernel",),
)  # which takes as long as one test may
Run = Callable[..., subprocess.CompletedProcess[str]]
GOOD = MachineCode("kernel", 96, 0, 45_000, 4, 0, 31, 30, 8, True)


def test_every_form_has_its_kernels_compiled() -> None:
    assert [form for forms in FORMS for form in forms] == list(REPRESENTATIVE_FORMS)


@pytest.mark.parametrize("forms", FORMS, ids=" and ".join)
def test_a_representative_of_every_kernel_compiles_within_the_budget(compiling: Run, forms: tuple[str, ...]) -> None:
    done = compiling("-m", "bench.kernel_proof", "--representative", "--forms", ",".join(forms))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["variants"] > 10 and (told["failed"], told["spilling"], told["over_budget"]) == (0, 0, [])
    assert set(told["operations"]) == set(forms)


TRACED = """
from bench.kernel_proof.proof import Proof
proof = Proof()
proof.trace(["float8-depth-kernel"], (1, 64, 256))
print([operations.total for operations in proof.frames.values()], proof.complaints())
"""


def test_float8_with_the_depth_kernel_is_within_the_budget_of_frames(compiling: Run) -> None:
    """Its kernels are compiled by `make kernels`, and the depth kernel by a slow test in test_memory_order.py."""
    done = compiling("-c", TRACED)
    assert done.stdout.splitlines()[-1:] == ["[88, 88, 805] []"], done.stderr[-3000:]


def test_an_added_product_counts_as_a_product_and_is_refused_where_it_cannot_be() -> None:
    sums, left, right = (torch.empty(shape, device="meta") for shape in ((2, 4), (2, 3), (3, 4)))
    made = count_torch(lambda: sums.addmm_(left, right))
    assert made.counts == {PRODUCT: 1} and made.total_bytes == 4 * (2 * 4 + 2 * 3 + 3 * 4)
    for one, other in ((right, left), (left, right.bfloat16())):
        with pytest.raises(RuntimeError, match="cannot be added"):
            count_torch(lambda one=one, other=other: sums.addmm_(one, other))  # type: ignore[misc]


def test_growth_of_operations_and_bytes_is_reported() -> None:
    most = OPERATIONS["plain"][64]
    assert complaints_about_frame("plain", 64, most, 10**9) == []
    assert complaints_about_frame("plain", 48, most + 1, 10**9) == [
        f"plain at batch 48: {most + 1} operations; at most {most}"
    ]
    assert "GB; at most" in complaints_about_frame("plain", 64, most, 10**12)[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"spills": 2}, "2 spills; at most 0"),
        ({"stack": 64}, "64 bytes of stack"),
        ({"shared": 200_000}, "200000 bytes of shared memory"),
        ({"warps": 32}, "98304 registers of a block"),
        ({"products": 0}, "not on tensor cores"),
        ({"loads_16": 3}, "3 of 31 loads are of 16 bytes"),
    ],
)
def test_code_over_budget_is_reported(change: dict[str, int], told: str) -> None:
    assert complaints_about_code([GOOD]) == []
    (line,) = complaints_about_code([replace(GOOD, **change)])  # type: ignore[arg-type]
    assert told in line


BUFFERS = """
import re, torch
from bench.kernel_proof.pretended_gpu import META, pretended_gpu
from csm_engine.execution.matrix import Matrix
from csm_engine.execution.ops import triton_ops
for outputs, width, rows, gated in ((8192, 1024, 64, True), (8192, 1024, 16, True), (1024, 8192, 64, False)):
    launches = []
    with pretended_gpu(launches.append):
        x, weight = (torch.empty(n, width, device=META, dtype=torch.bfloat16) for n in (rows, outputs * (1 + gated)))
        triton_ops.product(x, Matrix(weight, fused=True), norm=True, eps=1e-5, gated=gated)
    text = launches[0].compile().asm["ttgir"]
    assert "isAsync = true" in text
    print(*(sorted(set(re.findall(r"local_alloc : .*memdesc<([0-9]+)x[0-9]+x[0-9]+xbf16", text)))))
"""


def test_inputs_of_asynchronous_products_have_as_many_buffers_as_the_weights(compiling: Run) -> None:
    """With one less, a copy goes into the buffer that the product still reads."""
    done = compiling("-c", BUFFERS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[-4:-1] == ["3", "3", "4"]


WIDENING = """
import torch
from bench.kernel_proof.pretended_gpu import META, pretended_gpu
from csm_engine.execution.matrix import Matrix
from csm_engine.execution.ops import triton_ops

for dtype, constant in ((torch.float8_e4m3fn, "0x7b807b80"), (torch.int8, "0x43004300")):
    launches = []
    with pretended_gpu(launches.append):
        x = torch.empty(16, 1024, device=META, dtype=torch.bfloat16)
        weight = torch.empty(1024, 1024, device=META, dtype=dtype)
        matrix = Matrix(weight, torch.empty(1024, device=META), fused=True)
        triton_ops.product(x, matrix, norm=True, eps=1e-5, gated=False)
    ptx = launches[0].compile().asm["ptx"]
    assert constant in ptx and "cvt.rn.f16x2.e4m3x2" not in ptx and "cvt.rn.f32.s8" not in ptx
print("widened")
"""


def test_weights_of_eight_bits_are_widened_by_our_instructions(compiling: Run) -> None:
    """Those of float8 for float8, and of int8 for int8; what they make is held by tests of eight_bits.py."""
    done = compiling("-c", WIDENING)
    assert done.stdout.split()[-1:] == ["widened"], done.stderr[-3000:]


SPILLING = """
import torch, triton, triton.language as tl
from bench.kernel_proof.machine_code import machine_code, machine_codes
from bench.kernel_proof.pretended_gpu import pretended_gpu
from pathlib import Path
import tempfile

@triton.jit
def greedy_kernel(x_ptr, out_ptr, N: tl.constexpr):
    index = tl.arange(0, N)
    x = tl.load(x_ptr + index)
    tl.store(out_ptr + index, x * tl.sum(x))  # all of x is held until its sum is there

launches = []
with pretended_gpu(launches.append):
    x = torch.empty(2048, device="meta")
    assert x.is_cuda
    for warps in (4, 1, 2):
        greedy_kernel[(1,)](x, x, N=2048, num_warps=warps, maxnreg=32)
assert not x.is_cuda
codes = [code for _, code in machine_codes(launches, Path(tempfile.mkdtemp()))]
assert codes[1] == machine_code(launches[1], Path(tempfile.mkdtemp())) != codes[2]
print(codes[0].spills, codes[1].spills)
"""


def test_a_kernel_that_spills_is_reported(compiling: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("kernel") / "greedy.py"  # Triton reads a kernel's source from its file
    program.write_text(SPILLING)
    done = compiling(str(program))
    assert done.returncode == 0, done.stderr[-2000:]
    few, many = map(int, done.stdout.split()[-2:])
    assert few < many


def test_costs_are_fitted_to_the_measured_times() -> None:
    points = [Point(us=12.0, read_us=2.0, launches=16, batch=0), Point(us=32.0, read_us=2.0, launches=16, batch=10)]
    cost = _fitted(points)
    assert [cost.fixed, cost.row] == pytest.approx([10.0, 2.0])
    assert cost.reads
    assert _fitted([Point(us=1.0, read_us=5.0, launches=1, batch=1)]) == Cost(1.0, 0.0, False)


def test_vendor_kernels_count_as_products_and_torch_kernels_as_others() -> None:
    assert class_of("nvjet_sm90_tst_128x8_64x12_2x1_v_bz_TNT") == class_of("void cublasLt::splitKreduce_kernel<32")
    assert class_of("at::native::reduce_kernel") == "other of torch"
    assert class_of("rms_norm_kernel") == "rms_norm_kernel"
