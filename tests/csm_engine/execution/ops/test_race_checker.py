"""What the race checker sees: each of its rules is broken by a kernel with one fault, and by none without."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from tests.support.kernels.races.accesses import Accesses, Race  # noqa: E402
from tests.support.kernels.races.turns import Deadlock, backward, forward, run_in_turns  # noqa: E402

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)

PROGRAMS = 3


@triton.jit
def faulty_wait(counter, program, programs, FAULT: tl.constexpr):
    """`wait_for_all`, with one fault."""
    added = tl.where(program == 0, tl.full((), 0x80000001, tl.uint32) - programs.to(tl.uint32), 1)
    added = added.to(tl.int32, bitcast=True)
    if FAULT != "threads do not meet before":
        tl.debug_barrier()
    if FAULT == "arrives relaxed":
        before = tl.atomic_add(counter, added, sem="relaxed", scope="gpu")
    elif FAULT == "of a block":
        before = tl.atomic_add(counter, added, sem="acq_rel", scope="cta")
    else:
        before = tl.atomic_add(counter, added, sem="acq_rel", scope="gpu")
    waiting = FAULT != "does not look"
    while waiting:
        if FAULT == "looks relaxed":
            waiting = (tl.atomic_add(counter, 0, sem="relaxed", scope="gpu") ^ before) >= 0
        else:
            waiting = (tl.atomic_add(counter, 0, sem="acquire", scope="gpu") ^ before) >= 0
    if FAULT != "threads do not meet behind":
        tl.debug_barrier()


@triton.jit
def faulty_kernel(data, counter, FAULT: tl.constexpr):
    program, programs = tl.program_id(0), tl.num_programs(0)
    tl.store(data + program, program)
    if FAULT != "no barrier":
        if (program > 0) | (FAULT != "not for all"):
            faulty_wait(counter, program, programs, FAULT)
    beside = tl.load(data + (program + 1) % programs)
    if FAULT != "no barrier":
        faulty_wait(counter, program, programs, "")
    tl.store(data + program, beside)
    if FAULT == "reads its own":
        tl.load(data + program)
    if FAULT == "beyond":
        tl.load(data + programs + 1000)


FAULTS = {
    "no barrier": "touch the same, and not all read",
    "arrives relaxed": "touch the same, and not all read",
    "does not look": "goes on before another has arrived",
    "looks relaxed": "goes on before another has arrived",
    "of a block": "atomic operation of less than the GPU",
    "threads do not meet before": "releases before its threads have met",
    "threads do not meet behind": "goes on before its threads have met",
    "reads its own": "reads what it has just written",
    "beyond": "touches what is in no buffer",
}


def races(fault: str) -> list[Race]:
    buffers = {"data": torch.zeros(PROGRAMS, dtype=torch.int32), "counter": torch.zeros(1, dtype=torch.int32)}
    accesses = Accesses(PROGRAMS, buffers, written=buffers)
    run_in_turns(faulty_kernel, PROGRAMS, {**buffers, "FAULT": fault}, accesses, forward)
    accesses.finish()
    return accesses.races


def test_a_kernel_without_a_fault_has_no_race() -> None:
    assert races("") == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen_by_its_rule(fault: str) -> None:
    assert FAULTS[fault] in {race.rule for race in races(fault)}


def test_a_program_that_leaves_out_a_barrier_is_seen_as_a_deadlock() -> None:
    with pytest.raises(Deadlock):
        races("not for all")


@triton.jit
def last_adds_kernel(parts, sums, arrivals, counter, FAULT: tl.constexpr):
    """Every program leaves a part, and the last that arrives adds them."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    tl.store(parts + program, program)
    if FAULT != "threads do not meet":
        tl.debug_barrier()
    if FAULT == "counts relaxed":
        before = tl.atomic_add(arrivals, 1, sem="relaxed")
    elif FAULT == "counts without release":
        before = tl.atomic_add(arrivals, 1, sem="acquire")
    else:
        before = tl.atomic_add(arrivals, 1, sem="acq_rel")
    if before == (0 if FAULT == "the first adds" else programs - 1):
        tl.store(arrivals, 0)
        total = tl.zeros((), tl.int32)
        for part in range(programs):
            total += tl.load(parts + part)
        tl.store(sums, total)


COUNTING_FAULTS = {
    "counts relaxed": "no order",
    "counts without release": "no order",
    "the first adds": "no order",
    "threads do not meet": "releases before its threads have met",
}


def counting_races(fault: str, ordered: tuple[str, ...] = ("parts", "arrivals")) -> list[Race]:
    sizes = {"parts": PROGRAMS, "sums": 1, "arrivals": 1, "counter": 1}
    buffers = {name: torch.zeros(size, dtype=torch.int32) for name, size in sizes.items()}
    accesses = Accesses(PROGRAMS, buffers, written=buffers, ordered=ordered)
    run_in_turns(last_adds_kernel, PROGRAMS, {**buffers, "FAULT": fault}, accesses, backward)
    accesses.finish()
    return accesses.races


def test_parts_that_are_added_by_the_last_are_in_order() -> None:
    assert counting_races("") == []
    assert {race.buffer for race in counting_races("", ordered=("arrivals",))} == {"parts"}


@pytest.mark.parametrize("fault", COUNTING_FAULTS)
def test_a_fault_of_counting_is_seen_by_its_rule(fault: str) -> None:
    assert COUNTING_FAULTS[fault] in {race.rule for race in counting_races(fault)}


@triton.jit
def writing_kernel(data, given, counter):
    tl.store(given + tl.program_id(0), tl.load(data + tl.program_id(0)))


def test_what_is_not_to_be_written_is_not() -> None:
    buffers = {name: torch.zeros(PROGRAMS, dtype=torch.int32) for name in ("data", "given", "counter")}
    accesses = Accesses(PROGRAMS, buffers, written=("data",))
    run_in_turns(writing_kernel, PROGRAMS, buffers, accesses, forward)
    assert {(race.rule, race.buffer) for race in accesses.races} == {("writes an input", "given")}
