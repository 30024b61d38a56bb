"""A timeout on the silence of a stream. It knows no stage.

A stage sends progress every second while a call is open. A silent call therefore means that the stage is frozen, or
that its worker thread hangs. Only the time in which the reader waits for a message counts. It is counted in ticks of a
timer, so that a gateway that was frozen itself counts one tick.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Self

import grpc

TICKS = 20  # per allowed silence


class SilenceWatch:
    """Iterates over the messages of a call. Silence cancels the call, and the iteration raises CancelledError."""

    def __init__(self, call: Any, silence_s: float) -> None:
        """silence_s: longest silence in seconds; 0 allows any"""
        self.silent = False  # whether silence has cancelled the call
        self._call = call
        self._tick_s = silence_s / TICKS if silence_s else math.inf
        self._waits = False
        self._ticks = 0  # of the current wait
        self._timer: asyncio.TimerHandle | None = None
        self._start()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        self._waits, self._ticks = True, 0
        # In a task of its own, which ends with the call: if a read is cancelled, grpc.aio never frees its message.
        message = await asyncio.shield(asyncio.ensure_future(self._call.read()))
        self._waits = False
        if message is grpc.aio.EOF:  # type: ignore[attr-defined]
            raise StopAsyncIteration
        return message

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        if math.isfinite(self._tick_s):
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        self._ticks += self._waits
        if self._ticks > TICKS:
            self.silent = True
            self._call.cancel()
        else:
            self._start()
