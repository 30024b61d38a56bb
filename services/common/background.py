"""Tasks that run as long as their stage. A task that fails is logged, counted and restarted. It knows no stage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import Counter

from services.common.outcomes import is_task_cancelled

log = logging.getLogger("csm.background")

FIRST_DELAY_S, MOST_DELAY_S = 0.02, 5.0  # between a failure and the restart, doubled each time


class Background:
    """Starts the tasks of one stage, and counts their failures."""

    def __init__(
        self,
        failures: Counter | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """failures: counter with the task's name as its label; None counts nothing"""
        self._failures, self._sleep = failures, sleep

    def start(self, name: str, body: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Starts a task that calls `body` again after each failure, until it returns. The caller cancels the task.

        A CancelledError from within `body`, without a cancel of the task, counts as a failure too. name: for the log
        and the metric.
        """
        if self._failures is not None:
            self._failures.labels(name)  # from the first scrape on
        return asyncio.create_task(self._run(name, body), name=name)

    async def _run(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        loop, delay_s = asyncio.get_running_loop(), FIRST_DELAY_S
        while True:
            began_s = loop.time()
            try:
                await body()
                return
            except asyncio.CancelledError:
                if is_task_cancelled():
                    raise
                log.exception("the task '%s' was cancelled from within; it begins again", name)
            except Exception:
                log.exception("the task '%s' has failed; it begins again", name)
            if self._failures is not None:
                self._failures.labels(name).inc()
            if loop.time() - began_s > MOST_DELAY_S:  # it has run well for a while
                delay_s = FIRST_DELAY_S
            await self._sleep(delay_s)
            delay_s = min(2 * delay_s, MOST_DELAY_S)
