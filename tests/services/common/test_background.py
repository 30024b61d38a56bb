"""Background tasks of a stage: what happens after their body has failed."""

from __future__ import annotations

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry, Counter

from services.common.background import FIRST_DELAY_S, MOST_DELAY_S, Background
from services.common.rpc.incoming.memory_guard import MemoryGuard
from tests.support.clock import Clock


def counter(registry: CollectorRegistry) -> Counter:
    return Counter("failures", "", ["task"], registry=registry)


class Bodies:
    """A task whose body ends as the test lists, and the delays between its runs."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends, self.delays_s, self.registry = list(ends), list[float](), CollectorRegistry()
        self.task = Background(counter(self.registry), self._sleep).start("work", self._body)

    @property
    def failures(self) -> float | None:
        return self.registry.get_sample_value("failures_total", {"task": "work"})

    async def _sleep(self, delay_s: float) -> None:
        self.delays_s.append(delay_s)

    async def _body(self) -> None:
        if (end := self.ends.pop(0)) is not None:
            raise end


async def test_a_failing_task_is_logged_counted_and_restarted(caplog: pytest.LogCaptureFixture) -> None:
    bodies = Bodies(OSError("once"), ValueError("twice"), None)
    assert bodies.failures == 0  # it exists before the first failure, so that Prometheus sees an increase
    await bodies.task
    assert bodies.failures == 2 and bodies.ends == []
    assert bodies.delays_s == [FIRST_DELAY_S, 2 * FIRST_DELAY_S]
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert all("'work' has failed" in record.message for record in logged)
    assert [str(record.exc_info[1]) for record in logged if record.exc_info] == ["once", "twice"]


async def test_the_delay_has_a_limit() -> None:
    bodies = Bodies(*[OSError()] * 20, None)
    await bodies.task
    assert bodies.delays_s[-1] == MOST_DELAY_S


async def test_the_delay_begins_anew_after_the_task_has_run_well_for_a_while(clock: Clock) -> None:
    delays_s, lasts_s = list[float](), [0.0, 0.0, 2 * MOST_DELAY_S, 0.0]

    async def sleep(delay_s: float) -> None:
        delays_s.append(delay_s)

    async def body() -> None:
        if lasts_s:
            clock.put_forward(lasts_s.pop(0))
            raise OSError

    await Background(sleep=sleep).start("work", body)
    assert delays_s == 2 * [FIRST_DELAY_S, 2 * FIRST_DELAY_S]


async def test_an_unrequested_cancellation_is_a_failure() -> None:
    bodies = Bodies(asyncio.CancelledError(), None)
    await bodies.task
    assert bodies.failures == 1


async def test_a_requested_cancellation_ends_the_task() -> None:
    async def wait() -> None:
        await asyncio.sleep(3600)

    task = Background().start("work", wait)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_memory_guard_continues_after_a_failed_measurement() -> None:
    answers: list[OSError | int] = [OSError("no /proc"), 0, 200]

    def used() -> int:
        if isinstance(answer := answers.pop(0) if answers else 0, OSError):
            raise answer
        return answer

    guard = MemoryGuard(100, 100, used)
    registry = CollectorRegistry()
    with guard.waiting("a") as ended:
        task = Background(counter(registry)).start("memory guard", guard.run)
        async with asyncio.timeout(20):
            await ended  # the call is ended although the first check failed
    task.cancel()
    assert registry.get_sample_value("failures_total", {"task": "memory guard"}) == 1
