"""Admission of streams to decode slots, with a bounded queue. It knows no codec and no gRPC.

The codec holds a slot until the client has read the audio, longer than the engine, so a new stream may find all slots
taken. Streams then wait in order of arrival, and are refused only when the queue is full. Streams that continue audio
which is being played (`has_listener`) go first, and have places in the queue that others cannot take.
"""

from __future__ import annotations

import asyncio
from collections import deque

from csm_bundle.errors import CodecBusyError


class Admission:
    """Counts the slots of one codec. All methods are called on the event loop."""

    def __init__(self, num_slots: int, max_waiting: int, what: str = "decode slots") -> None:
        """max_waiting: streams that may wait before one without a listener is refused. With a listener, `max_waiting` +
        `num_slots` may wait, so that all streams of a lost replica fit. what: name of the slots in messages.
        """
        self._what = what
        self.num_slots = num_slots
        self._max_waiting = max_waiting
        self._num_taken = 0
        # Waiting calls; each future is done once the call has its slot.
        self._with_listener: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @property
    def num_waiting(self) -> int:
        return len(self._with_listener) + len(self._others)

    @property
    def num_calls(self) -> int:
        """Calls that have a slot or wait for one."""
        return self._num_taken + self.num_waiting

    async def take(self, *, has_listener: bool = False) -> None:
        """Waits for a slot. A cancelled wait leaves the queue.

        Raises: CodecBusyError when all slots are taken and the queue is full.
        """
        if self._num_taken < self.num_slots:
            self._num_taken += 1
            return
        num_ahead, max_waiting = self.num_waiting, self._max_waiting
        if has_listener:
            num_ahead, max_waiting = len(self._with_listener), max_waiting + self.num_slots
        if num_ahead >= max_waiting:
            raise CodecBusyError(
                f"All {self.num_slots} {self._what} are taken and {num_ahead} calls wait;"
                f" at most {max_waiting} may wait."
            )
        queue = self._with_listener if has_listener else self._others
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(admitted)
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted in queue:
                queue.remove(admitted)
            elif not admitted.cancelled():  # it got a slot just before the cancellation
                self.leave()
            raise

    def leave(self) -> None:
        """Gives a slot back, or passes it to the next call in the queue."""
        while queue := self._with_listener or self._others:
            admitted = queue.popleft()
            if not admitted.done():  # cancelled, but not removed from the queue yet
                admitted.set_result(None)
                return
        self._num_taken -= 1
