"""Limits the running syntheses, and waits for them in a drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.http.api.errors import ApiError, unavailable


class Streams:
    """Counts running syntheses. Refuses new ones above the limit and during a drain."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._none_left = asyncio.Event()
        self._none_left.set()
        self.draining = asyncio.Event()
        self.are_cut = False  # those that still run after a drain: the server closes their connections

    @property
    def count(self) -> int:
        return self._count

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Raises ApiError 503."""
        if self.draining.is_set():
            raise about_to_stop()
        if self._count >= self._most:
            raise unavailable(f"{self._most} syntheses run at once here, and one more is too many.", "too_many_streams")
        self._count += 1
        self._none_left.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none_left.set()

    async def drain(self, grace_s: float) -> None:
        """Refuses new syntheses. Returns when none runs, or after `grace_s` seconds."""
        self.draining.set()
        try:
            async with asyncio.timeout(grace_s):
                await self._none_left.wait()
        except TimeoutError:
            pass
        self.are_cut = True


def about_to_stop() -> ApiError:
    return unavailable("This server is about to stop.", "draining")
