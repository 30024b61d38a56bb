"""The barrier between programs: as a machine of which all states are seen, and as code that is run in every order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from tests.support.kernels.races.accesses import Accesses  # noqa: E402
from tests.support.kernels.races.barrier_states import added_by, explore  # noqa: E402
from tests.support.kernels.races.small_kernels import meet_kernel  # noqa: E402
from tests.support.kernels.races.turns import Choose, backward, forward, run_in_turns  # noqa: E402

HALF = 8  # of the counter of 4 bits that the machine has by default


@pytest.mark.parametrize("programs", [1, 2, 3, 4, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("start", [0, HALF])
def test_no_order_of_programs_passes_early_or_deadlocks(programs: int, start: int) -> None:
    """From both values that a finished launch leaves. Four barriers turn the highest bit twice each way."""
    outcome = explore(programs, 4, start)
    assert outcome.early is None and outcome.stuck is None and outcome.states > 4 * programs
    assert outcome.counters == {start}
    assert explore(programs, 3, start).counters == {start ^ HALF}


def test_a_launch_that_gave_up_leaves_the_counter_reusable() -> None:
    assert explore(3, 3, 0, gives_up=True).counters == {HALF}
    assert explore(3, 3, 0, gives_up=True).early is not None


def test_an_invalid_counter_lets_programs_pass_early() -> None:
    """So it must begin at zero, and one launch at a time may use it."""
    assert all((explore(2, 2, start).early is None) == (start % HALF == 0) for start in range(2 * HALF))


def test_the_model_checker_detects_a_wrong_barrier() -> None:
    assert explore(3, 2, 0, added=lambda *given: added_by(*given) - (given[0] == 0)).stuck is not None
    assert explore(3, 2, 0, added=lambda *given: HALF).early is not None


def run(kernel: object, programs: int, choose: Choose, start: int = 0, **constants: int) -> tuple[Accesses, list[int]]:
    """data: what the programs have left in it."""
    data, counter = torch.zeros(programs, dtype=torch.int32), torch.tensor([start], dtype=torch.int32)
    buffers = {"data": data, "counter": counter}
    accesses = Accesses(programs, buffers, written=("data", "counter"))
    run_in_turns(kernel, programs, buffers | constants, accesses, choose)
    accesses.finish()
    return accesses, [*data.tolist(), counter.item()]


@pytest.mark.parametrize("start", [0, -(2**31)])
@pytest.mark.parametrize("barriers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_compiled_barrier_synchronizes_two_programs_in_every_order(barriers: int, start: int) -> None:
    """From both values that a launch can leave: the highest bit turns both ways, and the 32 bits wrap around."""
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

        accesses, (*left, counter) = run(meet_kernel, 2, choose, start, BARRIERS=barriers)
        assert accesses.races == [] and accesses.arrivals == [barriers] * 2
        assert counter % 2**32 == (start + barriers * 2**31) % 2**32
        assert barriers % 2 or min(left) > 990
        orders += 1
        while taken and taken[-1] + 1 == told[len(taken) - 1]:
            taken.pop()
        if taken:
            taken[-1] += 1
    assert orders > 5 * barriers


@pytest.mark.parametrize("choose", [forward, backward])
def test_programs_that_meet_have_no_race_and_need_every_barrier_but_the_last(choose: Choose) -> None:
    accesses, _ = run(meet_kernel, 4, choose, BARRIERS=4)
    assert accesses.races == [] and accesses.arrivals == [4] * 4 and accesses.idle == []
