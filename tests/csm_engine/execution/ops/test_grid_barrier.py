"""The barrier between programs: as a machine of which all states are seen, and as code that is run in every order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from csm_engine.execution.ops.depth.grid_barrier import wait_for_all  # noqa: E402
from tests.support.kernels.races.accesses import Accesses  # noqa: E402
from tests.support.kernels.races.barrier_states import added_by, explore  # noqa: E402
from tests.support.kernels.races.turns import Choose, backward, forward, run_in_turns  # noqa: E402

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)

HALF = 8  # of the counter of 4 bits that the machine has by default


@pytest.mark.parametrize("programs", [1, 2, 3, 4, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("start", [0, HALF])
def test_nobody_passes_early_and_nobody_is_stuck_in_any_order(programs: int, start: int) -> None:
    """From both values that a finished launch leaves. Four barriers turn the highest bit twice each way."""
    outcome = explore(programs, 4, start)
    assert outcome.early is None and outcome.stuck is None and outcome.states > 4 * programs
    assert outcome.counters == {start}
    assert explore(programs, 3, start).counters == {start ^ HALF}


def test_a_launch_in_which_programs_gave_up_leaves_the_counter_as_any_other() -> None:
    assert explore(3, 3, 0, gives_up=True).counters == {HALF}
    assert explore(3, 3, 0, gives_up=True).early is not None


def test_a_counter_that_no_launch_has_left_lets_programs_pass_early() -> None:
    """So it must begin at zero, and one launch at a time may use it."""
    assert all((explore(2, 2, start).early is None) == (start % HALF == 0) for start in range(2 * HALF))


def test_the_machine_sees_a_barrier_that_is_wrong() -> None:
    assert explore(3, 2, 0, added=lambda *given: added_by(*given) - (given[0] == 0)).stuck is not None
    assert explore(3, 2, 0, added=lambda *given: HALF).early is not None


@triton.jit
def meet_kernel(data, counter, BARRIERS: tl.constexpr):
    program, programs = tl.program_id(0), tl.num_programs(0)
    left = tl.full((), 1000, tl.int32)
    for barrier in range(BARRIERS):
        tl.store(data + program, barrier)
        left = wait_for_all(counter, program, programs, left)
        tl.load(data + (program + 1) % programs)
        left = wait_for_all(counter, program, programs, left)
    tl.store(data + program, left)


def run(kernel: object, programs: int, choose: Choose, start: int = 0, **constants: int) -> tuple[Accesses, list[int]]:
    """data: what the programs have left in it."""
    data, counter = torch.zeros(programs, dtype=torch.int32), torch.tensor([start], dtype=torch.int32)
    buffers = {"data": data, "counter": counter}
    accesses = Accesses(programs, buffers, written=("data", "counter"))
    run_in_turns(kernel, programs, buffers | constants, accesses, choose)
    accesses.finish()
    return accesses, [*data.tolist(), counter.item()]


@pytest.mark.parametrize("start", [0, pytest.param(-(2**31), marks=pytest.mark.slow)])
def test_the_code_holds_two_programs_together_in_every_order(start: int) -> None:
    """Two barriers, so the highest bit turns both ways, and the counter's 32 bits wrap around."""
    orders, taken = 0, [0]
    while taken:
        told: list[int] = []

        def choose(ready: Sequence[int], told: list[int] = told, taken: list[int] = taken) -> int:
            """As the last order up to one choice, which is the next one; then the first of what can be chosen."""
            place = len(told)
            told.append(len(ready))
            if place == len(taken):
                taken.append(0)
            return ready[taken[place]]

        accesses, (*left, counter) = run(meet_kernel, 2, choose, start, BARRIERS=1)
        assert accesses.races == [] and accesses.arrivals == [2, 2] and counter == start
        assert min(left) > 990
        orders += 1
        while taken and taken[-1] + 1 == told[len(taken) - 1]:
            taken.pop()
        if taken:
            taken[-1] += 1
    assert orders > 10


@pytest.mark.parametrize("choose", [forward, backward])
def test_programs_that_meet_have_no_race_and_need_every_barrier_but_the_last(choose: Choose) -> None:
    accesses, _ = run(meet_kernel, 4, choose, BARRIERS=2)
    assert accesses.races == [] and accesses.arrivals == [4] * 4 and accesses.idle == []
