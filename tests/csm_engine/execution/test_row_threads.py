"""Which thread computes which rows of a batch, and what happens to errors."""

from __future__ import annotations

import threading

import pytest

from csm_engine.execution.row_threads import SMALLEST_GROUP, RowThreads


def groups_of(threads: RowThreads, num_rows: int) -> list[tuple[int, int]]:
    """The groups, in order."""
    groups = []
    threads.run(num_rows, lambda rows: groups.append((rows.start, rows.stop)))
    return sorted(groups)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
def test_every_row_is_in_one_group_and_groups_are_neither_small_nor_more_than_threads(num_threads: int) -> None:
    threads = RowThreads(num_threads)
    for num_rows in range(1, 12 * SMALLEST_GROUP):
        groups = groups_of(threads, num_rows)
        assert [row for group in groups for row in range(*group)] == list(range(num_rows))
        assert len(groups) == max(1, min(num_threads, num_rows // SMALLEST_GROUP))
        sizes = [end - begin for begin, end in groups]
        assert max(sizes) - min(sizes) <= 1


def test_groups_are_computed_at_the_same_time_by_the_caller_and_other_threads() -> None:
    met, by = threading.Barrier(3), set()

    def compute(rows: slice) -> None:
        met.wait(60)  # passes when all three are in here
        by.add(threading.current_thread())

    RowThreads(3).run(3 * SMALLEST_GROUP, compute)
    assert len(by) == 3 and threading.current_thread() in by


@pytest.mark.parametrize(("num_threads", "num_rows"), [(1, 64), (8, 1), (8, 2 * SMALLEST_GROUP - 1)])
def test_one_thread_or_one_group_of_rows_starts_no_thread(num_threads: int, num_rows: int) -> None:
    before, by = set(threading.enumerate()), []
    threads = RowThreads(num_threads)
    threads.run(num_rows, lambda rows: by.append(threading.current_thread()))
    assert by == [threading.current_thread()] and set(threading.enumerate()) == before
    assert num_threads > 1 or threads._pool is None


@pytest.mark.parametrize("failing", range(3))
def test_an_error_of_a_group_reaches_the_caller_when_all_groups_have_ended(failing: int) -> None:
    threads, met, ended = RowThreads(3), threading.Barrier(3), []

    def compute(rows: slice) -> None:
        met.wait(60)
        if rows.start == failing * SMALLEST_GROUP:
            raise ZeroDivisionError(f"rows from {rows.start}")
        ended.append(rows.start)

    with pytest.raises(ZeroDivisionError, match=f"rows from {failing * SMALLEST_GROUP}$"):
        threads.run(3 * SMALLEST_GROUP, compute)
    assert len(ended) == 2
    assert groups_of(threads, 2 * SMALLEST_GROUP) == [(0, SMALLEST_GROUP), (SMALLEST_GROUP, 2 * SMALLEST_GROUP)]


def test_the_caller_waits_for_the_other_groups_after_an_error_of_its_own() -> None:
    raised, ended = threading.Event(), []

    def compute(rows: slice) -> None:
        if rows.start == 0:
            raised.set()
            raise ZeroDivisionError
        assert raised.wait(60)
        ended.append(rows.start)

    with pytest.raises(ZeroDivisionError):
        RowThreads(2).run(2 * SMALLEST_GROUP, compute)
    assert ended == [SMALLEST_GROUP]


def test_the_threads_end_with_their_object() -> None:
    threads, started, met = RowThreads(2), [], threading.Barrier(2)

    def compute(rows: slice) -> None:
        met.wait(60)
        started.append(threading.current_thread())

    threads.run(2 * SMALLEST_GROUP, compute)
    (other,) = set(started) - {threading.current_thread()}
    del threads
    other.join(60)
    assert not other.is_alive()
