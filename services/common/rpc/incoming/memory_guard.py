"""Ends calls that wait for their caller's next message, when memory runs short. It knows no service.

While a read waits, gRPC buffers a message of up to the server's limit, and does not show how much of it has arrived. A
read cannot be taken back either. So callers that send most of a large message and then stop can use up the memory, and
only the memory of the process shows it. While the process has more than its limit, the guard ends as many calls as
could account for the excess. Since the calls that hold the memory cannot be identified, it ends those of the caller
with the most waiting reads, the longest wait first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from services.common.rpc.status import StatusError

log = logging.getLogger("csm.memory")

CHECK_S = 0.02  # between two checks; on a fast line 14 MB arrive in that time
PAUSE = 4  # least pause after a check, in multiples of its time, while memory is not short: one may take 25 ms


class MemoryGuard:
    """Tracks the waiting reads of a server, and ends some when memory is short."""

    def __init__(
        self,
        max_bytes: int,
        max_message_bytes: int,
        used_bytes: Callable[[], int],
        on_end: Callable[[], None] = lambda: None,
        on_relief: Callable[[], None] = lambda: None,
    ) -> None:
        """max_bytes: limit of the process; 0 is no limit. max_message_bytes: limit of one message. used_bytes: measures
        the process. on_end: called for each ended call. on_relief: called when memory is no longer short.
        """
        self._max_bytes, self._max_message_bytes, self._used_bytes = max_bytes, max_message_bytes, used_bytes
        self._on_end, self._on_relief = on_end, on_relief
        self._is_short = False
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}  # by caller, the oldest read first

    @contextmanager
    def waiting(self, caller: str) -> Iterator[asyncio.Future[None]]:
        """Registers a read that waits for a message of this caller. The future is done when the call has to end."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        reads = self._waiting.setdefault(caller, {})
        reads[ended] = None
        try:
            yield ended
        finally:
            reads.pop(ended, None)
            if not reads and self._waiting.get(caller) is reads:
                del self._waiting[caller]

    def check(self) -> None:
        """Ends calls if memory is short now."""
        excess_bytes = self._used_bytes() - self._max_bytes if self._waiting or self._is_short else 0
        was_short, self._is_short = self._is_short, excess_bytes > 0
        if was_short and not self._is_short:
            self._on_relief()
        for _ in range(-(-excess_bytes // self._max_message_bytes)):
            if self._waiting:
                self._end_one()

    def _end_one(self) -> None:
        caller, reads = max(self._waiting.items(), key=lambda item: len(item[1]))
        ended = next(iter(reads))
        del reads[ended]
        if not reads:
            del self._waiting[caller]
        ended.set_result(None)
        self._on_end()
        log.warning("memory is short: a call of %s ends, which waits for a message", caller)

    async def run(self) -> None:
        """Checks forever, if there is a limit.

        Raises what `used_bytes` raises. `Background` restarts it with a backoff of up to 5 s, so that a permanent
        failure does not fill the log.
        """
        while self._max_bytes:
            began_s = time.thread_time()
            self.check()
            pause_s = PAUSE * (time.thread_time() - began_s)
            await asyncio.sleep(CHECK_S if self._is_short else max(CHECK_S, pause_s))


UNGUARDED = MemoryGuard(0, 1, lambda: 0)


def memory_short() -> StatusError:
    """The error of a call that is ended."""
    return StatusError(
        grpc.StatusCode.UNAVAILABLE,
        "MEMORY_SHORT",
        "The server is short of memory, and ends calls that wait for a message of their caller.",
        retry_delay_s=1.0,
    )
