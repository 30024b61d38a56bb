"""Small kernels with barriers and counters, each with one kind of fault for the race checker to find."""

from __future__ import annotations

import triton
import triton.language as tl

from csm_engine.execution.ops.depth.grid_barrier import wait_for_all

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def meet_kernel(data, counter, BARRIERS: tl.constexpr):
    """Each program writes its own element and reads its neighbour's, with a barrier after each."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    left = tl.full((), 1000, tl.int32)
    for barrier in range(BARRIERS):
        if barrier % 2 == 0:
            tl.store(data + program, barrier)
        else:
            tl.load(data + (program + 1) % programs)
        left = wait_for_all(counter, program, programs, left)
    if BARRIERS % 2 == 0:
        tl.store(data + program, left)


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


@triton.jit
def last_adds_kernel(parts, sums, arrivals, counter, FAULT: tl.constexpr):
    """Every program writes a part of a sum, and the last to arrive adds them."""
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


@triton.jit
def writing_kernel(data, given, counter):
    tl.store(given + tl.program_id(0), tl.load(data + tl.program_id(0)))
