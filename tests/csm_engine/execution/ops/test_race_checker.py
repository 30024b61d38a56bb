"""What the race checker sees: each of its rules is broken by a kernel with one fault, and by none without."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

import triton.language as tl  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

from tests.support.kernels.races.accesses import Accesses, Indices, Race  # noqa: E402
from tests.support.kernels.races.small_kernels import faulty_kernel, last_adds_kernel, writing_kernel  # noqa: E402
from tests.support.kernels.races.turns import Deadlock, backward, forward, run_in_turns  # noqa: E402

PROGRAMS = 3


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
def test_a_fault_is_reported_by_its_rule(fault: str) -> None:
    assert FAULTS[fault] in {race.rule for race in races(fault)}


@pytest.mark.parametrize("fault", ["", "not for all"])
def test_a_run_leaves_the_interpreter_as_it_was(fault: str) -> None:
    """Also one that fails."""

    def seen() -> list[object]:
        builder = interpreter.interpreter_builder
        functions = (interpreter._patch_lang, interpreter._get_np_dtype, tl.tensor.__init__, tl.block_type.__init__)
        of_any_launch = {"grid_dim", "grid_idx"}  # the interpreter's own launches leave them there too
        return [*functions, tl.load, builder.options, sorted(vars(builder).keys() - of_any_launch)]

    before = seen()
    with suppress(Deadlock):
        races(fault)
    assert seen() == before


def test_a_skipped_barrier_is_reported_as_a_deadlock() -> None:
    with pytest.raises(Deadlock):
        races("not for all")


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
def test_a_fault_of_counting_is_reported_by_its_rule(fault: str) -> None:
    assert COUNTING_FAULTS[fault] in {race.rule for race in counting_races(fault)}


def test_a_write_to_an_input_is_reported() -> None:
    buffers = {name: torch.zeros(PROGRAMS, dtype=torch.int32) for name in ("data", "given", "counter")}
    accesses = Accesses(PROGRAMS, buffers, written=("data",))
    run_in_turns(writing_kernel, PROGRAMS, buffers, accesses, forward)
    assert {(race.rule, race.buffer) for race in accesses.races} == {("writes an input", "given")}


@pytest.mark.parametrize(("interval", "to_read", "found"), [(1, False, [1]), (1, True, []), (2, True, [2])])
def test_access_to_an_absent_element_of_an_interval_is_reported(interval: int, to_read: bool, found: list[int]) -> None:
    """The kernel touches all of its data in each of three intervals: it writes, reads and writes it. In one of them the
    last value is not there, or only to be read. found: which program touches it.
    """
    buffers = {"data": torch.zeros(PROGRAMS, dtype=torch.int32), "counter": torch.zeros(1, dtype=torch.int32)}

    def there(name: str, number: int, indices: Indices, writes: bool) -> bool:
        return (name, number) != ("data", interval) or bool(indices.max() < PROGRAMS - 1) or (to_read and not writes)

    accesses = Accesses(PROGRAMS, buffers, written=buffers, there=there)
    run_in_turns(faulty_kernel, PROGRAMS, {**buffers, "FAULT": ""}, accesses, forward)
    assert accesses.races == [Race("touches what is not there", "data", interval, (program,)) for program in found]
