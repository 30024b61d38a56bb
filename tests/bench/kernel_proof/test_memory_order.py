"""The compiled code of cooperative kernels has the memory order that their barriers promise; breaches are reported."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.kernel_proof.budget import MULTIPROCESSORS, complaints_about_code
from bench.kernel_proof.machine_code import MachineCode
from bench.kernel_proof.memory_order import acquiring_operations, complaints_about_machine_code, complaints_about_ptx

Run = Callable[..., subprocess.CompletedProcess[str]]

PTX = """
	cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;
	cp.async.commit_group;
	cp.async.wait_group 	0;
	@%p3 st.global.v2.b32 [ %rd4 + 0 ], { %r236, %r237 };
$L__BB0_11:                             // %._crit_edge67
	bar.sync 	0;
	// begin inline asm
	@%p9 atom.global.gpu.acq_rel.add.u32 %r131, [ %rd47 + 0 ], %r132;
	// end inline asm
	@%p9 st.shared.b32 [ %r133 + 0 ], %r131;
	bar.sync 	0;
$L__BB0_13:                             // =>This Inner Loop Header: Depth=1
	bar.sync 	0;
	@%p9 ld.global.gpu.acquire.b32 %r134, [ %rd47 + 0 ];
	@%p9 st.shared.b32 [ %r133 + 0 ], %r134;
	bar.sync 	0;
	@%p13 bra 	$L__BB0_13;
	ld.global.b32 	%r15, [%rd5];
	ret;
"""
LOOK, ADD = "	@%p9 ld.global.gpu.acquire.b32", "	@%p9 atom.global.gpu.acq_rel.add.u32"
BREACHES = {
    "a non-coherent load": ("ld.global.b32 	", "ld.global.nc.b32 	", "non-coherent load: ld.global.nc.b32"),
    "a relaxed addition": ("gpu.acq_rel", "gpu.relaxed", "not an acquiring and releasing operation of the GPU"),
    "an addition of a block": ("gpu.acq_rel", "cta.acq_rel", "not an acquiring and releasing operation of the GPU"),
    "a look of a block": (".gpu.acquire", ".cta.acquire", "not an acquiring and releasing operation"),
    "no meeting of threads before": (f"	bar.sync 	0;\n	// begin inline asm\n{ADD}", ADD, "no bar.sync before"),
    "no meeting behind a look": ("[ %r133 + 0 ], %r134;\n	bar.sync 	0;", "", "no bar.sync behind"),
    "a load before threads have met": (LOOK, f"	ld.global.b32 %r1, [ %rd1 ];\n{LOOK}", "no bar.sync before"),
    "a way around the meeting": (ADD, f"$L__BB0_12:\n{ADD}", "no bar.sync before"),
    "copies under way": ("	cp.async.wait_group 	0;\n", "	cp.async.wait_group 	1;\n", "may be under way"),
}
CODE = """
        /*10c0*/                   MEMBAR.ALL.GPU ;
        /*10d0*/                   ERRBAR;
        /*10f0*/                   ATOMG.E.ADD.STRONG.GPU PT, R2, desc[UR16][R2.64], R7 ;
        /*1100*/                   CCTL.IVALL ;
        /*1240*/              @!P1 LDG.E.STRONG.GPU R2, desc[UR16][R2.64] ;
        /*1250*/                   CCTL.IVALL ;
        /*1260*/                   LDG.E R4, desc[UR16][R4.64] ;
"""


def test_ordered_code_has_no_breach() -> None:
    assert complaints_about_ptx(PTX) == [] and acquiring_operations(PTX) == 2
    assert complaints_about_machine_code(CODE, 2) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_in_ptx_is_found(breach: str) -> None:
    old, new, told = BREACHES[breach]
    assert PTX.count(old) == 1
    assert any(told in line for line in complaints_about_ptx(PTX.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("MEMBAR.ALL.GPU ;", "MEMBAR.ALL.CTA ;", "no fence of the GPU before"),
        ("R7 ;\n        /*1100*/                   CCTL.IVALL ;", "R7 ;", "is not invalidated behind"),
        ("LDG.E R4", "LDG.E.CONSTANT R4", "non-coherent load: LDG.E.CONSTANT"),
    ],
)
def test_a_breach_in_machine_code_is_found(old: str, new: str, told: str) -> None:
    assert CODE.count(old) == 1
    assert any(told in line for line in complaints_about_machine_code(CODE.replace(old, new), 2))


GOOD = MachineCode("kernel", 176, 0, 122_880, 8, 0, 31, 30, 8, True, must_run_at_once=MULTIPROCESSORS)


def test_a_launch_whose_programs_cannot_all_run_at_once_is_found() -> None:
    assert complaints_about_code([GOOD]) == [] and GOOD.programs_of_multiprocessor == 1
    (line,) = complaints_about_code([replace(GOOD, must_run_at_once=MULTIPROCESSORS + 1)])
    assert line == "kernel: 133 programs must run at once; 132 can"
    small = replace(GOOD, registers=32, shared=2048)
    assert small.programs_of_multiprocessor == 8
    assert replace(small, shared=100_000).programs_of_multiprocessor == 2
    assert complaints_about_code([replace(GOOD, disorder=("7: a breach",))]) == ["kernel: 7: a breach"]


KERNELS = """
import torch, triton, triton.language as tl
from bench.kernel_proof.machine_code import machine_code
from bench.kernel_proof.pretended_gpu import pretended_gpu
from pathlib import Path

@triton.jit
def one_barrier_kernel(x_ptr, counter_ptr, N: tl.constexpr, FAULT: tl.constexpr):
    index = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(x_ptr + index, index)
    if FAULT != "apart":
        tl.debug_barrier()
    if FAULT == "relaxed":
        tl.atomic_add(counter_ptr, 1, sem="relaxed")
    else:
        tl.atomic_add(counter_ptr, 1, sem="acq_rel")
    tl.debug_barrier()
    tl.store(x_ptr + index, tl.load(x_ptr + N * tl.num_programs(0) - index) + 1)

launches = []
with pretended_gpu(launches.append):
    x = torch.empty(4096, dtype=torch.int32, device="meta")
    for fault in ("", "apart", "relaxed"):
        one_barrier_kernel[(4,)](x, x, N=1024, FAULT=fault, num_warps=4, launch_cooperative_grid=True)
for launch in launches:
    print(launch.must_run_at_once, *machine_code(launch, Path(__file__).parent).disorder)
"""


def test_breaches_of_compiled_kernels_are_found(compiling: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("kernel") / "one_barrier.py"  # Triton reads a kernel's source from its file
    program.write_text(KERNELS)
    done = compiling(str(program))
    assert done.returncode == 0, done.stderr[-2000:]
    whole, apart, relaxed = done.stdout.splitlines()[-3:]
    assert whole == "4"
    assert "no bar.sync before" in apart
    assert "not an acquiring and releasing operation of the GPU" in relaxed


PLACES_OF_BARRIERS = 8  # in the kernel's source: behind each kind of phase
COUNTED_PRODUCTS = 1  # whose splits are added by the last that arrives: `down`
DEPTH_KERNEL = """
import json
from dataclasses import asdict
from bench.kernel_proof.budget import complaints_about_code
from bench.kernel_proof.depth import depth_counts
from bench.kernel_proof.fast_step import frame, new_traced_step
from bench.kernel_proof.machine_code import machine_code
from bench.kernel_proof.memory_order import acquiring_operations
from bench.kernel_proof.pretended_gpu import pretended_gpu
from csm_engine.execution.depth_weights import DEPTH_KERNEL_ROWS
from csm_engine.scheduling.buckets import buckets_up_to

launches = {}
for rows in buckets_up_to(DEPTH_KERNEL_ROWS):
    with pretended_gpu(lambda launch: launches.setdefault(launch.variant(), launch)):
        if rows == 1:
            step = new_traced_step(FORM, DEPTH_KERNEL_ROWS)
        frame(step, rows)
launches = [launch for launch in launches.values() if launch.name == "depth_frame_kernel"]
codes = [machine_code(launch) for launch in launches]
acquiring = {acquiring_operations(launch.compile().asm["ptx"]) for launch in launches}
wrong = complaints_about_code(codes) + [line for code in codes for line in depth_counts.complaints(code.tile_work)]
print(json.dumps([wrong, list(acquiring), [asdict(code) for code in codes]]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("form", ["depth-kernel", "float8-depth-kernel", "int8-depth-kernel"])
def test_the_depth_kernel_has_no_breach_in_any_bucket(compiling: Run, form: str) -> None:
    """Within the budget, too, and its tiles do what the model takes them to do. Those of 64 rows, but for float8, are
    in tests/bench/kernel_proof/test_proof.py as well.
    """
    done = compiling("-c", DEPTH_KERNEL.replace("FORM", repr(form)))
    assert done.returncode == 0, done.stderr[-2000:]
    wrong, acquiring, codes = json.loads(done.stdout.splitlines()[-1])
    assert wrong == [] and len(codes) >= 3
    assert acquiring == [2 * PLACES_OF_BARRIERS + COUNTED_PRODUCTS]
    for code in codes:
        assert code["must_run_at_once"] == MULTIPROCESSORS and code["disorder"] == [] and len(code["tile_work"]) == 5
