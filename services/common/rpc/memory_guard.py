"""Ends calls that wait for their caller's next message, when memory runs short. It knows no service.

A read that waits is a promise: gRPC takes in a message of any size that the server allows, and shows nothing of it
before it is whole. A read cannot be taken back either. So callers that send most of a large message and then nothing
take as much memory as they like, and only the memory of the process shows that there are any. While it has more than
it may, as many calls end as hold at least what is too much. They are those of the caller with most reads that wait,
the longest wait first, because who it is that holds the memory cannot be seen.
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

CHECK_S = 0.02  # on a fast line 14 MB come in so long
PAUSE = 4  # times as long as a look took, while memory is not short: one took 25 ms with 500,000 free blocks


class MemoryGuard:
    """The reads of a server that wait, and the end of some."""

    def __init__(
        self,
        max_bytes: int,
        max_message_bytes: int,
        used_bytes: Callable[[], int],
        on_end: Callable[[], None] = lambda: None,
        on_relief: Callable[[], None] = lambda: None,
    ) -> None:
        """max_bytes: of the process; 0 is no limit. max_message_bytes: most that one read takes in. used_bytes: of the
        process, now. on_end: called with each call that is ended. on_relief: called once memory is no longer short
        """
        self._max_bytes, self._max_message_bytes, self._used_bytes = max_bytes, max_message_bytes, used_bytes
        self._on_end, self._on_relief = on_end, on_relief
        self._is_short = False
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}  # by caller, the oldest read first

    @contextmanager
    def waiting(self, caller: str) -> Iterator[asyncio.Future[None]]:
        """A read that waits for a message of this caller. The future is done once the call shall end."""
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
        too_much = self._used_bytes() - self._max_bytes if self._waiting or self._is_short else 0
        was_short, self._is_short = self._is_short, too_much > 0
        if was_short and not self._is_short:
            self._on_relief()
        for _ in range(-(-too_much // self._max_message_bytes)):
            if self._waiting:
                self._end_one()

    def _end_one(self) -> None:
        caller, reads = max(self._waiting.items(), key=lambda of_caller: len(of_caller[1]))
        ended = next(iter(reads))
        del reads[ended]
        if not reads:
            del self._waiting[caller]
        ended.set_result(None)
        self._on_end()
        log.warning("memory is short: a call of %s ends, which waits for a message", caller)

    async def run(self) -> None:
        """Checks for ever, if there is a limit.

        It fails with `used_bytes`. `Background` then begins it again, after 5 s at the most: so a reading that fails
        again and again fills no log, and for so long the guard may not see that it works again.
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
