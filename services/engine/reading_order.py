"""Which request's texts are read next. One request is read at a time; the others wait here.

Reading a word takes microseconds, but a word that the dictionary lacks takes milliseconds. So first come, first served
would let one caller with long texts of such words delay everyone else. Here the earliest deadline goes first: a request
is due after the time that it takes to say its texts, a minute at most, and at once if it has a listener.
So short texts overtake long ones, and a long one is overtaken only by requests that arrive before it is due.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable

from csm_bundle.errors import EngineStoppedError
from csm_engine.types import GenerationRequest

_SPOKEN_CHARACTERS_PER_SECOND = 15.0
_MAX_OVERTAKEN_S = 60.0


class ReadingOrder:
    """A lock that goes to the waiting request whose texts are due first. All methods run on the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._locked = False
        self._end = ""  # why no turn comes any more
        self._pause = ""  # why none comes at present
        self._arrivals = itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []  # a heap of (due, arrival, turn)

    async def acquire(self, request: GenerationRequest) -> None:
        """Waits for the request's turn. The caller must end it with `release`.

        Raises: EngineStoppedError after `end`, and between `pause` and `go_on`.
        """
        if refusal := self._end or self._pause:
            raise EngineStoppedError(refusal)
        if not self._locked:
            self._locked = True
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._due(request), next(self._arrivals), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:  # its turn came in the same moment
                self.release()
            raise

    def release(self) -> None:
        """Ends the turn and begins the next one."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():  # a cancelled waiter stays in the heap until it is popped
                turn.set_result(None)
                return
        self._locked = False

    def end(self, message: str) -> None:
        """All that wait fail at once, and so does each later one."""
        self._end = message
        self._refuse_waiting(message)

    def pause(self, message: str) -> None:
        """All that wait fail at once, and so does each later one until `go_on`. The running turn stays."""
        self._pause = message
        self._refuse_waiting(message)

    def go_on(self) -> None:
        self._pause = ""

    def _refuse_waiting(self, message: str) -> None:
        for _, _, turn in self._waiting:
            if not turn.done():
                turn.set_exception(EngineStoppedError(message))
        self._waiting.clear()

    def _due(self, request: GenerationRequest) -> float:
        if request.has_listener:
            return self._clock()
        spoken_s = sum(len(segment.text) for segment in request.segments) / _SPOKEN_CHARACTERS_PER_SECOND
        return self._clock() + min(spoken_s, _MAX_OVERTAKEN_S)
