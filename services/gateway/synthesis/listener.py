"""The queue of decoded samples between the codec and the caller. It knows no codec and no RPC.

The codec is read without waiting for the caller, so a decode call never holds samples back. DecodeWindow limits how
many samples wait here. The caller takes them at its own pace. When it takes none for a while, it is behind.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

Take = Callable[[bytes], Awaitable[None]]  # takes the next 16-bit samples; returns when there is room for more


class Listener:
    """The samples of one utterance that wait for the caller. One task puts them in, `run` passes them on."""

    def __init__(
        self,
        take: Take,
        patience_s: float,
        most_samples: int,
        on_taken: Callable[[], None],
        begin: int = 0,
    ) -> None:
        """patience_s: seconds without progress after which the caller is behind. most_samples: most samples of one
        `take`.
        on_taken: called when `taken_samples` has grown. begin: index of the first sample.
        """
        self.put_samples = self.taken_samples = begin
        self._take, self._patience_s, self._most_samples = take, patience_s, most_samples
        self._on_taken = on_taken
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._taking_since_s: float | None = None  # on the monotonic clock; None while nothing waits for the caller
        self._changed = asyncio.Condition()

    async def put(self, samples: bytes) -> None:
        """Adds samples, possibly none. It does not wait for the caller."""
        step = 2 * self._most_samples
        self._pieces.extend(samples[at : at + step] for at in range(0, len(samples), step))
        self.put_samples += len(samples) // 2
        await self._notify()

    async def end(self) -> None:
        """No more samples will come."""
        self._ended = True
        await self._notify()

    async def run(self) -> None:
        """Passes all samples to the caller. Raises what `take` raises."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._pieces or self._ended)
                if not self._pieces:
                    return
                piece = self._pieces.popleft()
                self._taking_since_s = time.monotonic()
                self._changed.notify_all()
            await self._take(piece)
            self.taken_samples += len(piece) // 2
            self._taking_since_s = None
            self._on_taken()
            await self._notify()

    async def behind(self) -> None:
        """Returns when the caller has taken nothing for `patience_s` while samples waited."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._taking_since_s is not None)
                assert self._taking_since_s is not None
                left_s = self._taking_since_s + self._patience_s - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    async def caught_up(self, least_samples: int) -> None:
        """Returns when the caller has finished the current `take` and fewer than `least_samples` are left.

        It returns at once if the caller finished it before this call and nothing waits.
        """
        taken_before = self.taken_samples
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    (self.taken_samples > taken_before or self._taking_since_s is None)
                    and self.put_samples - self.taken_samples < least_samples
                )
            )

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
