"""Admission of streams to slots: it decides which streams run and which wait. It knows no codec and no gRPC.

A stream may arrive while all slots are taken: the engine frees its slot at the last frame, but the codec holds its slot
until the client has read the audio. So streams wait in order of arrival, and are refused only when the queue is full.
Those whose listener hears the audio already go before the others, and those others take no place of theirs.
"""

from __future__ import annotations

import asyncio
from collections import deque

from csm_bundle.errors import CodecBusyError


class Admission:
    """Counts the slots of one codec. All methods are called on the event loop."""

    def __init__(self, num_slots: int, max_waiting: int, what: str = "decode slots") -> None:
        """max_waiting: in all, before one without a listener is refused; those with one may be as many as that and the
        slots, so that all streams of a lost codec have room. what: name of the slots in messages
        """
        self._what = what
        self.num_slots = num_slots
        self._max_waiting = max_waiting
        self._num_taken = 0
        self._with_listener: deque[asyncio.Future[None]] = deque()  # each done once it has its slot
        self._others: deque[asyncio.Future[None]] = deque()

    @property
    def num_waiting(self) -> int:
        return len(self._with_listener) + len(self._others)

    @property
    def num_calls(self) -> int:
        """That have a slot or wait for one."""
        return self._num_taken + self.num_waiting

    async def take(self, *, has_listener: bool = False) -> None:
        """Waits for a slot. A cancelled wait leaves the queue.

        Raises: CodecBusyError when all slots are taken and the queue is full.
        """
        if self._num_taken < self.num_slots:
            self._num_taken += 1
            return
        num_ahead, most = self.num_waiting, self._max_waiting
        if has_listener:
            num_ahead, most = len(self._with_listener), most + self.num_slots
        if num_ahead >= most:
            raise CodecBusyError(
                f"All {self.num_slots} {self._what} are taken and {num_ahead} calls wait; at most {most} may wait."
            )
        queue = self._with_listener if has_listener else self._others
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in queue:
                queue.remove(turn)
            elif not turn.cancelled():  # it was its turn in the same moment
                self.leave()
            raise

    def leave(self) -> None:
        """Gives a slot back: to the next in the queue."""
        while queue := self._with_listener or self._others:
            turn = queue.popleft()
            if not turn.done():  # else it was cancelled in the same moment
                turn.set_result(None)
                return
        self._num_taken -= 1
