"""The queue's limit holds while a sequence moves: a check by another thread counts it in one place, not in none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from csm_bundle.errors import EngineBusyError
from csm_engine.scheduling.scheduler import Scheduler
from tests.csm_engine.scheduling.small_schedulers import admitted, run_prefill, scheduler, sequence


class CheckingThread:
    """Checks the room in the middle of another thread's work, which goes on when the check has ended or waits."""

    def __init__(self, policy: Scheduler, pool: ThreadPoolExecutor) -> None:
        self._policy, self._pool = policy, pool
        self.pending = set[object]()
        self._goes_on = threading.Event()
        self._lock = policy._moving
        policy._moving = self  # type: ignore[assignment]
        self.check: Future[None] = Future()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._goes_on.set()
            self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def begin(self, *_: object) -> None:
        self.check = self._pool.submit(self._policy.check_room, self.pending, has_listener=False)
        self.check.add_done_callback(lambda _: self._goes_on.set())
        self._goes_on.wait(60)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as running:
        yield running


def in_the_middle_of(method: Any, checking: CheckingThread) -> Any:
    def called(*arguments: Any) -> Any:
        checking.begin()
        return method(*arguments)

    return called


def test_a_sequence_that_gets_its_slot_is_counted(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = scheduler(num_slots=1, max_waiting=1)
    for _ in range(2):
        policy.add(sequence())
    checking = CheckingThread(policy, pool)
    monkeypatch.setattr(policy._pool, "acquire", in_the_middle_of(policy._pool.acquire, checking))
    assert policy.admit() is not None
    with pytest.raises(EngineBusyError):
        checking.check.result(60)


def test_a_sequence_that_is_being_queued_is_counted(pool: ThreadPoolExecutor) -> None:
    policy = scheduler(num_slots=1, max_waiting=1)
    policy.add(sequence())
    assert len(admitted(policy)) == 1
    checking = CheckingThread(policy, pool)
    checking.pending.add(item := sequence())

    def on_queued() -> None:
        checking.pending.discard(item)
        checking.begin()

    policy.add(item, on_queued)
    with pytest.raises(EngineBusyError):
        checking.check.result(60)


def test_a_sequence_that_is_being_queued_is_counted_once(pool: ThreadPoolExecutor) -> None:
    """So the last place is not refused."""
    policy = scheduler(num_slots=1, max_waiting=2)
    policy.add(sequence())
    assert len(admitted(policy)) == 1
    checking = CheckingThread(policy, pool)
    checking.pending.add(item := sequence())

    def on_queued() -> None:
        checking.begin()
        checking.pending.discard(item)

    policy.add(item, on_queued)
    checking.check.result(60)


def test_a_sequence_that_begins_to_run_is_counted(pool: ThreadPoolExecutor) -> None:
    policy = scheduler(num_slots=2, max_waiting=0)
    policy.frame_budget = type("OneRow", (), {"max_rows": 1})()
    policy.add(sequence(rows=2))
    assert policy.admit() is not None
    checking = CheckingThread(policy, pool)

    class Running(list[Any]):
        def append(self, item: Any) -> None:
            checking.begin()
            super().append(item)

    policy.running = Running()
    run_prefill(policy)
    with pytest.raises(EngineBusyError):
        checking.check.result(60)
